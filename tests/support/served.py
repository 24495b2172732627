"""The real server in a process of its own, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

START_TIMEOUT_S = 60


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def children(pid):
    """The ids of the processes that a process's threads started."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found += map(int, file.read_text().split())
    return found


def tree(pid):
    """A process's id and those of all below it; nothing if it is gone."""
    if not Path(f"/proc/{pid}").exists():
        return []
    return [pid, *(one for child in children(pid) for one in tree(child))]


def has_threads(pid):
    return len(list(Path(f"/proc/{pid}").glob("task/*"))) > 1


def ask(url, data=None):
    """(status, JSON) of a GET, or of a POST with data."""
    try:
        with urlopen(Request(url, data), timeout=20) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


class Served:
    """A running server: its addresses, and what it answers over REST."""

    def __init__(self, process, rest_port, grpc_port):
        self.process = process
        self.rest = f"http://127.0.0.1:{rest_port}"
        self.grpc = f"127.0.0.1:{grpc_port}"

    def ask(self, path, body=None):
        """(status, JSON) of a GET, or of a POST with a body."""
        return ask(f"{self.rest}{path}", None if body is None else json.dumps(body).encode())

    def workers(self):
        """The process ids of the workers, and of what opens a version."""
        return [pid for pid in tree(self.process.pid)[1:] if has_threads(pid)]

    def forkers(self):
        """The process ids of what workers are forked from: unlike workers, these have no threads."""
        return [pid for pid in tree(self.process.pid)[1:] if not has_threads(pid)]

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serve(base_path, name="m", *, ready=True, **flags):
    """`estimator-serving serve`, ready to answer; without `ready`, as soon as its port is open."""
    rest_port, grpc_port = free_ports(2)
    words = {"model_name": name, "model_base_path": base_path, "rest_api_port": rest_port, "port": grpc_port}
    words |= {"bind_address": "127.0.0.1"} | flags
    command = [sys.executable, "-m", "estimator_serving.cli", "serve", *(f"--{k}={v}" for k, v in words.items())]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"PYTHONWARNINGS": "error"}) as process:
        served = Served(process, rest_port, grpc_port)
        try:
            until_answered(f"{served.rest}/readyz", process, {200} if ready else {200, 503})
            yield served
        finally:
            if process.poll() is None:
                process.kill()


def until_answered(url, process, statuses=frozenset({200})):
    """Wait until a server's process answers a GET with one of these statuses."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read().decode()
        try:
            if ask(url)[0] in statuses:
                return
        except (URLError, OSError, ValueError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"{url} was not ready after {START_TIMEOUT_S} s")
