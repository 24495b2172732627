"""Servers on loopback with models written as ONNX text, and the clients a case needs: httpx and a bare grpc channel.

The server is imported where one is started: the tests of `test_robustness` ask processes that they start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from conformance_models import MODELS, VERSION, write_model

from estimator_serving.wire.services import SERVICES

if TYPE_CHECKING:
    import httpx

    from estimator_serving.serving.server import Server


@dataclass(frozen=True)
class Front:
    """Both fronts of one running server."""

    server: Server
    name: str
    http: httpx.Client
    channel: grpc.Channel

    def post(self, verb: str, body: bytes | str, at: str = "") -> httpx.Response:
        return self.http.post(f"/v1/models/{self.name}{at}:{verb}", content=body)

    def call(self, method: str, request: object, service: str = "tensorflow.serving.PredictionService") -> object:
        rpc = SERVICES[service][method]
        invoke = self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=rpc.request.SerializeToString,
            response_deserializer=rpc.response.FromString,
        )
        return invoke(request, timeout=30)


class Fronts:
    """Starts a server for a model the first time a case asks for it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, Front] = {}

    def __getitem__(self, name: str) -> Front:
        if name not in self._running:
            self._running[name] = self._start(name)
        return self._running[name]

    def stop(self) -> None:
        for front in self._running.values():
            front.http.close()
            front.channel.close()
            front.server.stop()

    def with_settings(self, name: str, **settings: object) -> Front:
        """A server of its own for a model, with these settings; stopped with the others."""
        key = f"{name} {settings}"
        if key not in self._running:
            self._running[key] = self._start(name, **settings)
        return self._running[key]

    def with_rights(self, name: str) -> Front:
        """A server that lets Open Inference clients do everything."""
        return self.with_settings(
            name, enable_repository_control=True, enable_system_shared_memory=True, file_system_poll_wait_seconds=0.05
        )

    def all_models(self) -> Front:
        """A server of every model."""
        configs = []
        for name in MODELS:
            self._write(name)
            configs.append(f'config {{ name: "{name}" base_path: "{self._directory / name}" model_platform: "onnx" }}')
        file = self._directory / "models"
        file.write_text(f"model_config_list {{ {' '.join(configs)} }}")
        return self.with_settings("half", model_config_file=str(file))

    def _write(self, name: str) -> None:
        if not (self._directory / name).exists():
            write_model(self._directory / name, VERSION, *MODELS[name])

    def _start(self, name: str, **settings: object) -> Front:
        import httpx

        from estimator_serving.serving.config import Config
        from estimator_serving.serving.server import Server

        self._write(name)
        config = Config(
            port=-1,
            rest_api_port=-1,
            bind_address="127.0.0.1",
            model_name=name,
            model_base_path=str(self._directory / name),
            enable_config_reload=True,  # so that garbage reaches the reader of messages
            **settings,
        )
        server = Server(config)
        server.start()
        http = httpx.Client(base_url=f"http://127.0.0.1:{server.rest_port}", timeout=30)
        return Front(server, name, http, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"))


@pytest.fixture(scope="session")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronts]:
    fronts = Fronts(tmp_path_factory.mktemp("models"))
    yield fronts
    fronts.stop()
