"""How fast a checkpoint of TensorFlow is read: megabytes a second, checksums included, one thread.

    python benchmarks/tensor_bundle.py

The checkpoint is made here: tables of floats, whole and in slices, and a table of strings. "mapped" reads every tensor
as it lies in the file (its bytes are touched by the checksum); "copied" adds a copy into memory. The file is in the
page cache, since the figure is the reader's and not the disk's. The command fails where mapped reading of numbers is
slower than the budget.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
import bundles

from estimator_serving.wire.tensor_bundle import TensorBundle, open_bundle

BUDGET_MB_S = 500
ROUNDS = 5


def make(directory: str) -> str:
    rng = np.random.default_rng(0)
    tables = {f"table_{n}": rng.random((50_000, 128), np.float32) for n in range(8)}
    strings = bundles.objects([rng.bytes(int(n)) for n in rng.integers(5, 60, 200_000)])
    cuts = {"table_7": [10_000, 20_000, 35_000]}
    pairs, shards = bundles.make_bundle({**tables, "strings": strings}, cuts=cuts, shard_count=2)
    return bundles.write_bundle(Path(directory) / "model.ckpt-1", pairs, shards)


def best_mb_s(prefix: str, keys: list[str], take: Callable[[TensorBundle, str], int]) -> float:
    """The best round: bytes of the keys' tensors over seconds, opening included."""

    def one_round() -> float:
        start = time.perf_counter()
        bundle = open_bundle(prefix)
        read_bytes = sum(take(bundle, key) for key in keys)
        return read_bytes / 1e6 / (time.perf_counter() - start)

    return max(one_round() for _ in range(ROUNDS))


def mapped(bundle: TensorBundle, key: str) -> int:
    return bundle.read(key).nbytes


def copied(bundle: TensorBundle, key: str) -> int:
    return bundle.read(key).copy().nbytes


def of_strings(bundle: TensorBundle, key: str) -> int:
    return sum(map(len, bundle.read(key)))


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        prefix = make(directory)
        whole = [f"table_{n}" for n in range(7)]
        figures = {
            "whole tensors, mapped": best_mb_s(prefix, whole, mapped),
            "whole tensors, copied": best_mb_s(prefix, whole, copied),
            "a tensor in four slices": best_mb_s(prefix, ["table_7"], mapped),
            "200,000 strings": best_mb_s(prefix, ["strings"], of_strings),
        }
    for what, mb_s in figures.items():
        print(f"{what:26} {mb_s:8.0f} MB/s")
    print(f"budget: whole tensors, mapped, at least {BUDGET_MB_S} MB/s")
    sys.exit(figures["whole tensors, mapped"] < BUDGET_MB_S)


if __name__ == "__main__":
    main()
