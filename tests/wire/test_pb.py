"""The private pool: it holds upstream's names, and lives beside other people's copies of them."""

import subprocess
import sys

import pytest

from estimator_serving.wire.pb import POOL, serving_pb, tensorflow_pb
from estimator_serving.wire.services import SERVICES

IMPORT_OURS = "from estimator_serving.wire.pb import serving_pb, tensorflow_pb; import estimator_serving.wire.services"


def test_messages_keep_upstreams_names():
    assert tensorflow_pb.Example.DESCRIPTOR.full_name == "tensorflow.Example"
    assert serving_pb.PredictRequest.DESCRIPTOR.full_name == "tensorflow.serving.PredictRequest"
    assert POOL.FindFileByName("tensorflow/core/framework/tensor.proto").package == "tensorflow"
    assert tensorflow_pb.DataType.Value("DT_INT64") == 9


def test_examples_pass_as_bytes():
    """What upstream declares as messages is one wire format with the bytes declared here."""
    example = tensorflow_pb.Example()
    example.features.feature["x"].int64_list.value.append(1)
    serialized = example.SerializeToString()
    request = serving_pb.ClassificationRequest()
    request.input.example_list.examples.append(serialized)
    parsed = serving_pb.ClassificationRequest.FromString(request.SerializeToString())
    assert list(parsed.input.example_list.examples) == [serialized]


def test_unknown_request_fields_are_ignored():
    # Field 6 of PredictRequest is upstream's client_id.
    assert serving_pb.PredictRequest.FromString(b"\x32\x03abc").inputs == {}


def test_any_carries_upstreams_type_url():
    response = serving_pb.GetModelMetadataResponse()
    response.metadata["signature_def"].Pack(serving_pb.SignatureDefMap())
    assert response.metadata["signature_def"].type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"


def test_the_services_are_tensorflow_servings():
    assert set(SERVICES) == {
        "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "inference.GRPCInferenceService",
    }  # fmt: skip
    predict = SERVICES["tensorflow.serving.PredictionService"]["Predict"]
    assert (predict.request, predict.response) == (serving_pb.PredictRequest, serving_pb.PredictResponse)


@pytest.mark.parametrize(
    "theirs",
    [
        "import ovmsclient",
        "import tritonclient.grpc",
        "import tensorboard.compat.proto.summary_pb2",
    ],
)
@pytest.mark.parametrize("ours_first", [True, False])
def test_lives_beside_other_copies_in_one_process(theirs, ours_first):
    lines = [IMPORT_OURS, theirs] if ours_first else [theirs, IMPORT_OURS]
    code = "\n".join([*lines, "tensorflow_pb.Example(); serving_pb.PredictRequest()"])
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
