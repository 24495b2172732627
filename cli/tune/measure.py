"""Measures one setting: a server process with its flags, and clients that ask it.

Owns the life of that process: it listens on free ports of the loopback address, its output goes to a file, and it is
gone when the measurement ends, however that ends. Does not know which settings are worth measuring.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np

from estimator_serving.cli.tune import clients
from estimator_serving.cli.tune.clients import HOST, LoadError, Sample, Window
from estimator_serving.cli.tune.requests import MODEL_NAME, Requests
from estimator_serving.cli.tune.search import Budget, Load, Objective, Plan, SettingError
from estimator_serving.cli.tune.settings import Setting
from estimator_serving.serving.config import Config

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
# Requests in flight when a measurement ends are of no use.
GRACE_S = 1
_POLL_S = 0.03
_TEXT_MAX = 400
# The command in a process that ends with its parent, which may be killed without a chance to end it. The kernel sends
# the signal when the thread that started the process is gone, which is the main thread.
_SERVE = """
import ctypes, os, signal, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != parent:
    sys.exit("The process that started this server is gone.")
from estimator_serving.cli.main import main
sys.exit(main())
"""
_PORTS = re.compile(r"Serving (REST|gRPC) at \S+:(\d+)\.")


@dataclass
class ServerMeasurer:
    """Measures settings of `estimator-serving serve`; a Measure.

    Attributes:
        directory: the version directory to serve.
        requests: what is sent.
        objective, duration_s: of each load.
        budget: bounds the start of a server, except the first one: without it there is no result at all.
        device: `cpu` or `cuda`.
        scratch: an empty directory for what servers need and write.
        watch: called with each load.
        has_run: whether a server has been started before.
    """

    directory: Path
    requests: Requests
    objective: Objective
    duration_s: float
    budget: Budget
    device: str
    scratch: Path
    watch: Callable[[Setting, Load], None]
    has_run: bool = False

    def __call__(self, setting: Setting, plan: Plan) -> list[Load]:
        """Raises SettingError if the server does not start, ends, or does not answer the requests."""
        batching_file = self.scratch / "batching_parameters.txt"
        if setting.batching is not None:
            batching_file.write_text(setting.batching.as_text())
        base_path = self.scratch / "model"
        base_path.mkdir(exist_ok=True)
        if not (base_path / "1").exists():
            # A base path of one version, whatever else lies beside it and whatever its directory is called.
            (base_path / "1").symlink_to(self.directory.absolute(), target_is_directory=True)
        is_grpc = bool(self.requests.grpc_method)
        flags = {
            "model_name": MODEL_NAME,
            "model_base_path": str(base_path),
            "bind_address": HOST,
            "rest_api_port": "-1",
            "port": "-1" if is_grpc else "0",
            "device": self.device,
            "shutdown_grace_seconds": str(GRACE_S),
            "file_system_poll_wait_seconds": "0",
        }
        log = self.scratch / "server.log"
        timeout_s = max(1.0, min(START_TIMEOUT_S, self.budget.left_s())) if self.has_run else START_TIMEOUT_S
        self.has_run = True
        with run_server(flags | setting.flags(batching_file), log, timeout_s) as ports:

            def put_load(count: int) -> Load:
                window = Window(self.duration_s, self.objective.latency_s)
                try:
                    if is_grpc:
                        method, payloads = self.requests.grpc_method, self.requests.payloads
                        sample = clients.load_grpc(ports["gRPC"], method, payloads, count, window)
                    else:
                        sample = clients.load_rest(ports["REST"], self.requests.payloads, count, window)
                except LoadError as error:
                    if error.is_answer:
                        sentence = (
                            f"The server refuses the request: {error}. Give another one with --request FILE, or "
                            "another --signature."
                        )
                    else:
                        sentence = (
                            f"The server stopped answering ({error}). Send the request to `estimator-serving serve` "
                            f"with these flags to see why. The last line of its log{_last_line(log)}"
                        )
                    raise SettingError(sentence) from None
                load = load_of(sample, count, self.objective)
                self.watch(setting, load)
                return load

            return plan(put_load)


def load_of(sample: Sample, count: int, objective: Objective) -> Load:
    """What a sample says about an objective. count: clients."""
    latencies_s = sample.latencies_s
    median_s, quantile_s = (
        np.quantile(latencies_s, [0.5, objective.quantile], method="higher").tolist()
        if latencies_s.size
        else (float("inf"), float("inf"))
    )
    within = int(np.count_nonzero(latencies_s <= objective.latency_s))
    return Load(
        count,
        sample.answers / sample.elapsed_s,
        within / sample.elapsed_s,
        median_s,
        quantile_s,
        sample.refused / sample.elapsed_s,
        sample.busy,
    )


@contextmanager
def run_server(flags: Mapping[str, str], log: Path, timeout_s: float) -> Iterator[dict[str, int]]:
    """Runs a server that answers; yields its ports by front, `REST` and `gRPC`.

    The process and all that it started are gone when the block ends. log: gets its output. Raises SettingError, with
    the server's own reason, if it is not ready in time.
    """
    command = [sys.executable, "-c", _SERVE, str(os.getpid()), "serve"]
    words = [f"--{name}={value}" for name, value in flags.items()]
    # The environment can set flags, too; what is measured are the flags of the setting.
    known = {setting.name.upper() for setting in fields(Config)}
    environment = {name: value for name, value in os.environ.items() if name not in known}
    # Where workers find their copy of the weights: beside the log, so that it goes with it.
    environment["TMPDIR"] = str(log.parent)
    with open(log, "wb") as output:
        # In a session of its own, so that Ctrl-C reaches it through this process only, and its workers end with it.
        process = subprocess.Popen(
            [*command, *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield until_ready(process, log, timeout_s)
    finally:
        end(process)


def until_ready(process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> dict[str, int]:
    """Waits until a server is ready; returns its ports by front. Raises SettingError as `run_server`."""
    until_s = time.monotonic() + timeout_s
    reason = ""
    while True:
        ports = {front: int(port) for front, port in _PORTS.findall(log.read_text(errors="replace"))}
        if "REST" in ports:
            try:
                with urlopen(f"http://{HOST}:{ports['REST']}/readyz", timeout=2):
                    return ports
            except HTTPError as error:
                with error:
                    reason = f" It says: {error.read().decode(errors='replace').strip()[:_TEXT_MAX]}"
                # The model has failed, and waiting does not help.
                if "state END" in reason:
                    raise SettingError(f"The server cannot serve the model.{reason}") from None
            except OSError:
                pass
        if process.poll() is not None:
            raise SettingError(f"The server ended with code {process.returncode} when it started{_last_line(log)}")
        if time.monotonic() > until_s:
            raise SettingError(f"The server was not ready within {timeout_s:.0f} s.{reason or _last_line(log)}")
        time.sleep(_POLL_S)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for what is left then, workers included."""
    try:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    finally:
        # Also if a second Ctrl-C ends the wait.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(log: Path) -> str:
    """The last thing that a server said, for the end of a sentence."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:_TEXT_MAX]}" if lines else "."
