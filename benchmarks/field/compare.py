"""This server and others that serve a model to HTTP or gRPC clients: the same model, the same machine, one run.

    python benchmarks/field/compare.py [mlserver] [triton] ... [--environments DIR] [--results FILE] [--page FILE]

Each server of `servers/` gets a virtual environment with the versions that its file pins, made on demand under
`--environments` and kept there. Then each server runs by itself on one core, with all processes that it starts, and the
load runs on another core: several rounds, of which the best one counts. A server that cannot be installed or started is
left out, and the results say why. Figures are answers a second, p50 and p99 of their times, and answers a second of
the server's processor time, which neighbours on a shared machine disturb less.

Needs Linux, two cores, access to PyPI the first time, and the training extra for the models.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import hashlib
import http.client
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import page
from closed_loop import HOST, GrpcCallers, HttpCaller, Load

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tests" / "support")]
import grpc_predict
import open_inference
import titanic_server
from loads import MATRIX, ROW, cpu_s, post, write_model
from served import tree

HERE = Path(__file__).parent
SERVER_CORE, LOAD_CORE = 0, 1
CONCURRENCIES = (1, 8, 32)
SETTLE_S, START_TIMEOUT_S, INSTALL_TIMEOUT_S = 0.4, 90, 900
# A load lasts up to three times as long while there are fewer answers than this, and up to so long if there is none.
ANSWERS_MIN, LONGER, FIRST_ANSWER_S = 50, 3, 10
EXPECTED = float(np.dot(np.array(ROW, np.float32), np.arange(1, 14, dtype=np.float32)) + 0.5)
PREDICT, INFER, CLASSIFY = grpc_predict.METHOD, open_inference.METHOD, titanic_server.METHOD
_SCRIPT = re.compile(r"^# /// script\n(.*?)^# ///$", re.MULTILINE | re.DOTALL)


class UnavailableError(Exception):
    """A server cannot be measured, and why."""


class Case(NamedTuple):
    """A request that a server is sent again and again: over REST, or the message of a gRPC method."""

    name: str
    rows: int
    request: bytes
    method: str | None = None


class Ports(NamedTuple):
    rest: int
    grpc: int
    other: int


class Target(NamedTuple):
    """A server. command: how it is started with these ports."""

    name: str
    title: str
    command: Callable[[Ports], list[str | Path]]
    cases: list[Case]


# --- requests ---


def json_body(form: str, rows: int) -> bytes:
    """So many rows in the body that a server takes: `instances`, `inputs`, `x` or the Open Inference Protocol's."""
    if form == "infer":
        tensor = {"name": "x", "shape": [rows, 13], "datatype": "FP32", "data": ROW * rows}
        return json.dumps({"inputs": [tensor]}).encode()
    return json.dumps({form: [ROW] * rows}).encode()


def infer_case(rows: int) -> Case:
    return Case(page.INFER, rows, open_inference.message(rows), INFER)


def predict_case(rows: int) -> Case:
    return Case(page.PREDICT, rows, grpc_predict.make_request(rows), PREDICT)


def binary_case(rows: int) -> Case:
    return Case("REST binary", rows, open_inference.binary_request(rows))


# --- servers ---


