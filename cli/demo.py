"""`estimator-serving demo`: the Titanic example from CSV to served answer, in one go.

Owns the order of the steps, the progress bar and what is printed. The model and its clients are those of
examples/titanic.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import grpc
import numpy as np
from rich.console import Console

from estimator_serving.examples.titanic import client_grpc, client_rest, train
from estimator_serving.training import (
    ProgressBarHook,
    numpy_input_fn,
)

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30
TOLERANCE = 1e-5


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `demo`."""
    parser.add_argument(
        "--directory",
        default="estimator-serving-demo",
        help="where the model and the servable are written (default: %(default)s)",
    )


def main(chosen: argparse.Namespace) -> int:
    """Trains, exports, serves and asks. Returns 0 if the three answers agree, otherwise 1."""
    console = Console(highlight=False)
    logging.getLogger("estimator_serving").setLevel(logging.WARNING)  # the demo tells its own story
    base = Path(chosen.directory).resolve()
    classifier = train.make_classifier(base / "model")
    console.print("[bold]Training[/bold]")
    train.train(classifier, [ProgressBarHook(console=console)])
    console.print("\n[bold]Evaluation[/bold] on passengers that were not in the training data")
    for name, value in sorted(classifier.evaluate(train.evaluation_input_fn).items()):
        console.print(f"  {name:22} {value:.4f}")
    exported = train.export(classifier, base / "servable")
    console.print(f"\n[bold]Exported[/bold] to {exported}")
    with _serve(base / "servable") as (rest, grpc_address):
        console.print("\n[bold]One passenger[/bold]", client_rest.PASSENGER)
        body = {"signature_name": "predict", "instances": [client_rest.PASSENGER]}
        by_rest = client_rest.ask(rest, "predict", body)["predictions"][0]
        console.print("\n[bold]REST answer[/bold]", by_rest)
        with grpc.insecure_channel(grpc_address) as channel:
            by_grpc = client_grpc.predict(channel, client_grpc.PASSENGER)
        console.print("\n[bold]gRPC answer[/bold]", {alias: value.tolist() for alias, value in by_grpc.items()})
        rows = {name: np.array([value]) for name, value in client_grpc.PASSENGER.items()}
        in_process = next(iter(classifier.predict(numpy_input_fn(rows, shuffle=False))))
        answers = {
            "REST": np.float32(by_rest["logistic"][0]),
            "gRPC": by_grpc["logistic"][0, 0],
            "estimator.predict": in_process["logistic"][0],
        }
    console.print("\n[bold]Ask again yourself[/bold]")
    # The command beside this Python, because a checkout's .venv is not on the PATH.
    command = Path(sys.executable).with_name("estimator-serving")
    print(f"  {command} serve --model_name=titanic --model_base_path={base / 'servable'}")
    print(f"  curl -d '{json.dumps(body)}' http://localhost:8501/v1/models/titanic:predict")
    rest_answer, grpc_answer, expected = answers["REST"], answers["gRPC"], answers["estimator.predict"]
    agree = rest_answer == grpc_answer and abs(rest_answer - expected) <= TOLERANCE * max(1.0, abs(float(expected)))
    console.print("\n[bold]Probability of survival[/bold]")
    for name, value in answers.items():
        console.print(f"  {name:18} {value!s}")
    console.print("[green]All answers agree.[/green]" if agree else "[red]The answers differ.[/red]")
    return 0 if agree else 1


@contextmanager
def _serve(base_path: Path) -> Iterator[tuple[str, str]]:
    """Starts a server process; yields its REST URL and its gRPC address."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    rest_port, grpc_port = (one.getsockname()[1] for one in sockets)
    for one in sockets:
        one.close()
    flags = [f"--rest_api_port={rest_port}", f"--port={grpc_port}", "--bind_address=127.0.0.1"]
    model = ["--model_name=titanic", f"--model_base_path={base_path}"]
    command = [sys.executable, "-m", "estimator_serving.cli", "serve", *model, *flags]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            deadline_s = time.monotonic() + START_TIMEOUT_S
            while True:
                with suppress(OSError), urlopen(f"http://127.0.0.1:{rest_port}/readyz", timeout=1):
                    break
                if time.monotonic() > deadline_s or process.poll() is not None:
                    raise ValueError(
                        f"The server did not become ready within {START_TIMEOUT_S} s. "
                        "Run `estimator-serving serve` by hand to see why."
                    )
                time.sleep(0.05)
            yield f"http://127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}"
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(STOP_TIMEOUT_S)
    if code != 0:
        raise ValueError(f"The server exited with code {code}. Run `estimator-serving serve` by hand to see why.")
