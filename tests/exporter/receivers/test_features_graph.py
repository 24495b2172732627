"""Raw features reach a transform and a network, and come back as outputs."""

import functools

import numpy as np
import onnx
import pytest
import spox
import spox.opset.ai.onnx.v21 as op
from graphs import compute, graph_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from spox import Tensor, argument

from estimator_serving.exporter.receivers.features_graph import (
    count_rows,
    direct_feature,
    feed_transform,
    forward,
    is_string,
    look_up_text,
    run_graph,
)
from estimator_serving.exporter.servable.running import session_of
from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.finish import finish_graph
from estimator_serving.training.columns.inputs import CategoricalInput, NumericInput, SequenceInput, WeightInput
from estimator_serving.training.columns.padding import Padded, as_matrix, pad_dense, pad_sequence, pad_whole
from estimator_serving.training.columns.transform import build_transform
from estimator_serving.training.errors import InvalidArgumentError
from estimator_serving.training.forward_features import ForwardedFeature
from estimator_serving.wire import dtypes


def dense(dtype, *shape):
    return argument(Tensor(dtype, (None, *shape)))


def padded(dtype):
    return Padded(argument(Tensor(dtype, (None, None))), argument(Tensor(np.int64, (None,))))


# -- feeding a transform ----------------------------------------------------------------------------------------------


NUMBER = NumericInput("age", (2,))
WORD = CategoricalInput("class", dtypes.string)
ID = CategoricalInput("deck", dtypes.int64)


@pytest.mark.parametrize(
    ("features", "wanted", "text"),
    [
        (
            {"fare": dense(np.float32)},
            NUMBER,
            "Feature age is not in features dictionary. The serving input receiver gives fare; build its feature_spec "
            "with make_parse_example_spec from the columns the model was trained with.",
        ),
        (
            {"age": padded(np.float32)},
            NUMBER,
            "The numeric column 'age' needs a FixedLenFeature, and the receiver gives a VarLenFeature; build its "
            "feature_spec with make_parse_example_spec.",
        ),
        (
            {"age": dense(str)},
            NUMBER,
            "The numeric column 'age' needs numbers, and the receiver gives text; declare it as float.",
        ),
        (
            {"class": padded(np.int64)},
            WORD,
            "Column dtype and receiver dtype must be compatible. key: class, column dtype: string, receiver dtype: "
            "int64. Declare the feature with the column's dtype in the feature_spec.",
        ),
        (
            {"deck": dense(str)},
            ID,
            "Column dtype and receiver dtype must be compatible. key: deck, column dtype: int64, receiver dtype: "
            "string. Declare the feature with the column's dtype in the feature_spec.",
        ),
    ],
)
def test_a_feature_that_does_not_fit_is_refused(features, wanted, text):
    with pytest.raises(ValueError, match="Feature|column|Column") as raised:
        feed_transform(features, [wanted])
    assert str(raised.value) == text


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.int32, np.float64, np.float32])
def test_numbers_arrive_as_float32_in_the_columns_shape(dtype, rows):
    value = np.arange(rows * 2).reshape(rows, 2, 1).astype(dtype)
    got = compute(lambda x: {"fed": feed_transform({"age": x}, [NUMBER])["age"]}, value)["fed"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, value.reshape(rows, 2).astype(np.float32))


def test_a_padded_feature_is_fed_as_it_is():
    fed = feed_transform({"class": padded(str)}, [WORD])
    assert list(fed) == ["class/values", "class/lengths"]


@pytest.mark.parametrize("wanted", [WeightInput("w", dtypes.int64), SequenceInput("w", dtypes.int64)])
def test_weights_and_steps_become_float32(wanted):
    fed = feed_transform({"w": padded(np.int64)}, [wanted])
    assert fed["w/values"].unwrap_tensor().dtype == np.float32


# -- reading a feature directly ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.int32, np.int64),
        (np.uint8, np.int64),
        (np.int64, np.int64),
        (np.float64, np.float32),
        (np.float16, np.float32),
        (np.bool_, np.bool_),
    ],
)
def test_a_network_takes_numbers_as_training_gives_them(dtype, expected):
    assert direct_feature(dense(dtype)).unwrap_tensor().dtype == expected


def test_a_network_takes_no_text_and_no_padded_feature():
    assert direct_feature(dense(str)) is None
    assert direct_feature(padded(np.float32)) is None


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_rows_are_counted(rows):
    got = compute(lambda x: {"rows": count_rows(x)}, np.zeros((rows, 2), np.float32))["rows"]
    assert got.tolist() == [0] * rows
    lengths = compute(lambda n: {"rows": count_rows(Padded(n, n))}, np.zeros(rows, np.int64))["rows"]
    assert lengths.tolist() == [0] * rows


# -- dense features as padded ones ------------------------------------------------------------------------------------


def parts(made):
    return {"values": made.values, "lengths": made.lengths}


def rows_of(got):
    return [row[:length] for row, length in zip(got["values"].tolist(), got["lengths"].tolist(), strict=True)]