def our_targets(directory: Path) -> list[Target]:
    """This server, as its command starts it, and the floors."""
    write_model(directory / "m", MATRIX)
    bases = {"m": directory / "m", "titanic": titanic_server.export(directory)}
    entries = [f'config {{ name: "{name}" base_path: "{path}" }}' for name, path in bases.items()]
    (directory / "models").write_text(f"model_config_list {{ {' '.join(entries)} }}")

    def serve(ports: Ports) -> list[str | Path]:
        flags = {"model_config_file": directory / "models", "bind_address": HOST, "rest_api_port": ports.rest,
                 "port": ports.grpc, "tensorflow_intra_op_parallelism": 1}  # fmt: skip
        words = [f"--{name}={value}" for name, value in flags.items()]
        return [sys.executable, "-m", "estimator_serving.cli", "serve", *words]

    def floor(script: str, name: str, _ports: Ports) -> list[str | Path]:
        return [sys.executable, HERE.parent / script, "--serve", name, "--directory", directory / "m"]

    predict = "/v1/models/m:predict"
    json_cases = [
        Case(name, rows, post(path, json_body(form, rows)))
        for name, path, form in (
            (page.ROWS, predict, "instances"),
            ("REST JSON, columns", predict, "inputs"),
            (page.OPEN_INFERENCE, "/v2/models/m/infer", "infer"),
        )
        for rows in (1, 64, 1024)
    ]
    classify = [Case("gRPC Classify", n, titanic_server.make_request(n), CLASSIFY) for n in (1, 32, 1000)]
    ours = [*json_cases, *map(binary_case, (1, 64, 1024)), *map(predict_case, (1, 64)), *map(infer_case, (1, 64))]
    return [
        Target("ours", "estimator-serving", serve, [*ours, *classify]),
        Target("stub", "bare ASGI + orjson + session.run", partial(floor, "rest_predict.py", "stub"), json_cases[:3]),
        Target("echo-predict", "empty grpcio echo", partial(floor, "grpc_predict.py", "echo"), [predict_case(1)]),
        Target("echo-infer", "empty grpcio echo", partial(floor, "open_inference.py", "echo"), [infer_case(1)]),
    ]


def read_script(file: Path) -> dict[str, Any]:
    """What a server's file says in its script block: the packages that it needs, and how it is asked."""
    lines = _SCRIPT.search(file.read_text())[1].splitlines()
    return tomllib.loads("\n".join(line.removeprefix("#") for line in lines))


def other_target(file: Path, environments: Path, model: Path) -> Target:
    """A server of `servers/`, with its environment made. Raises UnavailableError."""
    script = read_script(file)
    field = script["tool"]["field"]
    name = file.stem.partition("_")[0]
    python = make_environment(name, script["dependencies"], environments)
    path, form = field["path"], field["body"]
    json_name = page.OPEN_INFERENCE if form == "infer" else page.ROWS
    cases = [Case(json_name, rows, post(path, json_body(form, rows))) for rows in (1, 64, 1024)]
    cases += [binary_case(rows) for rows in (1, 64, 1024) if field.get("binary")]
    cases += [infer_case(rows) for rows in (1, 64) if field.get("grpc")]
    title = field["title"].format(version=script["dependencies"][0].partition("==")[2])
    return Target(name, title, lambda ports: [python, file, model, *map(str, ports)], cases)


def make_environment(name: str, requirements: list[str], environments: Path) -> Path:
    """The Python of a virtual environment that has these packages, made unless it is there. Raises UnavailableError."""
    digest = hashlib.sha256("\n".join([*requirements, sys.version]).encode()).hexdigest()[:8]
    directory = environments / f"{name}-{digest}"
    python = directory / "bin" / "python"
    if (directory / "complete").exists():
        return python
    print(f"Installing {requirements[0]} into {directory} ...", flush=True)
    venv.create(directory, clear=True, with_pip=True)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    try:
        installed = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"pip install took more than {INSTALL_TIMEOUT_S} s") from None
    if installed.returncode:
        raise UnavailableError(
            f"pip install failed: {(installed.stderr.strip() or 'no reason given').splitlines()[-1]}"
        )
    frozen = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    (directory / "complete").write_text(frozen)
    return python


# --- processes ---


def used_s() -> float:
    """Processor time of the running server, with all its processes."""
    total = 0.0
    for pid in tree(os.getpid())[1:]:
        with suppress(OSError):
            total += cpu_s(pid)
    return total


def end_all() -> None:
    """Kill everything below this process, which `adopt_orphans` made the parent of what its children leave behind."""
    deadline_s = time.monotonic() + 10
    while (left := tree(os.getpid())[1:]) and time.monotonic() < deadline_s:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)


