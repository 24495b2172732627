"""PredictionService and ModelService: rpcs as functions of bytes. Knows no sockets and no threads.

The front that calls these functions owns transport and error mapping; the table of services is wire's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.dialects.base import Unary
from estimator_serving.serving.dialects.tfs import describe, proto_codec
from estimator_serving.serving.dialects.tfs.describe import SIGNATURE_DEF_FIELD
from estimator_serving.serving.dialects.tfs.options import DEFAULT, Options
from estimator_serving.serving.errors import InvalidArgumentError, UnimplementedError
from estimator_serving.serving.predictor import Codec, Predictor
from estimator_serving.serving.request import Context
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.services import SERVICES

_SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")


def services(
    predictor: Predictor, options: Options = DEFAULT, reload: Callable[[bytes, Context], bytes] | None = None
) -> Mapping[str, Unary]:
    """Full method name -> the rpc, for every method of both services; what is not served is UNIMPLEMENTED.

    reload: the answer to HandleReloadConfigRequest.
    """
    manager = predictor.manager

    def predict(codec: Codec, payload: bytes, context: Context) -> bytes:
        return predictor.predict(codec, payload, None, context).payload

    def get_model_status(payload: bytes, context: Context) -> bytes:
        message = proto_codec.parse_message(payload, serving_pb.GetModelStatusRequest)
        spec = proto_codec.read_spec(message)
        context.require(Right.METADATA, spec.name)
        return describe.model_status(manager, spec).SerializeToString()

    def get_model_metadata(payload: bytes, context: Context) -> bytes:
        message = proto_codec.parse_message(payload, serving_pb.GetModelMetadataRequest)
        spec = proto_codec.read_spec(message)
        if not message.metadata_field:
            raise InvalidArgumentError(
                f"GetModelMetadataRequest must specify at least one metadata_field; ask for {SIGNATURE_DEF_FIELD}."
            )
        for field in message.metadata_field:
            if field != SIGNATURE_DEF_FIELD:
                raise InvalidArgumentError(f"Metadata field {field} is not supported; ask for {SIGNATURE_DEF_FIELD}.")
        context.require(Right.METADATA, spec.name)
        answered, signatures = describe.signature_defs(manager, spec)
        response = serving_pb.GetModelMetadataResponse(model_spec=answered)
        response.metadata[SIGNATURE_DEF_FIELD].Pack(signatures)
        return response.SerializeToString()

    def unimplemented(name: str, _payload: bytes, _context: Context) -> bytes:
        raise UnimplementedError(f"{name} is not served.")

    served = {
        "GetModelStatus": Unary(get_model_status, is_side=True),
        "GetModelMetadata": Unary(get_model_metadata, is_side=True),
    }
    if reload:
        served["HandleReloadConfigRequest"] = Unary(reload)
    for name, codec in proto_codec.codecs(options).items():
        served[name] = Unary(
            partial(predict, codec), partial(predictor.refuse_if_full, codec), has_quick=predictor.has_quick
        )
    return {
        f"/{service}/{name}": served.get(name) or Unary(partial(unimplemented, f"{service}/{name}"))
        for service in _SERVICES
        for name in SERVICES[service]
    }