def test_pad_sequence():
    values = np.float32([[1, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 3]])
    pad = graph_of(lambda x: parts(pad_sequence(x, 0)), (np.float32, (None, None)))
    assert pad(values)["lengths"].tolist() == [3, 0, 4]
    assert pad(values[:, :0])["lengths"].tolist() == [0, 0, 0]
    assert compute(lambda x: parts(pad_sequence(x, 0)), values[2])["lengths"].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("value", "blank", "rows"),
    [
        (np.array([["", "a", "b"], ["c", "", ""]], object), "", [["a", "b"], ["c"]]),
        (np.array([["", ""], ["", "z"]], object), "", [[], ["z"]]),
        (np.int64([[-1, 5], [6, 7]]), -1, [[5], [6, 7]]),
        (np.empty((0, 2), object), "", []),
        (np.array(["a", ""], object), "", [["a"], []]),
        (np.float32([[0.0, 5], [-1, 7]]), 0.0, [[5], [-1, 7]]),
        (np.array([["", "a"], ["b", ""]], object), None, [["", "a"], ["b", ""]]),
        (np.array(["a", ""], object), None, [["a"], [""]]),
        (np.float32([[np.nan, 5], [0, np.nan]]), np.nan, [[5], [0]]),
    ],
)
def test_pad_dense(value, blank, rows):
    got = compute(lambda x: parts(pad_whole(x) if blank is None else pad_dense(x, blank)), value)
    assert rows_of(got) == rows


IDS = st.integers(0, 4).flatmap(lambda k: st.lists(st.lists(st.integers(-1, 3), min_size=k, max_size=k), max_size=4))
DROP = graph_of(lambda x: parts(pad_dense(x, -1)), (np.int64, (None, None)))
TRIM = graph_of(lambda x: parts(pad_sequence(x, -1)), (np.int64, (None, None)))


@given(IDS)
def test_blanks_are_dropped_and_the_rest_keeps_its_order(rows):
    values = np.int64(rows).reshape(len(rows), len(rows[0]) if rows else 0)
    got = DROP(values)
    assert rows_of(got) == [[one for one in row if one != -1] for row in rows]
    assert got["values"].shape == values.shape


@given(IDS)
def test_a_sequence_loses_blanks_at_its_end_only(rows):
    got = TRIM(np.int64(rows).reshape(len(rows), len(rows[0]) if rows else 0))
    for row, kept in zip(rows, rows_of(got), strict=True):
        assert kept == row[: len(kept)]
        assert not kept or kept[-1] != -1
        assert set(row[len(kept) :]) <= {-1}


# -- outputs ----------------------------------------------------------------------------------------------------------


def test_look_up_text():
    got = compute(lambda x: {"y": look_up_text(x, ("no", "é"))}, np.int64([[0, 1], [1, 1]]))
    assert got["y"].tolist() == [["no", "é"], ["é", "é"]]
    assert compute(lambda x: {"y": look_up_text(x, ("no",))}, np.zeros((0, 1), np.int64))["y"].shape == (0, 1)


def wanted_feature(default=None):
    return ForwardedFeature(None, (), "port", default)


def test_a_dense_feature_is_handed_on_as_it_is():
    value = np.array([["a"], [""]], object)
    assert compute(lambda x: {"y": forward({"port": x}, wanted_feature())}, value)["y"].tolist() == value.tolist()


@pytest.mark.parametrize(
    ("values", "default", "expected"),
    [
        (np.array([["a", "b"], ["c", "?"]], object), "none", [["a", "b"], ["c", "none"]]),
        (np.int64([[1, 2], [3, 9]]), -1, [[1, 2], [3, -1]]),
        (np.float32([[1, 2], [3, 9]]), 0.5, [[1, 2], [3, 0.5]]),
    ],
)
def test_a_padded_feature_is_handed_on_with_its_default(values, default, expected):
    got = compute(
        lambda x, n: {"y": forward({"port": Padded(x, n)}, wanted_feature(default))}, values, np.int64([2, 1])
    )
    assert got["y"].tolist() == expected
    assert got["y"].dtype == values.dtype


def test_a_padded_feature_without_a_default_is_refused():
    with pytest.raises(ValueError, match=r"Feature \(port\) should be a Tensor\. Please use `keys` argument of forwar"):
        forward({"port": padded(str)}, wanted_feature())
    with pytest.raises(ValueError, match="Feature port is not in features dictionary"):
        forward({"age": dense(np.float32)}, wanted_feature())


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 2), (0,), (0, 2, 2)])
def test_as_matrix(shape):
    got = compute(lambda x: {"y": as_matrix(x)}, np.zeros(shape, np.float32))["y"]
    assert got.shape == (shape[0], int(np.prod(shape[1:], dtype=int)))


def test_is_string():
    assert is_string(dense(str))
    assert not is_string(dense(np.bool_))


# -- graphs inside graphs ---------------------------------------------------------------------------------------------


def doubled(*handed_on):
    """double = x + x; the inputs `handed_on` are outputs, too, without a node, as torch writes it."""
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in ("x", "y", "double")}
    outputs = [infos[name] for name in ("double", *handed_on)]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["double"])], "g", [infos["x"], infos["y"]], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_a_graph_is_run_inside_another():
    got = compute(lambda x, y: run_graph(doubled(), {"x": x, "y": y, "other": x}), np.float32([1]), np.float32([2]))
    assert {name: one.tolist() for name, one in got.items()} == {"double": [2]}


def test_an_input_that_is_handed_on_as_an_output_passes():
    def build(x, y):
        return {name: op.identity(var) for name, var in run_graph(doubled("y"), {"x": x, "y": y}).items()}

    got = compute(build, np.float32([1]), np.float32([2]))
    assert {name: one.tolist() for name, one in got.items()} == {"double": [2], "y": [2]}


# -- the same numbers as in training ----------------------------------------------------------------------------------


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
    return session_of(finish_graph(spox.build(sent, run_graph(onnx.load_from_string(TRANSFORM.model_bytes), fed))))


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
