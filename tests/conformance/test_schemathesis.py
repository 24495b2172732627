"""schemathesis against the server's own OpenAPI document: no 5xx, and no answer that the document does not have.

Run by `make oracle-openapi SCHEMATHESIS=path/to/schemathesis`.
"""

from __future__ import annotations

import os
import subprocess

import pytest

SCHEMATHESIS = os.environ.get("SCHEMATHESIS", "")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method"
)


@pytest.mark.skipif(not SCHEMATHESIS, reason="SCHEMATHESIS names no schemathesis command")
def test_no_undocumented_answer(fronts, tmp_path):
    server = fronts.all_models().server
    command = [SCHEMATHESIS, "run", f"http://127.0.0.1:{server.rest_port}/openapi.json", "--checks", CHECKS]
    ended = subprocess.run(
        [*command, "--max-examples", "15", "--phases", "examples,fuzzing", "--seed", "1"],
        capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr
