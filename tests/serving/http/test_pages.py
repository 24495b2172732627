"""The pages: what a server loads for them."""

import subprocess
import sys


def test_a_server_starts_without_fastapi():
    code = "import sys, estimator_serving.serving.server as _; print({'fastapi', 'pydantic'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
