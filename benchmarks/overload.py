"""Goodput at several times the load that a server can take, over REST and gRPC, without and with batching.

    python benchmarks/overload.py [--rounds 5] [--seconds 3] [--factor 4]

The model counts: without batching a run takes about 10 ms of the server's core, with batching about 80 ms for up to 8
requests, so an answer takes 10 ms either way. (A refusal takes a tenth or two of a millisecond, which a cheaper model
cannot hide at four times its load.) The peak is what 16 callers get who each ask again at once. In overload, an open
loop sends `factor` times the peak, whatever comes back, and only answers within 2 seconds count.

Peak and overload take turns, because the speed of a shared machine drifts: each overload is compared with the mean of
the peaks before and after it, and what counts is the median over the rounds. The server is on one core, the load on
another. Prints goodput by the clock and by the server's processor time, each against the peak; where other work shares
the cores, only the second means something, and it is the one that is judged: exits with 1 below 0.9, where an answer is
neither right nor a refusal, or where the refusals' median took longer than 100 ms. Takes 3 minutes.

`--refusals` measures what a refusal costs, in a minute: a run that does not end keeps every version full, and the
processor time that all other threads of the server use is divided by the calls that are refused meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from loads import HOST, SLOW, cpu_s, post, steps_of, write_model

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from served import Served, serve
from tfs_requests import predict

METHOD = "/tensorflow.serving.PredictionService/Predict"
SERVER_CORE, LOAD_CORE = 0, 1
CALLERS, DEADLINE_S, CONNECTIONS_MAX = 16, 2.0, 900
RUN_S = {False: 0.01, True: 0.08}
PARAMETERS = "max_batch_size { value: 8 } max_enqueued_batches { value: 4 } num_batch_threads { value: 1 }"
GOODPUT_MIN, REFUSAL_S_MAX = 0.9, 0.1
# How long the server works off its queues between an overload and the next peak.
DRAIN_S = 1.0
# Of the refusals that are measured: calls a second, and of the run that holds the server, rounds of SLOW.
REFUSED_RATE, ENDLESS = 300, 3e9


class Outcomes:
    """How the requests of one phase ended. good_s: when answers came in time; refused_s: how long refusals took."""

    def __init__(self) -> None:
        self.good_s: list[float] = []
        self.refused_s: list[float] = []
        self.others = Counter[str]()

    def note(self, outcome: str, began_s: float) -> None:
        """outcome: `OK`, `refused`, or anything else."""
        now_s = time.perf_counter()
        if outcome == "OK" and now_s - began_s <= DEADLINE_S:
            self.good_s.append(now_s)
        elif outcome == "refused":
            self.refused_s.append(now_s - began_s)
        else:
            self.others["late" if outcome == "OK" else outcome] += 1


class Grpc:
    """Predict on one channel."""

    def __init__(self, served: Served, steps: float) -> None:
        self._channel = grpc.insecure_channel(served.grpc)
        self._call = self._channel.unary_unary(METHOD)
        self._payload = predict("m", x=np.float32([steps])).SerializeToString()

    def close(self) -> None:
        self._channel.close()

    def closed(self, outcomes: Outcomes, ends_s: float) -> None:
        def run() -> None:
            while (began_s := time.perf_counter()) < ends_s:
                self._note(outcomes, self._call.future(self._payload, timeout=60), began_s)

        threads = [threading.Thread(target=run) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def open(self, outcomes: Outcomes, rate: float, ends_s: float) -> int:
        futures, began_s = [], time.perf_counter()
        while (now_s := time.perf_counter()) < ends_s:
            if (due_s := began_s + len(futures) / rate) > now_s:
                time.sleep(due_s - now_s)
            asked_s = time.perf_counter()
            future = self._call.future(self._payload, timeout=DEADLINE_S)
            future.add_done_callback(lambda done, asked_s=asked_s: self._note(outcomes, done, asked_s))
            futures.append(future)
        for future in futures:
            future.exception()
        return len(futures)

    def _note(self, outcomes: Outcomes, done: Any, began_s: float) -> None:
        error = done.exception()
        code = grpc.StatusCode.OK if error is None else error.code()
        is_refused = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
        outcomes.note("refused" if is_refused else code.name, began_s)


class _Connection(asyncio.Protocol):
    """Asks, and tells the status when the answer is whole."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.received, self.answered = transport, b"", None

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if found and len(body) >= lengths[0]:
            self.received = b""
            self._tell(int(head.split()[1]))

    def connection_lost(self, _error: object) -> None:
        self._tell(0)

    def ask(self, request: bytes) -> asyncio.Future[int]:
        self.answered: asyncio.Future[int] | None = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answered

    def _tell(self, status: int) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(status)