def adopt_orphans() -> None:
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def free_ports() -> Ports:
    sockets = [socket.create_server((HOST, 0)) for _ in Ports._fields]
    ports = Ports(*(one.getsockname()[1] for one in sockets))
    for one in sockets:
        one.close()
    return ports


@contextmanager
def running(target: Target, directory: Path) -> Iterator[Ports]:
    """A server that answers all its cases rightly. Raises UnavailableError."""
    ports, log = free_ports(), directory / f"{target.name}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = ["taskset", "-c", str(SERVER_CORE), *target.command(ports)]
    is_floor = "--serve" in command
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if is_floor else sink, stderr=sink,
            env=environment, cwd=directory, start_new_session=True,
        )  # fmt: skip
    try:
        if is_floor:  # it says where it listens
            said = [int(word) for word in process.stdout.readline().split()]
            ports = Ports(said[0], said[-1], 0)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        waiting = list(target.cases)
        while waiting:
            try:
                check(target, waiting[0], ports)
                waiting.pop(0)
            except Exception as error:
                if process.poll() is not None or time.monotonic() > deadline_s:
                    state = "ended" if process.poll() is not None else f"did not answer within {START_TIMEOUT_S} s"
                    end = " ".join(log.read_text(errors="replace").split())[-300:]
                    raise UnavailableError(
                        f"{state}, asked for {waiting[0].name}: {error!r}; its log ends: {end}"
                    ) from error
                time.sleep(0.1)
        yield ports
    finally:
        end_all()
        process.returncode = process.returncode if process.returncode is not None else -signal.SIGKILL


def check(target: Target, case: Case, ports: Ports) -> None:
    """One request, whose answer must hold what the model gives. Raises whatever is wrong."""
    if case.method:
        import grpc

        with grpc.insecure_channel(f"{HOST}:{ports.grpc}") as channel:
            answer = channel.unary_unary(case.method)(case.request, timeout=20)
        is_right = case.method == CLASSIFY or target.name.startswith("echo") or np.float32(EXPECTED).tobytes() in answer
    else:
        with socket.create_connection((HOST, ports.rest), timeout=20) as connection:
            connection.sendall(case.request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            answer = response.read()
        if response.status != 200:
            raise ConnectionError(f"{response.status} {answer[:300]!r}")
        is_right = (
            np.float32(EXPECTED).tobytes() in answer if case.name == "REST binary" else b"%.2f" % EXPECTED in answer
            or any(abs(float(number) - EXPECTED) < 1e-3 for number in re.findall(rb"\d+\.\d+", answer))
        )  # fmt: skip
    if not is_right:
        raise ValueError(f"the answer is not the model's: {answer[:200]!r}")


# --- the load ---


async def load(case: Case, ports: Ports, callers: int, seconds: float) -> dict[str, float] | None:
    """Figures of a closed loop of so many callers; None where none was answered."""
    loop, shared = asyncio.get_running_loop(), Load()
    if case.method:
        make: Callable[[], asyncio.Protocol] = partial(GrpcCallers, shared, case.method, case.request, callers)
    else:
        make = partial(HttpCaller, shared, case.request)
    port, connections = (ports.grpc, 1) if case.method else (ports.rest, callers)
    transports = [(await loop.create_connection(make, HOST, port))[0] for _ in range(connections)]
    try:
        await pause(shared, SETTLE_S)
        shared.took_s.clear()
        began_s, used, own_s = time.perf_counter(), used_s(), time.process_time()
        while len(shared.took_s) < ANSWERS_MIN:
            await pause(shared, seconds)
            if time.perf_counter() - began_s > (LONGER * seconds if shared.took_s else FIRST_ANSWER_S):
                break
        took_ms = 1e3 * np.array(shared.took_s)
        elapsed_s, used, own_s = time.perf_counter() - began_s, used_s() - used, time.process_time() - own_s
    finally:
        shared.failed.cancel()
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0)
    if not len(took_ms):
        return None
    p50, p99 = np.percentile(took_ms, (50, 99))
    return {
        "rate": len(took_ms) / elapsed_s, "p50_ms": p50, "p99_ms": p99, "answers": len(took_ms),
        "processor_rate": len(took_ms) / max(used, 0.01), "load_share": own_s / elapsed_s,
    }  # fmt: skip


