"""Twenty-five versions swapped under load, over REST and gRPC, by a server in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "version_swap.py"


def test_nothing_fails_nothing_is_mixed_and_memory_stays():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--swaps", "25"], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert (figures["swaps"], figures["failed"], figures["mixed"]) == (25, 0, 0)
    assert figures["requests"] > 400
