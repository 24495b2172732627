"""The guard of the speed of codecs: it passes, and it notices when a short way is not taken."""

import subprocess
import sys
from pathlib import Path

from estimator_serving.wire import native

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_no_codec_is_slower_than_committed():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "guard.py"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_guard_notices_that_messages_take_the_long_way(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import guard

    monkeypatch.setattr(native, "read_predict_request", lambda _message: None)
    (case,) = (case for case in guard.make_cases(tmp_path) if case.name.startswith("gRPC Predict"))
    monkeypatch.setattr(guard, "TURNS_MAX", guard.TURNS)
    assert guard.measure(case) > guard.WORSE * case.committed
