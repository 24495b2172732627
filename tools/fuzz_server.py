"""Fuzzes a server process over the network: damaged bodies, heads and messages, many on a connection.

    python tools/fuzz_server.py --requests 1000000 [--seed 1] [--keep DIRECTORY]

Starts `estimator-serving serve` with small models and sends it requests of both dialects: JSON bodies, binary tensors,
HTTP heads, and messages of Predict, Classify, Regress and ModelInfer. Request number N is made of seed + N alone. A
finding is: a 5xx other than 501, 503 and 504 (gRPC: INTERNAL, UNKNOWN, DATA_LOSS, ABORTED); an error that is no JSON or
that shows a traceback; no answer within 5 seconds; a process that ended; another answer than before to a fixed request,
which is asked every 1000 requests; at the end, memory, threads or files that grew. Findings are printed with the seed
that makes the request again (`--requests 1 --seed …`), the request is kept, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from attacked import PREDICT, usage
from conformance_models import MODELS, write_model
from oip_requests import binary_request, json_request, message
from served import Served, serve
from tfs_requests import TYPES, X2, X3, classify, example_list, predict, regress

HOST = "127.0.0.1"
SERVED = ("matrix", "types", "text", "examples")
TOOK_TOO_LONG_S = 5.0
BATCH = 128
FINDINGS_MAX = 20
PROGRESS_EVERY = 100_000
HEALTHY_EVERY = 1000
REQUEST_BYTES_MAX = 64 * 1024
MEMORY_GROWTH_MAX, MEMORY_NOISE_KIB = 0.05, 8192
# What the pools may grow to.
THREADS_MAX = 400
STATUSES_ALLOWED = {501, 503, 504}
CODES_REFUSED = {
    grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip
# What parsers of JSON, numbers, shapes, heads and protobuf stumble over.
WORDS = [
    b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"null", b"true", b"NaN", b"-Infinity", b"1e400", b"-1", b"1.5",
    b"0", b"9223372036854775808", b"18446744073709551616", b"4294967296", b"300", b'"\\ud800"', b'{"b64":"AA=="}',
    b'"b64"', b'"instances"', b'"inputs"', b'"signature_name"', b'"shape"', b'"data"', b'"parameters"',
    b'"binary_data_size"', b'"datatype"', b'"outputs"', b'"classification"', b'"content_type"', b"\xff", b"\x00",
    b"\xed\xa0\x80", b"\x80" * 9 + b"\x01", b"\xff\xff\xff\xff\x0f", b"\x0b", b"\x0c", b"\x0a\x00",
    b"\x12\x02\x08\x01", b"\r\n", b"\r\n\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n", b"Content-Encoding: gzip\r\n", b"Connection: close\r\n", b"HTTP/1.0", b"%00", b"/../",
]  # fmt: skip
NUMBERS = b"0123456789"


class Request(NamedTuple):
    """content: a message for the rpc `method`; or, without one, bytes for a connection, of which it is the only request
    unless `is_framed`."""

    content: bytes
    method: str = ""
    is_framed: bool = False


class Finding(Exception):  # noqa: N818 - reported, not handled
    """Something that must not be. index: which request of a batch, if it is known."""

    def __init__(self, text: str, index: int | None = None) -> None:
        super().__init__(text)
        self.index = index


def damage(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, left out, repeated or put in, or a part of another request."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at, length = rng.randrange(len(made) + 1), rng.choice((1, 1, 2, 4, 16, 64))
        match rng.randrange(8):
            case 0:
                made[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del made[at : at + length]
            case 2:
                made[at:at] = made[at : at + length] * rng.choice((1, 1, 2, 50))
            case 3:
                made[at : at + rng.choice((0, 1, length))] = rng.choice(WORDS)
            case 4 if made:
                made[min(at, len(made) - 1)] ^= 1 << rng.randrange(8)
            case 5 if other:
                start = rng.randrange(len(other))
                made[at : at + length] = other[start : start + 4 * length]
            case 6:
                change_number(made, rng)
            case 7:
                del made[at:]
    return bytes(made[:REQUEST_BYTES_MAX])


def change_number(made: bytearray, rng: random.Random) -> None:
    """One digit becomes another number, if there is one."""
    digits = [index for index, byte in enumerate(made) if byte in NUMBERS]
    if digits:
        index = rng.choice(digits)
        made[index : index + 1] = rng.choice((b"-1", b"0", b"99", b"1e400", b"2147483648", b"1.0", b"", b'"1"'))


def framed(path: str, body: bytes, headers: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (path.encode(), headers, len(body), body)


HEALTHY = framed("/v1/models/matrix:predict", b'{"instances": [[1, 2, 3]]}')
HEALTHY_MESSAGE = predict("matrix", x=np.ones((1, 3), np.float32)).SerializeToString()


class Corpus:
    """Good requests, and damaged ones made of them."""

    def __init__(self) -> None:
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        words = np.array([b"a", "größe".encode()], object)
        inputs: dict[str, dict[str, np.ndarray]] = {"matrix": {"x": x}, "types": TYPES, "text": {"s": words}}
        columns = {a: v.tolist() for a, v in TYPES.items() if a != "s"} | {"s": ["a", "b"]}
        example = {"x": 2.0, "y": 0.5, "tags": ["a"]}
        predicts = [
            ("matrix", {"instances": x.tolist()}), ("matrix", {"inputs": {"x": x.tolist()}}),
            ("matrix", {"signature_name": "serving_default", "instances": [{"x": row} for row in x.tolist()]}),
            ("types", {"inputs": columns}), ("text", {"inputs": {"s": ["a", {"b64": "AP8="}]}}),
            ("examples", {"signature_name": "predict", "instances": [{"examples": {"b64": "AA=="}}]}),
        ]  # fmt: skip
        self.json: list[tuple[str, bytes]] = [
            *((f"/v1/models/{name}:predict", json.dumps(body).encode()) for name, body in predicts),
            ("/v1/models/examples:classify", json.dumps({"context": {"y": 1.0}, "examples": [example]}).encode()),
            ("/v1/models/examples:regress",
             json.dumps({"signature_name": "regression", "examples": [example]}).encode()),
            *((f"/v2/models/{name}/infer", json_request(given)) for name, given in inputs.items() if name != "types"),
            ("/v2/models/matrix/infer", json_request({"x": x}, nested=True)),
        ]  # fmt: skip
        self.binary = [(f"/v2/models/{name}/infer", *binary_request(given)) for name, given in inputs.items()]
        messages = [
            *(("Predict", predict(name, **given)) for name, given in inputs.items()),
            ("Predict", predict("examples", None, "predict", examples=np.array([X2, X3], object))),
            ("Classify", classify(example_list(X2, X3))), ("Regress", regress(example_list(X2, X3))),
            *(("ModelInfer", message(name, given)) for name, given in inputs.items()),
            *(("ModelInfer", message(name, inputs[name], typed=True)) for name in ("matrix", "text")),
        ]  # fmt: skip
        services = {"ModelInfer": "inference.GRPCInferenceService"}
        self.rpcs = [
            (f"/{services.get(name, 'tensorflow.serving.PredictionService')}/{name}", request.SerializeToString())
            for name, request in messages
        ]

    def make(self, seed: int) -> Request:
        """One damaged request, of its seed alone."""
        rng = random.Random(seed)
        kind = rng.random()
        if kind < 0.4:
            path, body = rng.choice(self.json)
            return Request(framed(path, damage(body, rng.choice(self.json)[1], rng)), is_framed=True)
        if kind < 0.55:
            path, body, length = rng.choice(self.binary)
            head, tail = body[:length], body[length:]
            if rng.random() < 0.6:
                head = damage(head, rng.choice(self.json)[1], rng)
            if rng.random() < 0.6:
                tail = damage(tail, head, rng)
            said = len(head) if rng.random() < 0.9 else rng.choice((0, -1, 1, len(head) + 1, 2**63))
            return Request(framed(path, head + tail, b"Inference-Header-Content-Length: %d\r\n" % said), is_framed=True)
        if kind < 0.62:
            path, body = rng.choice(self.json)
            content = framed(path, body)
            return Request(damage(content[: -len(body)], rng.choice(WORDS), rng) + body)
        method, payload = rng.choice(self.rpcs)
        return Request(damage(payload, rng.choice(self.rpcs)[1], rng), method)


def check_http(head: bytes, body: bytes) -> int:
    """The status of an answer. Raises Finding."""
    status = int(head.split(None, 2)[1])
    if status >= 500 and status not in STATUSES_ALLOWED:
        raise Finding(f"status {status}: {body[:200]!r}")
    if status >= 400:
        if b"Traceback" in body:
            raise Finding(f"a traceback: {body[:200]!r}")
        try:
            known = not body or isinstance(json.loads(body), dict)
        except ValueError:
            known = False
        if not known:
            raise Finding(f"an error that is no JSON: {body[:200]!r}")
    return status


def split_answers(received: bytearray) -> list[tuple[bytes, bytes]]:
    """Takes the whole answers from the front of what came."""
    answers = []
    while (end := received.find(b"\r\n\r\n")) >= 0:
        head = bytes(received[:end])
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = end + 4 + (lengths[0] if lengths else 0)
        if len(received) < size:
            break
        if not head.startswith(b"HTTP/1.1 100"):
            answers.append((head, bytes(received[end + 4 : size])))
        del received[:size]
    return answers


class Client:
    """Sends batches to a server, and judges what comes back."""

    def __init__(self, served: Served, counts: Counter[str]) -> None:
        self._port = int(served.rest.rpartition(":")[2])
        self._channel = grpc.insecure_channel(served.grpc)
        self._calls: dict[str, Callable[..., grpc.Future]] = {}
        self._counts = counts
        self._connection: socket.socket | None = None
        self._expected: tuple[bytes, bytes] | None = None

    def close(self) -> None:
        self._channel.close()
        self.hang_up()

    def send(self, batch: list[Request]) -> None:
        """Raises Finding, with the index of the request."""
        futures = []
        for index, one in enumerate(batch):
            if one.method:
                if one.method not in self._calls:
                    self._calls[one.method] = self._channel.unary_unary(one.method).future
                futures.append((index, self._calls[one.method](one.content, timeout=TOOK_TOO_LONG_S)))
        self._pipeline([(index, one.content) for index, one in enumerate(batch) if one.is_framed])
        for index, one in enumerate(batch):
            if not one.method and not one.is_framed:
                self._alone(index, one.content)
        for index, future in futures:
            error = future.exception()
            code = error.code() if error else grpc.StatusCode.OK
            self._counts[code.name] += 1
            if code in CODES_REFUSED or (error and "Traceback" in error.details()):
                raise Finding(f"{code.name}: {error.details()[:200]}", index)

    def check_healthy(self) -> None:
        """A fixed request is answered over both fronts as it was the first time. Raises Finding."""
        with socket.create_connection((HOST, self._port), timeout=TOOK_TOO_LONG_S) as connection:
            connection.sendall(HEALTHY)
            received = bytearray()
            while not (answers := split_answers(received)):
                chunk = connection.recv(65536)
                if not chunk:
                    raise Finding("the fixed request got no answer")
                received += chunk
        answer = answers[0][1], self._channel.unary_unary(PREDICT)(HEALTHY_MESSAGE, timeout=TOOK_TOO_LONG_S)
        self._expected = self._expected or answer
        if answer != self._expected:
            raise Finding(f"the fixed request was answered otherwise: {answer}")

    def hang_up(self) -> None:
        """The next requests come on a new connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _pipeline(self, requests: list[tuple[int, bytes]]) -> None:
        """Many requests on one connection; on the next one where the server closes it, as it says."""
        while requests:
            connection = self._connection = self._connection or self._connect()
            unsent, received, answered = memoryview(b"".join(content for _, content in requests)), bytearray(), 0
            closes = False
            while answered < len(requests) and not closes:
                readable, writable, _ = select.select([connection], [connection] if unsent else [], [], TOOK_TOO_LONG_S)
                if not readable and not writable:
                    raise Finding(f"no answer within {TOOK_TOO_LONG_S:g} s", requests[answered][0])
                try:
                    if writable:
                        unsent = unsent[connection.send(unsent[:65536]) :]
                    chunk = connection.recv(1 << 18) if readable else None
                except ConnectionError:
                    chunk = b""
                if chunk:
                    received += chunk
                for head, body in split_answers(received):
                    self._judge(head, body, requests[answered][0])
                    answered += 1
                    closes = closes or b"connection: close" in head.lower()
                if chunk == b"" and not closes:
                    raise Finding("the connection was closed without an answer", requests[answered][0])
            requests = requests[answered:]
            if closes:
                self.hang_up()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection((HOST, self._port), timeout=TOOK_TOO_LONG_S)
        connection.setblocking(False)
        return connection

    def _alone(self, index: int, content: bytes) -> None:
        """A request with a damaged head, on a connection that we end: it may be answered or dropped, and is closed."""
        received = bytearray()
        with socket.create_connection((HOST, self._port), timeout=TOOK_TOO_LONG_S) as connection:
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    received += chunk
            except TimeoutError:
                raise Finding(f"no end within {TOOK_TOO_LONG_S:g} s", index) from None
            except OSError:
                pass  # closed while we were sending
        for head, body in split_answers(received):
            self._judge(head, body, index)

    def _judge(self, head: bytes, body: bytes, index: int) -> None:
        try:
            self._counts[str(check_http(head, body))] += 1
        except Finding as finding:
            raise Finding(str(finding), index) from None


