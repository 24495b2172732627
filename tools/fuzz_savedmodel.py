"""Fuzzes the readers of SavedModels: recorded ones are damaged byte by byte and field by field, and read.

    python tools/fuzz_savedmodel.py --seconds 300 [--seed 1] [--keep DIRECTORY]

Whatever is in the files, reading ends with a graph or with SavedModelError or TensorBundleError, within some seconds
and some memory. Anything else is a finding: it is printed with its seed, its files are kept, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from estimator_serving.exporter.sources.saved_model.errors import SavedModelError
from estimator_serving.exporter.sources.saved_model.importer import convert
from estimator_serving.exporter.sources.saved_model.reader import open_saved_model
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.tensor_bundle import TensorBundleError, open_bundle

GOLDENS = Path(__file__).parent.parent / "tests" / "exporter" / "goldens"
TIME_MAX_S = 30
MEMORY_MAX_BYTES = 6 << 30
NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 60, (1 << 63) - 1, -(1 << 63))
NODES_CHANGED_MAX = 3


class TookTooLong(Exception):  # noqa: N818 - a finding, reported like any other exception
    """Reading went on for more than TIME_MAX_S."""


def damage_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, left out, repeated or put in."""
    made = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(made) + 1), rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(5)
        if kind == 0:
            made[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del made[at : at + length]
        elif kind == 2:
            made[at:at] = made[at : at + length]
        elif kind == 3:
            made[at : at + length] = rng.randbytes(length)
        elif made:
            made[min(at, len(made) - 1)] ^= 1 << rng.randrange(8)
    return bytes(made)


def damage_graph(content: bytes, rng: random.Random) -> bytes:
    """Some nodes of the graph or of its functions read other inputs, do something else or have other attributes."""
    message = tensorflow_pb.SavedModel.FromString(content)
    meta_graph = message.meta_graphs[0]
    bodies = [meta_graph.graph_def.node, *(one.node_def for one in meta_graph.graph_def.library.function)]
    nodes = [node for body in bodies for node in body]
    for _ in range(rng.randint(1, NODES_CHANGED_MAX)):
        node, other = rng.choice(nodes), rng.choice(nodes)
        kind = rng.randrange(6)
        if kind == 0 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(
                [other.name, f"{other.name}:{rng.randrange(4)}", ""]
            )
        elif kind == 1 and node.input:
            del node.input[rng.randrange(len(node.input))]
        elif kind == 2:
            node.op = other.op
        elif kind == 3 and node.attr:
            del node.attr[rng.choice(sorted(node.attr))]
        elif node.attr:
            damage_attribute(node.attr[rng.choice(sorted(node.attr))], rng)
    return bytes(message.SerializeToString())


def damage_attribute(value: Any, rng: random.Random) -> None:
    """One number of an attribute becomes another."""
    number = rng.choice(NUMBERS)
    match value.WhichOneof("value"):
        case "i":
            value.i = number
        case "b":
            value.b = not value.b
        case "type":
            value.type = rng.randrange(1, 24)
        case "shape" if value.shape.dim:
            rng.choice(value.shape.dim).size = number
        case "list" if value.list.i:
            value.list.i[rng.randrange(len(value.list.i))] = number
        case "tensor":
            damage_tensor(value.tensor, number, rng)


def damage_tensor(tensor: Any, number: int, rng: random.Random) -> None:
    """A size, the bytes or the first number of a constant become others."""
    if tensor.tensor_shape.dim and rng.random() < 0.5:
        rng.choice(tensor.tensor_shape.dim).size = number
    elif tensor.tensor_content:
        tensor.tensor_content = damage_bytes(tensor.tensor_content, rng)
    elif tensor.int_val:
        tensor.int_val[0] = number & 0x7FFFFFFF
    elif tensor.int64_val:
        tensor.int64_val[0] = number


def read(directory: Path) -> None:
    """Reads everything there: the graph, and every tensor of variables/."""
    saved_model = open_saved_model(directory, ["serve"])
    if (directory / "variables" / "variables.index").is_file():
        bundle = open_bundle(directory / "variables" / "variables")
        for key in bundle.keys():  # noqa: SIM118 - a bundle is no mapping
            bundle.read(key)
    convert(saved_model, skip_unsupported=True)


def try_one(source: Path, directory: Path, rng: random.Random) -> str:
    """Damages a copy of a SavedModel, and reads it; returns how that ended. Other exceptions are findings."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(source, directory)
    files = [one for one in sorted(directory.rglob("*")) if one.is_file()]
    graph = directory / "saved_model.pb"
    if rng.random() < 0.6:
        graph.write_bytes(damage_graph(graph.read_bytes(), rng))
    else:
        file = graph if rng.random() < 0.4 else rng.choice(files)
        file.write_bytes(damage_bytes(file.read_bytes(), rng))
    signal.alarm(TIME_MAX_S)
    try:
        read(directory)
    except (SavedModelError, TensorBundleError):
        return "refused"
    finally:
        signal.alarm(0)
    return "read"


def sources(directory: Path) -> list[Path]:
    """The recorded SavedModels."""
    with tarfile.open(GOLDENS / "small_savedmodels.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    return sorted(path.parent for base in (directory, GOLDENS) for path in base.rglob("saved_model.pb"))


def _too_long(*_: object) -> None:
    raise TookTooLong(f"more than {TIME_MAX_S} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("build") / "fuzz-savedmodel")
    chosen = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX_BYTES, resource.RLIM_INFINITY))
    counts, findings = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as work:
        cases = sources(Path(work) / "sources")
        seed, end = chosen.seed, time.monotonic() + chosen.seconds
        while time.monotonic() < end:
            rng = random.Random(seed)
            directory = Path(work) / "damaged"
            try:
                counts[try_one(rng.choice(cases), directory, rng)] += 1
            except Exception as error:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
                findings[where] += 1
                if findings[where] == 1:
                    print(f"seed {seed}: {where}: {str(error)[:200]}", flush=True)
                    shutil.copytree(directory, chosen.keep / str(seed), dirs_exist_ok=True)
            seed += 1
    print(
        f"{seed - chosen.seed} damaged SavedModels: {counts['read']} read, {counts['refused']} refused, "
        f"{sum(findings.values())} findings of {len(findings)} kinds"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
