"""What models are and how they are: the status and metadata messages, which both transports answer.

Owns GetModelStatus and GetModelMetadata as functions of a Manager. Knows neither URLs nor grpc.
"""

from __future__ import annotations

from estimator_serving.serving.dialects.tfs.proto_codec import write_spec
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.request import ModelSpec
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.signatures import signature_to_proto

SIGNATURE_DEF_FIELD = "signature_def"


def model_status(manager: Manager, spec: ModelSpec) -> serving_pb.GetModelStatusResponse:
    """The states of a model's versions, newest first.

    Raises NotFoundError, and InvalidArgumentError for an unknown label.
    """
    response = serving_pb.GetModelStatusResponse()
    for status in manager.status(spec.name, manager.named_version(spec)):
        entry = response.model_version_status.add(version=status.version, state=int(status.state))
        entry.status.error_code = int(status.code)
        entry.status.error_message = status.message
    return response


def signature_defs(manager: Manager, spec: ModelSpec) -> tuple[serving_pb.ModelSpec, serving_pb.SignatureDefMap]:
    """The version a spec names, and its signatures.

    Raises NotFoundError, and InvalidArgumentError for an unknown label.
    """
    answered, signatures = serving_pb.ModelSpec(), serving_pb.SignatureDefMap()
    with manager.servable(spec) as servable:
        write_spec(answered, servable)
        for key, signature in servable.signatures.items():
            signatures.signature_def[key].CopyFrom(signature_to_proto(signature))
    return answered, signatures
