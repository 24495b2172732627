# ruff: noqa: E501  (the table reads by line: one case, one line)
"""The models of the robustness tests, and every way in which a version cannot be served. Knows no server."""

from __future__ import annotations

import os

import numpy as np
import onnx.parser
from conformance_models import MODELS, write_model
from tfs_requests import predict

from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import write_records

HEAVY_BYTES = 32 << 20
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
# Each takes as long as the first value says.
LOOP = """g (float[N] x) => (float[N] y) <bool go = {1}, int64[1] zero = {0}, int64[1] one = {1}> {
    first = Slice(x, zero, one)  single = Squeeze(first)  steps = Cast<to = 7>(single)
    y = Loop (steps, go, x) <body = b (int64 i, bool c, float[N] v) => (bool d, float[N] w)
        { d = Identity(c)  w = Neg(v) }> }"""
ADD = "g (float[N] x) => (float[N] y) <float[1] v = {{{}}}> {{ y = Add(x, v) }}"
GATHER = "g (int64[N] i) => (float[N] y) <float[3] values = {5, 6, 7}> { y = Gather(values, i) }"
ZIPMAP = """g (float[N] x) => (float[N] y, seq(map(int64, float[N])) p) {
    y = Identity(x) p = ai.onnx.ml.ZipMap <classlabels_int64s = [0]> (x) }"""
PLAIN = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>\n'


def write(base_path, version, text, head=PLAIN):
    """A version, put in place whole; returns its directory."""
    aside = base_path / f"temp-{version}"
    aside.mkdir(parents=True)
    (aside / "model.onnx").write_bytes(onnx.parser.parse_model(head + text).SerializeToString())
    return aside.rename(base_path / str(version))


def keep_weights_outside(directory, location="weights.bin", dims=(1,), **more):
    """Move the only initializer of a model into a file beside it; returns the file."""
    model = onnx.load(directory / "model.onnx")
    (tensor,) = model.graph.initializer
    weights = directory / "weights.bin"
    weights.write_bytes(np.array(tensor.float_data, np.float32).tobytes())
    tensor.ClearField("float_data")
    tensor.dims[:] = dims
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    return weights


def outside(root, name, location="weights.bin", change=None, **more):
    weights = keep_weights_outside(write(root / name, 1, ADD.format(1)), location, **more)
    if change:
        weights.unlink()
        change(weights)


def warmed(root, name, payloads, change=lambda content: content):
    directory = write(root / name, 1, ADD.format(1))
    (directory / WARMUP_FILE).parent.mkdir()
    write_records(directory / WARMUP_FILE, payloads)
    (directory / WARMUP_FILE).write_bytes(change((directory / WARMUP_FILE).read_bytes()))


def huge(path):
    with open(path, "wb") as file:
        file.truncate(4 << 40)  # sparse: it takes no space


def predict_log(name, alias="x"):
    log = serving_pb.PredictionLog()
    log.predict_log.request.CopyFrom(predict(name, **{alias: np.float32([1])}))
    return log.SerializeToString()


