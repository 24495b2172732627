"""inference.GRPCInferenceService: rpcs as functions of bytes. Knows no sockets.

Owns which message asks what of the modules beside it. The table of services is wire's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from google.protobuf import json_format

from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.dialects.base import Streaming, Unary
from estimator_serving.serving.dialects.oip import describe, infer, proto_codec, settings
from estimator_serving.serving.dialects.oip.describe import Models
from estimator_serving.serving.dialects.oip.proto_codec import parse_message, read_spec
from estimator_serving.serving.dialects.oip.repository import Repository
from estimator_serving.serving.dialects.oip.shared_memory import CUDA_TEXT, Regions
from estimator_serving.serving.dialects.oip.stream import answer_in_order
from estimator_serving.serving.errors import NotFoundError, UnimplementedError, as_serving_error
from estimator_serving.serving.predictor import Codec, Predictor
from estimator_serving.serving.request import Context
from estimator_serving.wire.pb import POOL, inference_pb
from estimator_serving.wire.services import SERVICES

SERVICE = "inference.GRPCInferenceService"
STREAM_THREADS = 32


class Rpcs(NamedTuple):
    """The service over one predictor. unready: why requests cannot be answered now, empty when they can.

    A method that takes a message answers with the response's JSON, None for an empty response.
    """

    predictor: Predictor
    models: Models
    repository: Repository
    regions: Regions
    unready: Callable[[], str]

    def services(self) -> Mapping[str, Unary | Streaming]:
        """Full method name -> the rpc, for every method of the service."""
        codec = proto_codec.codec(self.regions)
        full_for_s = partial(self.predictor.refuse_if_full, codec)
        infer_one = partial(self._infer, codec)
        pool = ThreadPoolExecutor(STREAM_THREADS, thread_name_prefix="stream")
        rpcs: dict[str, Unary | Streaming] = {
            name: Unary(partial(_answer, name, partial(answer, self)), is_side=name not in _LONG, is_open=name in _OPEN)
            for name, answer in _ANSWERS.items()
        }
        rpcs["ModelInfer"] = Unary(infer_one, full_for_s, has_quick=self.predictor.has_quick)
        rpcs["ModelStreamInfer"] = Streaming(
            partial(_infer_stream, infer_one, pool), full_for_s, partial(pool.shutdown, wait=False)
        )
        return {f"/{SERVICE}/{name}": rpc for name, rpc in rpcs.items()}

    def _infer(self, codec: Codec, payload: bytes, context: Context) -> bytes:
        try:
            return self.predictor.predict(codec, payload, None, context).payload
        except NotFoundError:
            message = inference_pb.ModelInferRequest.FromString(payload)
            raise infer.unknown_model(read_spec(message.model_name, message.model_version)) from None

    # --- the server and its models ---

    def live(self, _message: Any, _context: Context) -> Any:
        return {"live": True}

    def ready(self, _message: Any, _context: Context) -> Any:
        return {"ready": not self.unready()}

    def server_metadata(self, _message: Any, _context: Context) -> Any:
        return describe.server(shared_memory=self.regions.is_enabled)

    def model_ready(self, message: Any, _context: Context) -> Any:
        return {"ready": self.models.is_ready(read_spec(message.name, message.version))}

    def model_metadata(self, message: Any, _context: Context) -> Any:
        return self.models.metadata(read_spec(message.name, message.version))

    def model_config(self, message: Any, _context: Context) -> Any:
        return {"config": self.models.config(read_spec(message.name, message.version))}

    def model_statistics(self, message: Any, _context: Context) -> Any:
        return self.models.statistics(read_spec(message.name, message.version) if message.name else None)

    # --- the repository ---

    def repository_index(self, message: Any, _context: Context) -> Any:
        return {"models": self.repository.index(message.repository_name, ready=message.ready)}

    def load(self, message: Any, context: Context) -> None:
        name, parameters, repository_name = _read_change(message)
        self.repository.load(name, parameters, context, repository_name)

    def unload(self, message: Any, context: Context) -> None:
        name, parameters, repository_name = _read_change(message)
        self.repository.unload(name, parameters, context, repository_name)

    # --- shared memory ---

    def region_status(self, message: Any, _context: Context) -> Any:
        return {"regions": {region["name"]: region for region in self.regions.status(message.name)}}

    def region_register(self, message: Any, _context: Context) -> None:
        self.regions.register(message.name, message.key, message.offset, message.byte_size)

    def region_unregister(self, message: Any, _context: Context) -> None:
        self.regions.unregister(message.name)

    def refuse_cuda(self, _message: Any, _context: Context) -> None:
        raise UnimplementedError(CUDA_TEXT)

    # --- settings ---

    def trace(self, message: Any, _context: Context) -> Any:
        changed = settings.change_trace({name: list(value.value) for name, value in message.settings.items()})
        return {"settings": {name: {"value": values} for name, values in changed.items()}}

    def log(self, message: Any, context: Context) -> Any:
        changes = proto_codec.read_parameters(message.settings)
        if changes:
            self.repository.check_right(None, context)
        changed = settings.change_log(changes)
        return {"settings": {name: {_LOG_FIELDS[type(value)]: value} for name, value in changed.items()}}


# These wait for a model to load or to end.
_LONG = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})
_OPEN = frozenset({"ServerLive", "ServerReady"})
# What the caller needs for the model that the message names; for every model, if it names none.
_RIGHTS = {
    "ModelReady": Right.METADATA,
    "ModelMetadata": Right.METADATA,
    "ModelConfig": Right.METADATA,
    "ModelStatistics": Right.METADATA,
    "RepositoryIndex": Right.METADATA,
    "SystemSharedMemoryStatus": Right.PREDICT,
    "SystemSharedMemoryRegister": Right.PREDICT,
    "SystemSharedMemoryUnregister": Right.PREDICT,
}
_ANSWERS: Mapping[str, Callable[[Rpcs, Any, Context], Any]] = {
    "ServerLive": Rpcs.live,
    "ServerReady": Rpcs.ready,
    "ModelReady": Rpcs.model_ready,
    "ServerMetadata": Rpcs.server_metadata,
    "ModelMetadata": Rpcs.model_metadata,
    "ModelConfig": Rpcs.model_config,
    "ModelStatistics": Rpcs.model_statistics,
    "RepositoryIndex": Rpcs.repository_index,
    "RepositoryModelLoad": Rpcs.load,
    "RepositoryModelUnload": Rpcs.unload,
    "SystemSharedMemoryStatus": Rpcs.region_status,
    "SystemSharedMemoryRegister": Rpcs.region_register,
    "SystemSharedMemoryUnregister": Rpcs.region_unregister,
    "CudaSharedMemoryStatus": Rpcs.refuse_cuda,
    "CudaSharedMemoryRegister": Rpcs.refuse_cuda,
    "CudaSharedMemoryUnregister": Rpcs.refuse_cuda,
    "TraceSetting": Rpcs.trace,
    "LogSettings": Rpcs.log,
}


def _infer_stream(
    infer_one: Callable[[bytes, Context], bytes],
    pool: ThreadPoolExecutor,
    payloads: Iterator[bytes],
    context: Context,
) -> Iterator[bytes]:
    """The answers to a stream of requests; what is wrong with one is said in its place."""

    def answer(payload: bytes) -> bytes:
        response = inference_pb.ModelStreamInferResponse()
        try:
            response.infer_response.MergeFromString(infer_one(payload, context))
            response.infer_response.parameters["triton_final_response"].bool_param = True
        except Exception as error:
            response.error_message = as_serving_error(error).message
        return response.SerializeToString()

    return answer_in_order(answer, payloads, pool)


def _read_change(message: Any) -> tuple[str, Collection[str], str]:
    """Model, names of parameters and repository of a load or unload.

    KServe's message has the model's name where Triton's has the repository's.
    """
    names = (message.model_name, message.repository_name)
    name, repository_name = names if message.model_name else reversed(names)
    return name, message.parameters.keys(), repository_name


# The field of a log setting that carries a value of each type.
_LOG_FIELDS = {bool: "bool_param", int: "uint32_param", str: "string_param"}


def _answer(name: str, answer: Callable[[Any, Context], Any], payload: bytes, context: Context) -> bytes:
    """The response of an rpc whose answer is the response's JSON; None for an empty one."""
    method = SERVICES[SERVICE][name]
    message = parse_message(payload, method.request)
    if name in _RIGHTS:
        # The name in messages of shared memory is a region's, and regions are every client's.
        named = getattr(message, "name", "") if _RIGHTS[name] is Right.METADATA else ""
        context.require(_RIGHTS[name], named or None)
    value = answer(message, context)
    response = method.response()
    if value is not None:
        json_format.ParseDict(value, response, descriptor_pool=POOL)
    return response.SerializeToString()
