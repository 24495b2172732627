"""The features' part of a servable's graph: what reaches a transform, and text behind ids."""

import functools

import numpy as np
import onnx
import pytest
import spox
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from spox import Tensor, argument

from estimator_serving import ops
from estimator_serving.exporter.receivers.features_graph import feed_transform, look_up_text, run_graph
from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.finish import finish_graph, serialize
from estimator_serving.training.columns.transform import build_transform
from estimator_serving.training.errors import InvalidArgumentError


def run(dtype, dims, build, value):
    x = argument(Tensor(dtype, dims))
    model = finish_graph(spox.build({"x": x}, build(x)))
    session = ops.session(serialize(model))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": value}), strict=True))


WORDS = fc.categorical_column_with_vocabulary_list("word", ["a", "é"], num_oov_buckets=3)
NUMBERS = fc.categorical_column_with_identity("number", 4, default_value=1)
STEPS = fc.sequence_numeric_column("steps", default_value=9.0)
COLUMNS = [
    WORDS,
    fc.indicator_column(WORDS),
    fc.indicator_column(fc.weighted_categorical_column(NUMBERS, "weight", dtype=float)),
    fc.crossed_column(["word", NUMBERS], 50),
    *STEPS.sequence_outputs,
]
TRANSFORM = build_transform(COLUMNS)
ELEMENTS = {
    "word": [object],
    "number": [np.int64, np.int32],
    "weight": [np.float32, np.float64],
    "steps": [np.float32, np.int64],
}
ENTRIES = {
    "word": st.sampled_from(["", "a", "é", "b", " "]),
    "number": st.integers(-2, 4),
    "weight": st.sampled_from([0.0, -0.0, 1e-60, 1.5, -2.0]),
    "steps": st.integers(0, 2),
}


@st.composite
def raw_batches(draw):
    """A batch as an input_fn gives it: [batch], or [batch, k] of any k for each feature."""
    rows = draw(st.integers(0, 4))
    widths = {key: draw(st.none() | st.integers(0, 3)) for key in ELEMENTS}
    # Mostly as many weights as ids, as a model needs; the rest must be refused alike.
    widths["weight"] = draw(st.sampled_from([widths["number"]] * 3 + [widths["weight"]]))
    return {
        key: draw(
            npst.arrays(
                draw(st.sampled_from(ELEMENTS[key])), rows if width is None else (rows, width), elements=ENTRIES[key]
            )
        )
        for key, width in widths.items()
    }


@functools.cache
def served(form):
    """What a servable computes of features that clients send as they are."""
    sent = {
        key: argument(Tensor(str if element == "O" else np.dtype(element).type, ("batch", f"{key}/k")[:rank]))
        for key, (element, rank) in form
    }
    fed = feed_transform(sent, TRANSFORM.inputs)
    return ops.session(
        serialize(finish_graph(spox.build(sent, run_graph(onnx.load_from_string(TRANSFORM.model_bytes), fed))))
    )


def serve(raw):
    session = served(tuple((key, (array.dtype.char, array.ndim)) for key, array in raw.items()))
    return dict(zip(TRANSFORM.output_names, session.run(list(TRANSFORM.output_names), raw), strict=True))


def outcome(compute, raw):
    """The rows computed, or that the values were refused."""
    try:
        return {name: array.tolist() for name, array in compute(raw).items()}
    except (InvalidArgumentError, InvalidArgument):
        return "refused"


@settings(max_examples=80, deadline=None)
@given(raw_batches())
def test_training_and_serving_compute_the_same_of_raw_arrays(raw):
    assert outcome(TRANSFORM, raw) == outcome(serve, raw)


def test_a_receiver_of_another_kind_is_refused():
    wanted = build_transform([NUMBERS]).inputs
    text = "key: number, column dtype: int64, receiver dtype: float. Declare the feature"
    with pytest.raises(ValueError, match=text):
        feed_transform({"number": argument(Tensor(np.float32, ("batch",)))}, wanted)


def test_look_up_text():
    got = run(np.int64, ("batch", "n"), lambda x: {"y": look_up_text(x, ("no", "é"))}, np.int64([[0, 1], [1, 1]]))
    assert got["y"].tolist() == [["no", "é"], ["é", "é"]]
