"""PredictRequest and PredictResponse by the compiled codec, against the messages of protobuf."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from estimator_serving.wire import native
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.tensors import TensorError, decode_tensor, encode_tensor, tensor_of_parts

DTYPES = (
    np_st.boolean_dtypes()
    | np_st.integer_dtypes(endianness="=")
    | np_st.floating_dtypes(endianness="=", sizes=(32, 64))
)
ARRAYS = np_st.arrays(DTYPES.filter(lambda dtype: dtype.char != "H"), np_st.array_shapes(min_dims=0, min_side=0))
TEXTS = st.lists(st.binary(max_size=5), min_size=1).map(lambda values: np.array(values, object))


def request_of(arrays, *, as_content=False, output_filter=(), **spec) -> serving_pb.PredictRequest:
    request = serving_pb.PredictRequest(model_spec=serving_pb.ModelSpec(name="m", **spec), output_filter=output_filter)
    for alias, array in arrays.items():
        request.inputs[alias].CopyFrom(encode_tensor(array, as_content=as_content))
    return request


def check_against_protobuf(message: bytes) -> bool:
    """What is read is what protobuf reads, and what protobuf refuses is not read. Whether anything was."""
    read = native.read_predict_request(message)
    if read is None:
        return False
    request = serving_pb.PredictRequest.FromString(message)
    name, version, label, signature_name, output_filter, inputs = read
    spec = request.model_spec
    assert (name, label or "", signature_name or "") == (spec.name, spec.version_label, spec.signature_name)
    assert version == (spec.version.value if spec.WhichOneof("version_choice") == "version" else None)
    assert list(output_filter) == list(request.output_filter)
    assert inputs.keys() == set(request.inputs)
    for alias, parts in inputs.items():
        quick, thorough = tensor_of_parts(parts, message), decode_tensor(request.inputs[alias])
        assert (quick.dtype, quick.shape) == (thorough.dtype, thorough.shape)
        assert quick.tolist() == thorough.tolist() or np.array_equal(quick, thorough, equal_nan=True)
    return True


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), ARRAYS | TEXTS), st.booleans())
def test_tensors_are_read_as_protobuf_reads_them(arrays, as_content):
    is_read = check_against_protobuf(request_of(arrays, as_content=as_content).SerializeToString())
    has_bools = as_content and any(array.dtype == bool for array in arrays.values())
    assert is_read == (all(array.size for array in arrays.values()) and not has_bools)


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int8])
def test_many_numbers_stay_in_the_message(dtype, as_content):
    array = np.arange(6000).astype(dtype).reshape(2, 3000)
    message = request_of({"a": array, "b": array[:, :1]}, as_content=as_content).SerializeToString()
    assert check_against_protobuf(message)
    values = native.read_predict_request(message)[-1]["a"][2]
    assert isinstance(values, int) == (as_content or array.dtype.kind == "f")


SPECS = [
    {}, {"version_label": "stable"}, {"signature_name": "s"}, {"version": {"value": 7}}, {"version": {}},
    {"version": {"value": -1}}, {"signature_name": "\u00e9"}, {"version_label": ""},
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
def test_model_specs(spec):
    message = request_of({"a": np.float32([1])}, output_filter=["y", "z"], **spec).SerializeToString()
    assert check_against_protobuf(message) == (
        spec.get("signature_name", "s") == "s" and spec.get("version_label") != ""
    )


WHOLE = request_of(
    {"a": np.float32([[1, 2]]), "s": np.array([b"x", b""], object), "i": np.int64([-1, 300])},
    version={"value": 2}, signature_name="s", output_filter=["y"],
).SerializeToString(deterministic=True)  # fmt: skip


@given(st.integers(0, len(WHOLE)), st.binary(max_size=3), st.integers(0, 3))
def test_broken_messages_are_never_read_otherwise(at, inserted, left_out):
    message = WHOLE[:at] + inserted + WHOLE[at + left_out :]
    try:
        serving_pb.PredictRequest.FromString(message)
    except DecodeError:
        assert native.read_predict_request(message) is None
        return
    try:
        check_against_protobuf(message)
    except TensorError:
        pytest.fail("the compiled codec read a tensor that the thorough one refuses")


@given(st.binary(max_size=60))
def test_any_bytes(message):
    try:
        serving_pb.PredictRequest.FromString(message)
    except DecodeError:
        assert native.read_predict_request(message) is None
    else:
        check_against_protobuf(message)


def test_fields_that_come_twice_are_left_to_protobuf():
    once = request_of({"a": np.float32([1])})
    for again in (request_of({}), request_of({"a": np.float32([2])})):
        assert native.read_predict_request(once.SerializeToString() + again.SerializeToString()) is None


def test_a_request_without_a_model():
    assert native.read_predict_request(b"") is None
    assert native.read_predict_request(serving_pb.PredictRequest(model_spec={}).SerializeToString()) is None


@given(ARRAYS, st.booleans())
def test_answers_are_written_as_protobuf_writes_them(array, as_content):
    written = native.write_predict_response(b"", (b"y",), (array,), as_content)
    expected = serving_pb.PredictResponse()
    expected.outputs["y"].CopyFrom(encode_tensor(array, as_content=as_content))
    assert serving_pb.PredictResponse.FromString(written) == expected
    assert len(written) == expected.ByteSize()


def test_an_answer_has_what_was_serialized_before():
    spec = serving_pb.PredictResponse(model_spec={"name": "m"}).SerializeToString()
    text = encode_tensor(np.array(["a"], object))
    written = native.write_predict_response(
        spec, (b"y", "\u00e9".encode()), (np.int32([5]), text.SerializeToString()), False
    )
    answer = serving_pb.PredictResponse.FromString(written)
    assert (answer.model_spec.name, answer.outputs["\u00e9"]) == ("m", text)
    assert answer.outputs["y"].int_val[:] == [5]


@pytest.mark.parametrize("array", [np.zeros((2, 2))[:, :1], np.float16([1]), np.array(["a"], object), np.uint16([1])])
def test_arrays_that_are_left_to_protobuf(array):
    assert native.write_predict_response(b"", (b"y",), (array,), False) is None


def test_aliases_that_do_not_match():
    with pytest.raises(ValueError, match="as many aliases as tensors"):
        native.write_predict_response(b"", (b"y",), (), False)


# --- Classify and Regress ---


def check_examples_against_protobuf(message: bytes) -> bool:
    """As check_against_protobuf, for the two requests of Examples, whose fields are the same."""
    read = native.read_examples_request(message)
    if read is None:
        return False
    request = serving_pb.ClassificationRequest.FromString(message)
    name, version, label, signature_name, examples = read
    spec = request.model_spec
    assert (name, label or "", signature_name or "") == (spec.name, spec.version_label, spec.signature_name)
    assert version == (spec.version.value if spec.WhichOneof("version_choice") == "version" else None)
    assert request.input.WhichOneof("kind") == "example_list"
    assert examples == list(request.input.example_list.examples)
    return True


def examples_request(examples, **spec) -> bytes:
    request = serving_pb.ClassificationRequest(model_spec=serving_pb.ModelSpec(name="m", **spec))
    request.input.example_list.examples.extend(examples)
    return request.SerializeToString()


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=5), st.sampled_from([{}, {"signature_name": "s"}]))
def test_examples_are_read_as_protobuf_reads_them(examples, spec):
    assert check_examples_against_protobuf(examples_request(examples, **spec))


@given(st.integers(0, 40), st.binary(max_size=4), st.integers(0, 3))
def test_broken_requests_of_examples_are_never_read_otherwise(at, inserted, left_out):
    whole = examples_request([b"abc", b"", b"d"], signature_name="s")
    check_examples_against_protobuf(whole[:at] + inserted + whole[at + left_out :])


def test_requests_of_examples_that_are_left_to_protobuf():
    with_context = serving_pb.ClassificationRequest(model_spec=serving_pb.ModelSpec(name="m"))
    with_context.input.example_list_with_context.examples.append(b"a")
    assert native.read_examples_request(with_context.SerializeToString()) is None
    assert native.read_examples_request(examples_request([])) is None
    assert native.read_examples_request(examples_request([b"a"])[5:]) is None


LABELS = st.text(max_size=3)
SCORES = st.floats(width=32, allow_nan=False)


@given(st.integers(1, 3).flatmap(lambda width: st.lists(st.tuples(*[st.tuples(LABELS, SCORES)] * width), max_size=4)))
def test_classifications_are_written_as_protobuf_reads_them(rows):
    width = len(rows[0]) if rows else 1
    labels, scores = np.empty((len(rows), width), object), np.empty((len(rows), width), np.float32)
    for index, row in enumerate(rows):
        labels[index], scores[index] = zip(*row, strict=True)
    written = native.write_classifications(labels, scores)
    result = serving_pb.ClassificationResult.FromString(written)
    assert [[one.label for one in row.classes] for row in result.classifications] == labels.tolist()
    assert [[one.score for one in row.classes] for row in result.classifications] == scores.tolist()


@pytest.mark.parametrize(("labels", "scores"), [
    (np.array([[b"a"]], object), np.zeros((1, 1), np.float32)), (np.array([["a"]], object), np.zeros((1, 1))),
    (np.array([["a"]], object), np.zeros((1, 2), np.float32)), (np.array([["\ud800"]], object), np.zeros((1, 1), "f")),
    (np.empty((2, 0), object), np.zeros((2, 0), np.float32)), (np.array(["a"], object), np.zeros(1, np.float32)),
])  # fmt: skip
def test_classifications_that_are_left_to_protobuf(labels, scores):
    assert native.write_classifications(labels, scores) is None


@given(st.lists(st.binary(max_size=5)), st.booleans())
def test_rows_are_joined(rows, as_array):
    given_rows = np.empty(len(rows), object)
    given_rows[:] = rows
    values, splits = native.join_rows(given_rows if as_array else rows)
    assert values == b"".join(rows)
    assert np.frombuffer(splits, np.int64).tolist() == np.cumsum([0, *map(len, rows)]).tolist()


def test_rows_that_are_not_joined():
    assert native.join_rows(["text"]) is None
    assert native.join_rows(np.zeros(3)) is None
    assert native.join_rows(np.array([b"a", b"b"], object)[::-1]) is None
