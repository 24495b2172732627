"""Serves several models and asks them over REST."""

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import Request, urlopen

READY_TIMEOUT_S = 60


@contextmanager
def served(base, names):
    """The REST URL of a server that serves `base/<name>` for each name, until the block ends."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    models = "".join(f'config {{ name: "{name}" base_path: "{base / name}" }}\n' for name in names)
    (base / "models.config").write_text(f"model_config_list {{\n{models}}}\n")
    flags = [f"--model_config_file={base / 'models.config'}", f"--rest_api_port={ports[0]}", f"--port={ports[1]}"]
    command = [sys.executable, "-m", "estimator_serving.cli", "serve", *flags]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{ports[0]}"
            for name in names:
                _wait(f"{url}/v1/models/{name}", process)
            yield url
        finally:
            process.terminate()


def asked(url, name, instances):
    """The predictions of a model for JSON rows."""
    body = json.dumps({"instances": instances}).encode()
    with urlopen(Request(f"{url}/v1/models/{name}:predict", body), timeout=30) as response:
        return json.load(response)["predictions"]


def _wait(url, process):
    end = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(url, timeout=5) as response:
                if "AVAILABLE" in {one["state"] for one in json.load(response)["model_version_status"]}:
                    return
        except URLError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"The server does not answer at {url}; run `estimator-serving serve` by hand to see why.")