class Rest:
    """Rows as JSON on kept connections, one for each request under way."""

    def __init__(self, served: Served, steps: float) -> None:
        self._port = int(served.rest.rpartition(":")[2])
        self._request = post("/v1/models/m:predict", json.dumps({"instances": [steps]}).encode())

    def close(self) -> None:
        pass

    def closed(self, outcomes: Outcomes, ends_s: float) -> None:
        async def run() -> None:
            connection = await self._connect()
            while (began_s := time.perf_counter()) < ends_s:
                await self._ask(connection, outcomes, began_s)
            connection.transport.abort()

        async def all_of_them() -> None:
            await asyncio.gather(*(run() for _ in range(CALLERS)))

        asyncio.run(all_of_them())

    def open(self, outcomes: Outcomes, rate: float, ends_s: float) -> int:
        async def run() -> int:
            free, asking, sent, began_s = [], set[asyncio.Task[None]](), 0, time.perf_counter()

            async def ask_one(asked_s: float) -> None:
                connection = free.pop() if free else await self._connect()
                if await self._ask(connection, outcomes, asked_s):
                    free.append(connection)

            while (now_s := time.perf_counter()) < ends_s:
                if (due_s := began_s + sent / rate) > now_s:
                    await asyncio.sleep(due_s - now_s)
                sent += 1
                if len(asking) < CONNECTIONS_MAX:
                    asking.add(task := asyncio.create_task(ask_one(time.perf_counter())))
                    task.add_done_callback(asking.discard)
                else:
                    outcomes.others["no connection left"] += 1
            await asyncio.gather(*asking)
            for connection in free:
                connection.transport.abort()
            return sent

        return asyncio.run(run())

    async def _connect(self) -> _Connection:
        return (await asyncio.get_running_loop().create_connection(_Connection, HOST, self._port))[1]

    async def _ask(self, connection: _Connection, outcomes: Outcomes, began_s: float) -> bool:
        """Whether the connection can be used again."""
        status = await connection.ask(self._request)
        outcomes.note({200: "OK", 503: "refused", 429: "refused"}.get(status, str(status)), began_s)
        return status != 0


@contextmanager
def served_on_a_core(folder: Path, batching: bool) -> Iterator[Served]:
    """A server of SLOW on one core; the caller is on the other one."""
    flags: dict[str, object] = {"tensorflow_intra_op_parallelism": 1}
    if batching:
        (folder / "batching").write_text(PARAMETERS)
        flags |= {"enable_batching": True, "batching_parameters_file": folder / "batching"}
    os.sched_setaffinity(0, {SERVER_CORE})  # which the server inherits
    with serve(folder / "m", **flags) as served:
        os.sched_setaffinity(0, {LOAD_CORE})
        # What it logs must not fill the pipe.
        threading.Thread(target=served.process.stderr.read, daemon=True).start()
        yield served


def name_of(transport: type[Grpc | Rest], batching: bool) -> str:
    return f"{transport.__name__}, {'with' if batching else 'without'} batching"