async def pause(shared: Load, seconds: float) -> None:
    done, _ = await asyncio.wait([shared.failed], timeout=seconds)
    for one in done:
        one.result()


def measure(target: Target, directory: Path, seconds: float) -> Iterator[dict[str, Any]]:
    import uvloop

    with running(target, directory) as ports:
        for case in target.cases:
            for callers in CONCURRENCIES:
                figures = uvloop.run(load(case, ports, callers, seconds))
                if figures is not None:
                    yield {"server": target.name, "case": case.name, "rows": case.rows, "callers": callers, **figures}


def measure_rounds(
    targets: list[Target], directory: Path, rounds: int, seconds: float, left_out: dict[str, str]
) -> list[list[dict[str, Any]]]:
    """All servers in turn, so many times. One that fails is left out from then on, and noted with the reason."""
    measured: list[list[dict[str, Any]]] = [[] for _ in range(rounds)]
    for figures_of_round in measured:
        for target in targets:
            if target.name in left_out:
                continue
            try:
                for figures in measure(target, directory, seconds):
                    figures_of_round.append(figures)
                    print("{server:12} {case:26} {rows:5} rows {callers:3} callers {rate:9.0f}/s "
                          "p50 {p50_ms:8.2f} ms p99 {p99_ms:8.2f} ms".format(**figures), flush=True)  # fmt: skip
            except (UnavailableError, OSError) as error:
                left_out[target.name] = str(error)
                print(f"{target.name} is left out: {error}", flush=True)
    return measured


def best_of(rounds: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """For each measurement, the round with most answers a second; of the processor's time, the most of any."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for figures in (one for measured in rounds for one in measured):
        key = tuple(figures[name] for name in ("server", "case", "rows", "callers"))
        other = found.get(key, figures)
        better = max(figures, other, key=lambda one: one["rate"])
        found[key] = better | {"processor_rate": max(figures["processor_rate"], other["processor_rate"])}
    return list(found.values())


def machine() -> dict[str, Any]:
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": models[0] if models else platform.processor(), "cores": os.cpu_count(),
        "system": platform.system(), "python": platform.python_version(),
    }  # fmt: skip


def main() -> int:
    files = {file.stem.partition("_")[0]: file for file in sorted((HERE / "servers").glob("*.py"))}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=f"of {', '.join(files)}; all by default")
    parser.add_argument("--environments", type=Path, default=Path(tempfile.gettempdir()) / "estimator-serving-field")
    parser.add_argument("--results", type=Path, default=Path("build/field/results.json"))
    parser.add_argument("--page", type=Path, help="where the page is written; nowhere by default")
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    if unknown := set(given.servers) - files.keys():
        parser.error(f"no servers called {', '.join(sorted(unknown))}; there are {', '.join(files)}")
    adopt_orphans()
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        targets = our_targets(directory)
        for name in given.servers or files:
            try:
                targets.append(other_target(files[name], given.environments, directory / "m" / "1" / "model.onnx"))
            except UnavailableError as error:
                left_out[name] = str(error)
                print(f"{name} is left out: {error}", flush=True)
        began, load_average = datetime.now(UTC), os.getloadavg()[0]
        os.sched_setaffinity(0, {LOAD_CORE})
        measured = measure_rounds(targets, directory, given.rounds, given.seconds, left_out)
    results = {
        "began": began.isoformat(timespec="minutes"), "minutes": (datetime.now(UTC) - began).total_seconds() / 60,
        "machine": machine(), "load_average": load_average, "seconds": given.seconds, "rounds": given.rounds,
        "titles": {target.name: target.title for target in targets}, "left_out": left_out,
        "measured": best_of(measured),
    }  # fmt: skip
    texts = {given.results: json.dumps(results, indent=1) + "\n"}
    if given.page:
        texts[given.page] = page.write(results)
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    print(page.bounds_table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
