"""Summaries of a model_fn: tags as TensorFlow's, pictures as PNG, text, and the event file that holds them."""

import struct
import zlib

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from estimator_serving.training import metrics, summary
from estimator_serving.training.nn.summaries import EventWriter, Picture
from estimator_serving.training.nn.variables import VariableStore, variable_scope


def reported(report):
    store = VariableStore()
    store.summaries = {}
    with store.activate(training=True), variable_scope("a"):
        report()
    return store.summaries


def test_tags_are_tensorflows():
    def report():
        summary.scalar("loss", torch.tensor(1.0, requires_grad=True))
        summary.scalar("loss", 2.0)
        summary.scalar("loss", lambda: 3.0)
        summary.scalar("x y", metrics.mean(torch.tensor([1.0, 2.0])), family="fam")

    assert reported(report) == {"a/loss": 1.0, "a/loss_1": 2.0, "a/loss_2": 3.0, "fam/a/fam/x_y": 1.5}


def pixels(picture):
    assert picture.png.startswith(b"\x89PNG\r\n\x1a\n")
    start = picture.png.index(b"IDAT")
    (length,) = struct.unpack(">I", picture.png[start - 4 : start])
    rows = np.frombuffer(zlib.decompress(picture.png[start + 4 : start + 4 + length]), np.uint8)
    return rows.reshape(picture.height, -1)[:, 1:].reshape(-1).tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0, 2.0], [0, 63, 127, 255]),
        ([-1.0, 0.5, 0.0, 2.0], [64, 159, 128, 255]),
        ([-3.0, -0.5, -1.0, -2.0], [1, 106, 85, 43]),
        ([0.0, 0.0, 0.0, 0.0], [0, 0, 0, 0]),
    ],
)
def test_floats_are_scaled_as_tensorflow_does(values, expected):
    assert pixels(Picture.of(np.float32(values).reshape(2, 2, 1))) == expected


def test_bytes_stay_and_other_shapes_are_refused():
    assert pixels(Picture.of(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))) == [*range(12)]
    with pytest.raises(ValueError, match="last dim 1, 3, or 4"):
        Picture.of(np.zeros((2, 2, 2), np.float32))


def test_an_event_file_holds_all_kinds(tmp_path):
    def report():
        summary.image("photo", torch.zeros(5, 2, 3, 1))
        summary.image("one", torch.zeros(5, 2, 3, 3), max_outputs=1)
        summary.text("words", ["b", "c"])
        summary.histogram("spread", torch.ones(3))

    writer = EventWriter(tmp_path)
    writer.add(reported(report), 7)
    writer.close()
    (file,) = tmp_path.iterdir()
    *_, event = EventFileLoader(str(file)).Load()
    values = {value.tag: value for value in event.summary.value}
    assert {*values} == {"a/photo/image/0", "a/photo/image/1", "a/photo/image/2", "a/one/image", "a/words", "a/spread"}
    assert [*values["a/words"].tensor.string_val] == [b"b", b"c"]