def measure(
    folder: Path, transport: type[Grpc | Rest], batching: bool, rounds: int, seconds: float, factor: float
) -> list[str]:
    """Prints a line of figures; returns what is not as it should be."""
    name, refused_s, others, sent_rates = name_of(transport, batching), list[float](), Counter[str](), list[float]()
    with served_on_a_core(folder, batching) as served, grpc.insecure_channel(served.grpc) as channel:
        pid, call = served.process.pid, channel.unary_unary(METHOD)
        steps = steps_of(
            lambda steps: call(predict("m", x=np.float32([steps])).SerializeToString(), timeout=60),
            lambda: cpu_s(pid), RUN_S[batching],
        )  # fmt: skip
        client = transport(served, steps)

        def goodput(for_s: float, rate: float = 0.0) -> tuple[float, float]:
            """Answers a second, and answers a second of the server's processor time. rate: 0 for the 16 callers."""
            outcomes, began_s, used_s = Outcomes(), time.perf_counter(), cpu_s(pid)
            if rate:
                sent = client.open(outcomes, rate, began_s + for_s)
                sent_rates.append(sent / for_s)
                refused_s.extend(outcomes.refused_s)
                others.update(outcomes.others)
            else:
                client.closed(outcomes, began_s + for_s)
            good = len(outcomes.good_s)
            return good / (time.perf_counter() - began_s), good / (cpu_s(pid) - used_s)

        goodput(1)  # warm
        peaks, overloads = [goodput(seconds)], []
        for _ in range(rounds):
            overloads.append(goodput(seconds, factor * peaks[-1][0]))
            time.sleep(DRAIN_S)
            peaks.append(goodput(seconds))
        client.close()
    by_clock, by_cpu = (
        sorted(
            overload[index] / statistics.mean((before[index], after[index]))
            for overload, before, after in zip(overloads, peaks, peaks[1:], strict=False)
        )
        for index in (0, 1)
    )
    refusal_s, ratio = statistics.median(refused_s or [0]), statistics.median(by_cpu)
    peak_rate = statistics.median(rate for rate, _ in peaks)
    print(
        f"{name:24} peak {peak_rate:5.0f}/s, sent {statistics.median(sent_rates):5.0f}/s, refused "
        f"{len(refused_s):6} in {1e3 * refusal_s:5.1f} ms, others {dict(others)}; goodput / peak "
        f"{statistics.median(by_clock):.2f} by the clock ({by_clock[0]:.2f} to {by_clock[-1]:.2f}), "
        f"{ratio:.2f} by CPU time ({by_cpu[0]:.2f} to {by_cpu[-1]:.2f})",
        flush=True,
    )
    failed = [f"{name}: goodput is {ratio:.2f} of the peak"] if ratio < GOODPUT_MIN else []
    failed += [f"{name}: {others}"] if set(others) - {"late", "DEADLINE_EXCEEDED"} else []
    return failed + ([f"{name}: a refusal took {refusal_s:.2f} s"] if refusal_s > REFUSAL_S_MAX else [])


def threads_s(pid: int) -> dict[str, float]:
    """The processor time of each thread."""
    found = {}
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found[file.parent.name] = int(file.read_text().split()[0]) / 1e9
    return found


def measure_refusals(folder: Path, transport: type[Grpc | Rest], batching: bool, rounds: int, seconds: float) -> None:
    """Prints what a refusal costs."""
    with served_on_a_core(folder, batching) as served, grpc.insecure_channel(served.grpc) as channel:
        pid, call = served.process.pid, channel.unary_unary(METHOD)
        for _ in range(4):  # so that the server knows how long runs are
            call(predict("m", x=np.float32([3e4])).SerializeToString(), timeout=60)
        held = [call.future(predict("m", x=np.float32([ENDLESS])).SerializeToString()) for _ in range(60)]
        time.sleep(1)
        before = threads_s(pid)
        time.sleep(1)
        runs = max(after := threads_s(pid), key=lambda thread: after[thread] - before.get(thread, 0))
        client, costs_us = transport(served, ENDLESS), []
        for _ in range(rounds):
            outcomes, before = Outcomes(), threads_s(pid)
            client.open(outcomes, REFUSED_RATE, time.perf_counter() + seconds)
            used_s = sum(used - before.get(thread, 0) for thread, used in threads_s(pid).items() if thread != runs)
            costs_us.append(1e6 * used_s / len(outcomes.refused_s))
        served.process.kill()
        for one in held:
            one.cancel()
        client.close()
    print(
        f"{name_of(transport, batching):24} a refusal takes {statistics.median(costs_us):.0f} µs of CPU time "
        f"({min(costs_us):.0f} to {max(costs_us):.0f})",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each peak and each overload")
    parser.add_argument("--factor", type=float, default=4, help="times the peak that the overload sends")
    parser.add_argument("--refusals", action="store_true", help="measure what a refusal costs instead")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "m", SLOW)
        for batching in (False, True):
            for transport in (Grpc, Rest):
                if chosen.refusals:
                    measure_refusals(Path(folder), transport, batching, chosen.rounds, chosen.seconds)
                else:
                    failed += measure(Path(folder), transport, batching, chosen.rounds, chosen.seconds, chosen.factor)
    print("\n".join(failed) or "held")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
