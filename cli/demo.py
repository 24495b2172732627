"""`estimator-serving demo`: the Titanic example from CSV to served answer, in one go.

Owns the order, the progress bar and what is printed; the model is examples/titanic's own.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import grpc
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from estimator_serving.examples.titanic import client_grpc, client_rest, train
from estimator_serving.training import (
    DNNClassifier,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
    numpy_input_fn,
)

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30
TOLERANCE = 1e-5


def run_demo(directory: str) -> int:
    """Trains, exports, serves and asks; returns 0 when all three answers agree, 1 otherwise."""
    console = Console(highlight=False)
    base = Path(directory).resolve()
    classifier = train.make_classifier(base / "model")
    _train(classifier, console)
    console.print("\n[bold]Evaluation[/bold] on passengers it has not seen")
    for name, value in sorted(classifier.evaluate(train.evaluation_input_fn).items()):
        console.print(f"  {name:22} {value:.4f}")
    exported = train.export(classifier, base / "servable")
    console.print(f"\n[bold]Exported[/bold] to {exported}")
    with _serve(base / "servable") as (rest, grpc_address):
        answers = _ask(classifier, rest, grpc_address, console)
    console.print("\n[bold]Again by yourself[/bold]")
    # The command beside this Python: in a checkout it is not on the path.
    command = Path(sys.executable).with_name("estimator-serving")
    print(f"  {command} serve --model_name=titanic --model_base_path={base / 'servable'}")
    print(f"  {_curl()}")
    return _compare(answers, console)


class _StepBar(SessionRunHook):
    """Moves a progress bar with the global step."""

    def __init__(self, move: Callable[[int], None]) -> None:
        self._move = move

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        self._move(run_context.session.global_step)


def _train(classifier: DNNClassifier, console: Console) -> None:
    columns = (TextColumn("[bold]Training[/bold]"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("steps", total=train.TRAINING_STEPS)
        train.train(classifier, [_StepBar(lambda step: progress.update(task, completed=step))])
        progress.update(task, completed=train.TRAINING_STEPS)


@contextmanager
def _serve(base_path: Path) -> Iterator[tuple[str, str]]:
    """A server in a process of its own; yields its REST URL and its gRPC address."""
    rest_port, grpc_port = _free_ports(2)
    flags = [f"--rest_api_port={rest_port}", f"--port={grpc_port}", "--bind_address=127.0.0.1"]
    model = ["--model_name=titanic", f"--model_base_path={base_path}"]
    command = [sys.executable, "-m", "estimator_serving.cli", "serve", *model, *flags]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_ready(f"http://127.0.0.1:{rest_port}/readyz", process)
            yield f"http://127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}"
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(STOP_TIMEOUT_S)
    if code != 0:
        raise ValueError(f"The server ended with code {code}; run the `serve` command above by hand to see why.")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise ValueError(
        f"The server did not become ready in {START_TIMEOUT_S} s; run `estimator-serving serve` by hand to see why."
    )


def _ask(classifier: DNNClassifier, rest: str, grpc_address: str, console: Console) -> dict[str, np.float32]:
    """The probability of survival of one passenger, by REST, by gRPC and in process."""
    console.print("\n[bold]One passenger[/bold]", client_rest.PASSENGER)
    body = {"signature_name": "predict", "instances": [client_rest.PASSENGER]}
    by_rest = client_rest.ask(rest, "predict", body)["predictions"][0]
    console.print("\n[bold]REST answer[/bold]", by_rest)
    with grpc.insecure_channel(grpc_address) as channel:
        by_grpc = client_grpc.predict(channel, client_grpc.PASSENGER)
    console.print("\n[bold]gRPC answer[/bold]", {alias: value.tolist() for alias, value in by_grpc.items()})
    rows = {name: np.array([value]) for name, value in client_grpc.PASSENGER.items()}
    in_process = next(iter(classifier.predict(numpy_input_fn(rows, shuffle=False))))
    return {
        "REST": np.float32(by_rest["logistic"][0]),
        "gRPC": by_grpc["logistic"][0, 0],
        "estimator.predict": in_process["logistic"][0],
    }


def _compare(answers: Mapping[str, np.float32], console: Console) -> int:
    rest, other, expected = answers["REST"], answers["gRPC"], answers["estimator.predict"]
    same = rest == other and abs(rest - expected) <= TOLERANCE * max(1.0, abs(float(expected)))
    console.print("\n[bold]Probability of survival[/bold]")
    for name, value in answers.items():
        console.print(f"  {name:18} {value!s}")
    console.print("[green]All answers agree.[/green]" if same else "[red]The answers differ.[/red]")
    return 0 if same else 1


def _curl() -> str:
    body = json.dumps({"signature_name": "predict", "instances": [client_rest.PASSENGER]})
    return f"curl -d '{body}' http://localhost:8501/v1/models/titanic:predict"
