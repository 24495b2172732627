"""The two sides of `estimator-serving compare`: a running model server, or a servable on disk.

Both answer the same question: which outputs does this signature give for these inputs? Owns how a side is named on the
command line and how its answers become arrays. Does not know what they are compared with.
"""

from __future__ import annotations

import argparse
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt

from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.in_process import load
from estimator_serving.wire.features import FeatureSpec
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.prediction_logs import outputs_of, request_of
from estimator_serving.wire.services import SERVICES
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    REGRESS_METHOD,
    REGRESS_OUTPUTS,
    Signature,
    signature_from_proto,
)

Arrays = Mapping[str, npt.NDArray[Any]]

_SERVICE = "tensorflow.serving.PredictionService"
_RPCS = {PREDICT_METHOD: "Predict", CLASSIFY_METHOD: "Classify", REGRESS_METHOD: "Regress"}
_ADDRESS = re.compile(r"(?P<scheme>grpcs?)://(?P<host>[^/]+)/(?P<model>[^/]+)(/(?P<version>\d+))?")
SIDE = "grpc://HOST:PORT/MODEL[/VERSION] (grpcs:// for TLS), or the path of a servable"
KEY_VARIABLE = "ESTIMATOR_SERVING_KEY"
TIMEOUT_S = 30.0


class Credentials(NamedTuple):
    """How a protected server is asked.

    key: sent to it, empty for none. authorities: PEM of those that sign servers' certificates, None for the system's.
    """

    key: str = ""
    authorities: bytes | None = None


def add_credential_flags(parser: argparse.ArgumentParser) -> None:
    """The flags by which a protected server is asked."""
    parser.add_argument("--key", help=f"key that servers are asked with (default: ${KEY_VARIABLE})")
    parser.add_argument(
        "--ca_file", metavar="FILE", help="PEM certificates of the authorities to trust for grpcs:// (the system's)"
    )


def read_credentials(chosen: argparse.Namespace) -> Credentials:
    """What these flags and the environment say. Raises OSError."""
    key = os.environ.get(KEY_VARIABLE, "") if chosen.key is None else chosen.key
    return Credentials(key, Path(chosen.ca_file).read_bytes() if chosen.ca_file else None)


class Refusal(NamedTuple):
    """The error that a side answers with: the name of its canonical code, and its text."""

    code: str
    text: str


class Peer(ABC):
    """One side of a comparison.

    Attributes:
        signatures: by key.
        feature_spec: the features of its Examples; None if the side does not say.
        directory: the version directory of a servable; None for a server.
    """

    signatures: Mapping[str, Signature]
    feature_spec: FeatureSpec | None = None
    directory: Path | None = None

    @abstractmethod
    def ask(self, key: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]] | Refusal:
        """The outputs of a signature by alias, or the error it answers with."""


def open_peer(text: str, timeout_s: float = TIMEOUT_S, credentials: Credentials = Credentials()) -> Peer:  # noqa: B008
    """The side that a command-line argument names: `grpc://HOST:PORT/MODEL[/VERSION]`, or the path of a servable.

    Raises ValueError for an argument that is neither, for a server that cannot be reached, and for an unknown model.
    """
    if not is_server(text):
        return _Servable(text)
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is not the address of a model; write grpc://HOST:PORT/MODEL or .../MODEL/VERSION.")
    return _Server(text, found, timeout_s, credentials)


def is_server(text: str) -> bool:
    """Whether a command-line argument names a model of a server."""
    return text.startswith(("grpc://", "grpcs://"))


class _Server(Peer):
    """A model of a server that speaks TensorFlow Serving's gRPC API."""

    def __init__(self, text: str, found: re.Match[str], timeout_s: float, credentials: Credentials) -> None:
        self._spec = serving_pb.ModelSpec(name=found["model"])
        if found["version"] is not None:
            self._spec.version.value = int(found["version"])
        self._timeout_s = timeout_s
        self._metadata = [("authorization", f"Bearer {credentials.key}")] if credentials.key else None
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        if found["scheme"] == "grpcs":
            tls = grpc.ssl_channel_credentials(credentials.authorities)
            self._channel = grpc.secure_channel(found["host"], tls, options)
        else:
            self._channel = grpc.insecure_channel(found["host"], options)
        request = serving_pb.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.CopyFrom(self._spec)
        try:
            response = self._call("GetModelMetadata", request)
        except grpc.RpcError as error:
            raise ValueError(
                f"{text} does not answer: {error.code().name}: {error.details()}. "
                "Check the address, the name of the model and its version, --key if the server asks for keys, and "
                "grpcs:// if it speaks TLS, with --ca_file if this system does not trust its certificate."
            ) from error
        signatures = serving_pb.SignatureDefMap.FromString(response.metadata["signature_def"].value).signature_def
        self.signatures = {key: signature_from_proto(signatures[key]) for key in sorted(signatures)}

    def ask(self, key: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]] | Refusal:
        signature = self.signatures[key]
        request = request_of(signature.method_name, key, inputs)
        request.model_spec.name = self._spec.name
        if self._spec.HasField("version"):
            request.model_spec.version.CopyFrom(self._spec.version)
        try:
            outputs = outputs_of(signature.method_name, self._call(_RPCS[signature.method_name], request))
        except grpc.RpcError as error:
            return Refusal(error.code().name, error.details() or "")
        return {alias: array for alias, array in outputs.items() if alias in signature.outputs}

    def _call(self, method: str, request: Any) -> Any:
        response = SERVICES[_SERVICE][method].response
        rpc = self._channel.unary_unary(f"/{_SERVICE}/{method}", type(request).SerializeToString, response.FromString)
        return rpc(request, timeout=self._timeout_s, metadata=self._metadata)


class _Servable(Peer):
    """A servable on disk, run in this process."""

    def __init__(self, path: str) -> None:
        try:
            self._loaded = load(path)
        except ServingError as error:
            raise ValueError(str(error)) from error
        self.directory = self._loaded.path
        self.feature_spec = self._loaded.feature_spec
        self.signatures = {key: one.signature for key, one in self._loaded.signatures.items()}

    def ask(self, key: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]] | Refusal:
        try:
            outputs = self._loaded.signatures[key](**inputs)
        except ServingError as error:
            return Refusal(error.code.name, str(error))
        if self.signatures[key].method_name == REGRESS_METHOD:
            return {REGRESS_OUTPUTS: np.asarray(outputs[REGRESS_OUTPUTS]).reshape(-1)}
        return outputs