# Models that cannot be served, by name: row, how they are made, and what the state of their version says.
BROKEN = {
    "missing": (36, lambda root, name: (root / name / "1").mkdir(parents=True), "holds no model.onnx"),
    "empty": (36, lambda root, name: (write(root / name, 1, ADD.format(1)) / "model.onnx").write_bytes(b""), "is empty"),
    "cut": (36, lambda root, name: os.truncate(write(root / name, 1, ADD.format(1)) / "model.onnx", 40), "is no whole ONNX model"),
    "html": (36, lambda root, name: (write(root / name, 1, ADD.format(1)) / "model.onnx").write_text("<!DOCTYPE html>"), "is no whole ONNX model"),
    "newer_opset": (36, lambda root, name: write(root / name, 1, ADD.format(1), PLAIN.replace("17", "999")), "cannot open"),
    "newer_ir": (36, lambda root, name: write(root / name, 1, ADD.format(1), PLAIN.replace("8", "999", 1)), "IR version"),
    "foreign": (36, lambda root, name: write(root / name, 1, ADD.format(1).replace("Add", "nobody.Add"), PLAIN.replace("17,", '17, "nobody" : 1,')), "nobody"),
    "zipmap": (36, lambda root, name: write(root / name, 1, ZIPMAP), "is a sequence"),
    "no_weights": (36, lambda root, name: outside(root, name, length=4, change=lambda path: path.write_bytes(b"")), "of a file of 0 bytes"),
    "out": (37, lambda root, name: outside(root, name, "../secret"), "leads out of the version directory"),
    "absolute": (37, lambda root, name: outside(root, name, "/etc/passwd"), "an absolute path"),
    "link": (37, lambda root, name: outside(root, name, change=lambda path: path.symlink_to("/etc/passwd")), "a link that leads out"),
    "pipe": (37, lambda root, name: outside(root, name, change=os.mkfifo), "which is no plain file"),
    "device": (37, lambda root, name: outside(root, name, change=lambda path: path.symlink_to("/dev/zero")), "a link that leads out"),
    "offset": (37, lambda root, name: outside(root, name, offset=99, length=4), "of a file of 4 bytes"),
    "length": (37, lambda root, name: outside(root, name, length=2**62), "of a file of 4 bytes"),
    "too_big": (42, lambda root, name: outside(root, name, dims=(1 << 40,), change=huge), "memory"),
    "warmup_1001": (52, lambda root, name: warmed(root, name, [predict_log(name)] * 1001), "exceeds the maximum (1000)"),
    "warmup_corrupt": (52, lambda root, name: warmed(root, name, [predict_log(name)], lambda content: content[:-1]), "TFRecord format"),
    "warmup_garbage": (52, lambda root, name: warmed(root, name, [b"\xff\xff"]), "Failed to parse warmup record"),
    "warmup_wrong": (52, lambda root, name: warmed(root, name, [predict_log(name, "z")]), "z"),
}  # fmt: skip


def make_odd(root):
    """Version 1 among names that are no versions, and versions that are none."""
    write(root / "odd", 1, ADD.format(1))
    for name in ("1.0", "-1", "abc", str(2**63), "8"):
        (root / "odd" / name).mkdir()
    (root / "odd" / "5").write_text("a file")
    (root / "odd" / "6").symlink_to("6")
    (root / "odd" / "7").mkdir(mode=0)
    (root / "odd" / "9").mkdir()
    (root / "odd" / "9" / "model.onnx").write_bytes((root / "odd" / "1" / "model.onnx").read_bytes()[:50])


def make_models(root):
    """Base paths, and models.config, which lists them."""
    for name in ("half", "matrix", "types", "text", "log", "bfloat16", "examples"):
        write_model(root / name, 1, *MODELS[name])
    for name, text in {"good": ADD.format(1), "gather": GATHER, "swapped": ADD.format(1)}.items():
        write(root / name, 1, text)
    for name in ("hangs", "also hangs", "slow"):
        write(root / name, 1, LOOP)
    keep_weights_outside(write(root / "snapshot", 1, ADD.format(1)))
    weights = keep_weights_outside(write(root / "heavy", 1, ADD.format(1)), dims=(HEAVY_BYTES // 4,))
    weights.write_bytes(b"\1" * HEAVY_BYTES)
    make_odd(root)
    for name, (_, make, _) in BROKEN.items():
        make(root, name)
    (root / "flat").mkdir()
    (root / "flat" / "model.onnx").write_bytes((root / "good" / "1" / "model.onnx").read_bytes())
    (root / "saved").mkdir()
    (root / "saved" / "saved_model.pb").write_bytes(b"")
    (root / "models.config").write_text(listing(root, sorted(path.name for path in root.iterdir())))


def listing(root, names):
    entries = "".join(f'config {{ name: "{name}" base_path: "{root / name}" }}' for name in names)
    return f"model_config_list {{ {entries} }}"