def grown(middle: dict[str, int], end: dict[str, int]) -> list[str]:
    """What the process has more of in the end than in the middle."""
    texts = []
    if end["memory_kib"] > (1 + MEMORY_GROWTH_MAX) * middle["memory_kib"] + MEMORY_NOISE_KIB:
        texts.append(f"memory grew from {middle['memory_kib']} to {end['memory_kib']} KiB in the second half")
    if end["files"] > middle["files"] + 5 or end["threads"] > max(middle["threads"], THREADS_MAX):
        texts.append(f"files and threads went from {middle} to {end} in the second half")
    return texts


def fuzz(served: Served, requests: int, first_seed: int, keep: Path) -> int:
    """Returns the number of findings."""
    corpus, counts, findings = Corpus(), Counter[str](), 0
    client = Client(served, counts)
    client.check_healthy()
    started_s, sent, warm = time.monotonic(), 0, None

    def report(text: str, seed: int) -> None:
        nonlocal findings
        findings += 1
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{seed}.request").write_bytes(corpus.make(seed).content)
        print(f"seed {seed}: {text}", flush=True)

    while sent < requests and findings < FINDINGS_MAX and served.process.poll() is None:
        seeds = range(first_seed + sent, first_seed + min(sent + BATCH, requests))
        try:
            client.send([corpus.make(seed) for seed in seeds])
            if (sent + BATCH) // HEALTHY_EVERY > sent // HEALTHY_EVERY:
                client.check_healthy()
        except (Finding, OSError, grpc.RpcError) as error:
            index = getattr(error, "index", None)
            report(f"{error}" + ("" if index is not None else f" (one of {BATCH} from this on)"), seeds[index or 0])
            client.hang_up()
        sent += len(seeds)
        if warm is None and sent >= requests / 2:
            warm = usage(served.process.pid)
        if sent % PROGRESS_EVERY < BATCH <= sent:
            print(f"  {sent} requests, {usage(served.process.pid)}", flush=True)
    if served.process.poll() is not None:
        report(f"the process ended with {served.process.returncode}", first_seed + sent)
        return findings
    took_s, end = time.monotonic() - started_s, usage(served.process.pid)
    client.close()
    for text in grown(warm or end, end):
        report(text, first_seed)
    print(f"{sent} requests in {took_s:.0f} s, {sent / took_s:.0f} a second: {findings} findings")
    print(f"  {dict(counts.most_common())}")
    print(f"  in the middle {warm}, at the end {end}")
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("build") / "fuzz-server")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in SERVED:
            write_model(root / name, 1, *MODELS[name])
        entries = "".join(f'config {{ name: "{name}" base_path: "{root / name}" }}' for name in SERVED)
        (root / "models.config").write_text(f"model_config_list {{ {entries} }}")
        with serve("", model_config_file=root / "models.config", tensorflow_session_parallelism=1) as served:
            return 1 if fuzz(served, chosen.requests, chosen.seed, chosen.keep) else 0


if __name__ == "__main__":
    sys.exit(main())
