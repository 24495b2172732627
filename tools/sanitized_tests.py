"""Runs tests with the compiled parts that were built with sanitizers, instead of those beside the sources.

    LD_PRELOAD=$(g++ -print-file-name=libasan.so) python tools/sanitized_tests.py build/sanitize tests/ops tests/wire

Owns which files Python loads; `make sanitize` builds them and sets the environment. A finding ends the process with a
report and a code other than 0. What tests start as processes of their own loads the usual files.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

NATIVE, OPS = "estimator_serving.wire.native._native", "libestimator_ops.so"


def main(build: Path, arguments: list[str]) -> int:
    (native,) = build.rglob("_native.abi3.so")
    (library,) = build.rglob(OPS)
    spec = importlib.util.spec_from_file_location(NATIVE, native)
    assert spec
    assert spec.loader
    sys.modules[NATIVE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from estimator_serving import ops

    ops._LIBRARY = library
    # A report goes to the descriptor, past what pytest keeps of tests that end.
    return pytest.main([*arguments, "-p", "no:xdist", "-q", "--capture=sys"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
