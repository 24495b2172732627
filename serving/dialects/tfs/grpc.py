"""PredictionService and ModelService: rpc names to functions of bytes. Knows no sockets and no threads.

The server that calls these functions owns transport and error mapping; the table of services is wire's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from estimator_serving.serving.dialects.tfs import describe, proto_codec
from estimator_serving.serving.dialects.tfs.describe import SIGNATURE_DEF_FIELD
from estimator_serving.serving.dialects.tfs.options import DEFAULT, Options
from estimator_serving.serving.errors import InvalidArgumentError, UnimplementedError
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.predictor import Codec, Predictor
from estimator_serving.serving.request import Context
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.services import SERVICES

Answer = Callable[[bytes, Context], bytes]


def methods(predictor: Predictor, options: Options = DEFAULT, **others: Answer) -> dict[str, dict[str, Answer]]:
    """Service name -> method name -> what answers it, for every rpc of the table of services.

    others: by name, the rpcs that more than a predictor answers.
    """
    answers: dict[str, Answer] = others | {
        "GetModelMetadata": _at_once(partial(_get_model_metadata, predictor.manager)),
        "GetModelStatus": _at_once(partial(_get_model_status, predictor.manager)),
    }
    answers |= {name: _predict(predictor, codec) for name, codec in proto_codec.codecs(options).items()}
    return {
        service: {name: answers.get(name) or partial(_refuse, f"{service}/{name}") for name in rpcs}
        for service, rpcs in SERVICES.items()
    }


def _predict(predictor: Predictor, codec: Codec) -> Answer:
    def answer(payload: bytes, context: Context) -> bytes:
        return predictor.predict(codec, payload, None, context).payload

    return answer


def _at_once(function: Callable[[bytes], bytes]) -> Answer:
    """What takes no time, whoever waits for it."""
    return lambda payload, _context: function(payload)


def _get_model_status(manager: Manager, payload: bytes) -> bytes:
    message = proto_codec.parse_message(payload, serving_pb.GetModelStatusRequest)
    return describe.model_status(manager, proto_codec.read_spec(message)).SerializeToString()


def _get_model_metadata(manager: Manager, payload: bytes) -> bytes:
    message = proto_codec.parse_message(payload, serving_pb.GetModelMetadataRequest)
    spec = proto_codec.read_spec(message)
    _check_fields(message.metadata_field)
    answered, signatures = describe.signature_defs(manager, spec)
    response = serving_pb.GetModelMetadataResponse(model_spec=answered)
    response.metadata[SIGNATURE_DEF_FIELD].Pack(signatures)
    return response.SerializeToString()


def _check_fields(fields: Collection[str]) -> None:
    if not fields:
        raise InvalidArgumentError(
            f"GetModelMetadataRequest must specify at least one metadata_field; ask for {SIGNATURE_DEF_FIELD}."
        )
    for field in fields:
        if field != SIGNATURE_DEF_FIELD:
            raise InvalidArgumentError(f"Metadata field {field} is not supported; ask for {SIGNATURE_DEF_FIELD}.")


def _refuse(name: str, *_: Any) -> bytes:
    raise UnimplementedError(f"{name} is not served.")
