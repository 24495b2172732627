"""Round trips of whatever arrays there are through Predict's messages."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from estimator_serving.serving.request import Request
from estimator_serving.serving.tfs.proto_codec import CODECS
from estimator_serving.wire import dtypes
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.signatures import Signature, TensorInfo
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
