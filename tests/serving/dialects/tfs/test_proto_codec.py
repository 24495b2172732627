"""Round trips of whatever arrays there are through the messages."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from estimator_serving.serving.dialects.tfs.proto_codec import CODECS
from estimator_serving.serving.request import Request
from estimator_serving.wire import dtypes
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.signatures import (
    CLASSIFY_CLASSES,
    CLASSIFY_INPUTS,
    CLASSIFY_SCORES,
    REGRESS_INPUTS,
    REGRESS_OUTPUTS,
    Signature,
    TensorInfo,
)
from estimator_serving.wire.tensors import decode_tensor, encode_tensor

ARRAYS = np_st.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_, np.float16]),
    np_st.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), ARRAYS, max_size=3), st.booleans())
def test_predict(arrays, as_content):
    infos = {alias: TensorInfo(f"{alias}:0", dtypes.from_numpy(array.dtype), None) for alias, array in arrays.items()}
    servable = SimpleNamespace(name="m", version=7, signatures={"serving_default": Signature(infos, infos, "")})
    message = serving_pb.PredictRequest(model_spec=serving_pb.ModelSpec(name="m"))
    for alias, array in arrays.items():
        message.inputs[alias].CopyFrom(encode_tensor(array, as_content=as_content))

    codec = CODECS["Predict"]
    request = codec.decode(codec.parse(message.SerializeToString(), None), servable)
    assert isinstance(request, Request)
    answer = serving_pb.PredictResponse.FromString(codec.encode(request.inputs, request, servable))
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 7)
    assert answer.outputs.keys() == arrays.keys()
    for alias, array in arrays.items():
        np.testing.assert_array_equal(decode_tensor(answer.outputs[alias]), array)


FLOATS = st.floats(width=32, allow_nan=False)
# Labels beyond 127 bytes have a length of two bytes, and so has what they stand in.
LABELS = st.text(max_size=3) | st.just("é" * 100) | st.just("x" * 20_000)


@st.composite
def classes(draw):
    """Labels and scores [rows, n]: of every row its own labels, or of all the same."""
    rows, count = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    one = st.lists(LABELS, min_size=count, max_size=count)
    labels = [draw(one)] * rows if draw(st.booleans()) else [draw(one) for _ in range(rows)]
    scores = draw(np_st.arrays(np.float32, (rows, count), elements=FLOATS))
    return np.array(labels, object).reshape(rows, count), scores


@given(classes())
def test_classify(drawn):
    labels, scores = drawn
    request = Request("s", {CLASSIFY_INPUTS: np.zeros(len(labels), object)})
    outputs = {CLASSIFY_CLASSES: labels, CLASSIFY_SCORES: scores}
    payload = CODECS["Classify"].encode(outputs, request, SimpleNamespace(name="m", version=7))
    answer = serving_pb.ClassificationResponse.FromString(payload)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 7)
    assert [[(one.label, one.score) for one in row.classes] for row in answer.result.classifications] == [
        list(zip(*row, strict=True)) for row in zip(labels.tolist(), scores.tolist(), strict=True)
    ]


@given(np_st.arrays(np.float32, st.integers(1, 5), elements=FLOATS), st.booleans())
def test_regress(values, as_column):
    request = Request("s", {REGRESS_INPUTS: np.zeros(len(values), object)})
    outputs = {REGRESS_OUTPUTS: values[:, None] if as_column else values}
    payload = CODECS["Regress"].encode(outputs, request, SimpleNamespace(name="m", version=7))
    answer = serving_pb.RegressionResponse.FromString(payload)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 7)
    assert [one.value for one in answer.result.regressions] == values.tolist()
