"""The process: builds every part, starts both fronts, and ends them in order.

Owns the order of start and stop and the signals; the only module that knows all the others.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from estimator_serving.serving import config as configuration
from estimator_serving.serving import servable
from estimator_serving.serving.config import FREE_PORT, OFF_PORT, Config, ConfigError
from estimator_serving.serving.grpc_server import GrpcServer
from estimator_serving.serving.manager import Manager
from estimator_serving.serving.metrics import Exposition, RequestMetrics
from estimator_serving.serving.predictor import Predictor
from estimator_serving.serving.rest_server import RestServer
from estimator_serving.serving.source import DirectorySource
from estimator_serving.serving.tfs import grpc as tfs_grpc
from estimator_serving.serving.tfs.options import Options

_log = logging.getLogger(__name__)

STOPPING = "The server is shutting down; send requests elsewhere."


class StartError(RuntimeError):
    """The server cannot start; the text is one sentence for the operator."""


class Server:
    """A model server with both fronts.

    Making one binds the ports (StartError where one is taken); `start` loads what is there and answers; `stop` drains.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stopping = False
        requests = RequestMetrics()
        self.manager = Manager(partial(servable.load, intra_op_threads=config.intra_op_threads, device=config.device))
        self._source = DirectorySource(
            Path(config.model_base_path),
            partial(self.manager.aspire, config.model_name),
            poll_wait_s=config.file_system_poll_wait_seconds,
        )
        predictor = Predictor(self.manager, requests)
        self._options = Options(
            tensor_content=config.enable_serialization_as_tensor_content,
            check_method_names=config.enable_signature_method_name_check,
        )
        self._rest = self._make_rest(predictor, Exposition(requests))
        self._grpc = self._make_grpc(predictor)

    @property
    def rest_port(self) -> int:
        """The port REST listens on, 0 where it is off."""
        return self._rest.port if self._rest else OFF_PORT

    @property
    def grpc_port(self) -> int:
        """The port gRPC listens on, 0 where it is off."""
        return self._grpc.port if self._grpc else OFF_PORT

    def start(self) -> None:
        """Load the versions that are there, then answer.

        A version that fails, or a base path that is empty, does not keep the server from starting: /readyz tells.
        """
        self.manager.aspire(self._config.model_name, {})
        self._source.start()
        # An open port means ready to TensorFlow Serving's clients, so the first load comes before it.
        self.manager.wait_until_settled()
        for name, front in (("gRPC", self._grpc), ("REST", self._rest)):
            if front:
                front.start()
                _log.info("Serving %s at %s:%d.", name, self._config.bind_address, front.port)

    def stop(self) -> None:
        """Say "not ready", accept no more, finish what is in flight within the grace period, let go of the models."""
        self._stopping = True
        self._source.stop()
        draining = [threading.Thread(target=front.stop) for front in (self._grpc, self._rest) if front]
        for thread in draining:
            thread.start()
        for thread in draining:
            thread.join()
        self.manager.stop()

    def unready(self) -> str:
        """Why requests cannot be answered now; empty when they can."""
        return STOPPING if self._stopping else self.manager.unready()

    def _make_rest(self, predictor: Predictor, exposition: Exposition) -> RestServer | None:
        config = self._config
        if config.rest_api_port == OFF_PORT:
            return None
        try:
            return RestServer(
                predictor, exposition, self.unready,
                address=config.bind_address, port=_bindable(config.rest_api_port), threads=config.rest_api_num_threads,
                body_bytes_max=config.request_bytes_max, grace_s=config.shutdown_grace_seconds,
            )  # fmt: skip
        except OSError as error:
            raise StartError(
                _taken("REST", "rest_api_port", config.bind_address, config.rest_api_port, error)
            ) from error

    def _make_grpc(self, predictor: Predictor) -> GrpcServer | None:
        config = self._config
        if config.port == OFF_PORT:
            return None
        try:
            return GrpcServer(
                tfs_grpc.methods(predictor, self._options), address=config.bind_address, port=_bindable(config.port),
                threads=config.grpc_max_threads, message_bytes_max=config.request_bytes_max,
                grace_s=config.shutdown_grace_seconds, unready=self.unready,
                health=config.enable_grpc_healthcheck_service,
            )  # fmt: skip
        except OSError as error:
            raise StartError(_taken("gRPC", "port", config.bind_address, config.port, error)) from error


def _bindable(port: int) -> int:
    """A port as the operating system takes it, which knows a free one as 0."""
    return 0 if port == FREE_PORT else port


def _taken(front: str, flag: str, address: str, port: int, error: OSError) -> str:
    because = error.strerror or "the address cannot be bound"
    return f"{front} cannot listen on {address}:{port} ({because}); stop what uses it or choose another --{flag}."


def main(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; a second signal ends at once. Returns the process's exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop_wanted = threading.Event()

    def handle(number: int, _frame: Any) -> None:
        if stop_wanted.is_set():
            os._exit(128 + number)
        stop_wanted.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    try:
        server = Server(config)
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    server.start()
    stop_wanted.wait()
    _log.info("Stopping: finishing requests in flight.")
    server.stop()
    return 0


if __name__ == "__main__":
    try:
        chosen = configuration.parse(sys.argv[1:], os.environ)
    except ConfigError as refused:
        sys.exit(str(refused))
    sys.exit(main(chosen))
