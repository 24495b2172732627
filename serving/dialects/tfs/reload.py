"""HandleReloadConfigRequest: another list of models, and how much counters grew meanwhile.

Owns the rpc's rules. What a list may hold is in `model_config`, how it comes into force in `catalog`.
"""

from __future__ import annotations

from collections.abc import Callable

from estimator_serving.serving.dialects.tfs.proto_codec import parse_message
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.models import model_config
from estimator_serving.serving.models.catalog import ModelList
from estimator_serving.serving.request import Context
from estimator_serving.wire.pb import serving_pb

# The total of a counter by its name, 0 for an unknown name.
Total = Callable[[str], int]


def handle_reload(catalog: ModelList, total: Total, payload: bytes, context: Context, *, is_open: bool = True) -> bytes:
    """Put the request's list of models in force; answers once every new model serves.

    is_open: whether everybody may, as in TensorFlow Serving, where the server asks for no keys.

    Raises InvalidArgumentError for anything but a list of models, PermissionDeniedError, and whatever the list's rules
    or the catalog raise.
    """
    context.require_management(None, is_open=is_open, flag="--enable_config_reload")
    message = parse_message(payload, serving_pb.ReloadConfigRequest)
    if message.config.WhichOneof("config") != "model_config_list":
        raise InvalidArgumentError(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported; set model_config_list."
        )
    before = {name: total(name) for name in message.metric_names}
    catalog.replace(model_config.read_list(message.config.model_config_list))
    response = serving_pb.ReloadConfigResponse()
    response.status.error_code = 0
    for name, value in before.items():
        response.metric.add(name=name, int64_value_increase=total(name) - value)
    return response.SerializeToString()
