"""The process: builds every part, starts both fronts, and ends them in order.

Owns the order of start and stop and the signals; the only module that knows all the others.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from estimator_serving.serving import config as configuration
from estimator_serving.serving.config import FREE_PORT, OFF_PORT, Config, ConfigError
from estimator_serving.serving.dialects.tfs import grpc as tfs_grpc
from estimator_serving.serving.dialects.tfs import proto_codec
from estimator_serving.serving.dialects.tfs.options import DEFAULT, Options
from estimator_serving.serving.dialects.tfs.reload import handle_reload
from estimator_serving.serving.dialects.tfs.replay import answer
from estimator_serving.serving.dialects.tfs.rest import Rest
from estimator_serving.serving.errors import STOPPING_TEXT, ServingError
from estimator_serving.serving.grpc.credentials import read_credentials
from estimator_serving.serving.grpc.server import GrpcServer
from estimator_serving.serving.http.app import RestServer
from estimator_serving.serving.log_settings import LogSettings
from estimator_serving.serving.metrics import BatchMetrics, Exposition, LoadMetrics, LogMetrics, RequestMetrics
from estimator_serving.serving.models import memory, model_config
from estimator_serving.serving.models.catalog import Catalog, ConfigFile
from estimator_serving.serving.models.loader import Loader
from estimator_serving.serving.models.manager import Manager, Retries
from estimator_serving.serving.models.model_config import ModelConfig
from estimator_serving.serving.models.sources.directory import DirectorySource
from estimator_serving.serving.observing import monitoring
from estimator_serving.serving.observing.access_log import AccessLog
from estimator_serving.serving.observing.monitoring import ConfigGauge, VersionGauges
from estimator_serving.serving.observing.request_log import RequestLog
from estimator_serving.serving.policy import TRANSITIONS
from estimator_serving.serving.predictor import Predictor
from estimator_serving.serving.request import DEADLINE_S_MAX
from estimator_serving.serving.running import batch_parameters, batching, servable
from estimator_serving.serving.running.batch_parameters import BatchParameters, BatchParametersError
from estimator_serving.serving.running.servable import Batching

_log = logging.getLogger(__name__)

# How long `stop` waits for a load, which nothing can interrupt and nobody waits for any more.
LOAD_END_S = 2.0
THREADS_END_S = 1.0


class StartError(RuntimeError):
    """The server cannot start; the text is one sentence for the operator."""


class Server:
    """A model server with both fronts.

    Making one reads the files its flags name and binds the ports; `start` loads what is there and answers; `stop`
    drains.

    Raises:
        StartError: a port or socket that is taken, a file that cannot be read or breaks a rule.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stopping = False
        self._starting = threading.Lock()
        requests, batches, loads = RequestMetrics(), BatchMetrics(), LoadMetrics()
        self._models = _read_models(config)
        self._options = Options(
            tensor_content=config.enable_serialization_as_tensor_content,
            check_method_names=config.enable_signature_method_name_check,
        )
        self.manager = Manager(
            monitoring.timed(_make_loader(config, _read_batching(config, batches), loads), loads),
            load_threads=config.load_threads,
            unload_threads=config.unload_threads,
            next_action=TRANSITIONS[config.aspired_version_policy],
            retries=Retries(config.max_num_load_retries, config.load_retry_interval_micros / 1e6),
            unloaded=memory.give_back,
        )
        source = DirectorySource(
            self.manager.aspire,
            poll_wait_s=config.file_system_poll_wait_seconds,
            always_present=config.servable_versions_always_present,
        )
        self._source = source
        self.catalog = Catalog(
            self.manager, source, labels_for_unavailable=config.allow_version_labels_for_unavailable_models
        )
        self._file = ConfigFile(
            config.model_config_file, self.catalog, poll_wait_s=config.model_config_file_poll_wait_seconds
        )
        logged = LogMetrics()
        self._logs: list[RequestLog | AccessLog] = [RequestLog(self.catalog.log_settings, proto_codec.CODECS, logged)]
        if config.access_log:
            self._logs.append(AccessLog(config.access_log))
        predictor = Predictor(self.manager, requests, self._logs)
        gauges = VersionGauges(self.manager)
        exposition = Exposition(
            requests, batches, loads, logged, gauges, ConfigGauge(lambda: self._file.trouble),
            loaded=gauges.loaded, paths=_read_metrics_paths(config),
        )  # fmt: skip
        self._rest = self._make_rest(predictor, exposition)
        try:
            self._grpc = self._make_grpc(predictor, exposition)
        except StartError:
            if self._rest:
                self._rest.stop()
            raise

    @property
    def rest_port(self) -> int:
        """The port REST listens on, 0 where it is off."""
        return self._rest.port if self._rest else OFF_PORT

    @property
    def grpc_port(self) -> int:
        """The port gRPC listens on, 0 where it is off."""
        return self._grpc.port if self._grpc else OFF_PORT

    def start(self) -> None:
        """Load the versions that are there, then answer; returns early when `stop` is called meanwhile.

        A version that fails, or a base path that is empty, does not keep the server from starting: /readyz tells.
        """
        with self._starting:
            # An open port means ready to TensorFlow Serving's clients, so the first load comes before it.
            left_out = self.catalog.start(self._models)
            if self._stopping:
                return
            self._source.start()
            if self._config.model_config_file:
                self._file.start(left_out)
            for name, front in (("gRPC", self._grpc), ("REST", self._rest)):
                if front:
                    front.start()
                if front and front.port:
                    _log.info("Serving %s at %s:%d.", name, self._config.bind_address, front.port)
            if self._config.grpc_socket_path:
                _log.info("Serving gRPC at unix:%s.", self._config.grpc_socket_path)

    def look(self) -> None:
        """Read the file of models and look at the base paths now, without waiting for the next poll."""
        if self._config.model_config_file:
            self._file.look()
        self.catalog.look()

    def stop(self) -> bool:
        """Say "not ready", accept no more, finish what is in flight within the grace period, let go of the models.

        Returns False when a load is still going on, which nothing can interrupt.
        """
        self._stopping = True
        self.catalog.stop()
        self._file.stop()
        with self._starting:
            draining = [threading.Thread(target=front.stop) for front in (self._grpc, self._rest) if front]
            for thread in draining:
                thread.start()
            for thread in draining:
                thread.join()
        for log in self._logs:
            log.close()
        return self.manager.stop(LOAD_END_S)

    def unready(self) -> str:
        """Why requests cannot be answered now; empty when they can."""
        return STOPPING_TEXT if self._stopping else self.manager.unready()

    def _make_rest(self, predictor: Predictor, exposition: Exposition) -> RestServer | None:
        config = self._config
        if config.rest_api_port == config.port and config.port > OFF_PORT:
            _log.error("--rest_api_port is --port, %d; REST is off. Give it a port of its own.", config.port)
            return None
        if config.rest_api_port == OFF_PORT:
            return None
        try:
            return RestServer(
                Rest(predictor, self._options, cors=config.rest_api_enable_cors_support), exposition, self.unready,
                address=config.bind_address, port=_bindable(config.rest_api_port),
                threads=_threads(config, config.rest_api_num_threads),
                body_bytes_max=config.request_bytes_max, grace_s=config.shutdown_grace_seconds,
                timeout_s=min(config.rest_api_timeout_in_ms / 1000, DEADLINE_S_MAX), trouble=lambda: self._file.trouble,
            )  # fmt: skip
        except OSError as error:
            raise StartError(
                _taken("REST", "rest_api_port", config.bind_address, config.rest_api_port, error)
            ) from error

    def _make_grpc(self, predictor: Predictor, exposition: Exposition) -> GrpcServer | None:
        config = self._config
        if config.port == OFF_PORT and not config.grpc_socket_path:
            return None
        reload = partial(handle_reload, self.catalog, exposition.total)
        try:
            return GrpcServer(
                tfs_grpc.methods(predictor, self._options, HandleReloadConfigRequest=reload),
                address=config.bind_address, port=None if config.port == OFF_PORT else _bindable(config.port),
                threads=_threads(config, config.grpc_max_threads), message_bytes_max=config.request_bytes_max,
                grace_s=config.shutdown_grace_seconds, unready=self.unready, is_full=partial(_is_full, predictor),
                health=config.enable_grpc_healthcheck_service, credentials=read_credentials(config),
                socket_path=config.grpc_socket_path, arguments=config.channel_arguments(),
            )  # fmt: skip
        except ConfigError as error:
            raise StartError(f"Failed to start server. Error: {error}") from error
        except OSError as error:
            raise StartError(_grpc_refused(config, error)) from error


def _is_full(predictor: Predictor, method: str) -> bool:
    return method in proto_codec.CODECS and predictor.turns_away(proto_codec.CODECS[method])


def _grpc_refused(config: Config, error: OSError) -> str:
    """What keeps gRPC from listening: grpc's own error does not tell a port from a certificate from a socket."""
    if config.port != OFF_PORT and not _can_bind(config.bind_address, _bindable(config.port)):
        return _taken("gRPC", "port", config.bind_address, config.port, error)
    if config.ssl_config_file:
        return (
            f"gRPC cannot speak TLS with --ssl_config_file={config.ssl_config_file}; check that server_key and "
            "server_cert are PEM texts and belong together."
        )
    because = error.strerror or "the address cannot be bound"
    return (
        f"gRPC cannot listen on the socket {config.grpc_socket_path} ({because}); "
        "stop what uses it or choose another --grpc_socket_path."
    )


def _can_bind(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _threads(config: Config, threads: int) -> int:
    """The threads of a front: where requests wait for each other, they need more than those that run."""
    return max(threads, batching.REQUEST_THREADS) if config.enable_batching else threads


def _read_batching(config: Config, metrics: BatchMetrics) -> Batching | None:
    """Whether and how versions batch. Raises StartError where the parameters cannot be used."""
    if not config.enable_batching:
        return None
    parameters, path = BatchParameters(), config.batching_parameters_file
    try:
        if path:
            parameters = batch_parameters.parse(configuration.read_text("batching_parameters_file", path), path)
    except (BatchParametersError, ConfigError) as error:
        raise StartError(str(error)) from None
    return Batching(parameters, config.enable_per_model_batching_parameters, metrics.meter)


def _read_metrics_paths(config: Config) -> tuple[str, ...]:
    try:
        return monitoring.read_paths(config.monitoring_config_file)
    except ConfigError as error:
        raise StartError(str(error)) from None


def _bindable(port: int) -> int:
    """A port as the operating system takes it, which knows a free one as 0."""
    return 0 if port == FREE_PORT else port


def _taken(front: str, flag: str, address: str, port: int, error: OSError) -> str:
    because = error.strerror or "the address cannot be bound"
    return f"{front} cannot listen on {address}:{port} ({because}); stop what uses it or choose another --{flag}."


def _make_loader(config: Config, batches: Batching | None, loads: LoadMetrics) -> Loader:
    return Loader(
        partial(servable.load, intra_op_threads=config.intra_op_threads, device=config.device, batching=batches),
        # What an operator chose for clients is not what a version was exported with.
        partial(answer, proto_codec.codecs(DEFAULT)),
        servable.provider_of(config.device),
        config.warmup_iterations if config.enable_model_warmup else 0,
        config.flush_filesystem_caches,
        loads,
    )


def _flag_log_settings(config: Config) -> LogSettings | None:
    prefix = config.request_log_prefix
    return LogSettings(Path(prefix), config.request_log_sampling_rate) if prefix else None


def _read_models(config: Config) -> tuple[ModelConfig, ...]:
    """The models to start with: those of --model_config_file, or the one of --model_name and --model_base_path."""
    try:
        if not config.model_config_file:
            model_config.check_names([config.model_name])
            path = Path(config.model_base_path).absolute()
            return (ModelConfig(config.model_name, path, logging=_flag_log_settings(config)),)
        models = model_config.read_file(config.model_config_file)
    except (ConfigError, ServingError) as error:
        raise StartError(f"Failed to start server. Error: {error}") from error
    if models is None:
        _log.warning("%s configures nothing; the server starts without models.", config.model_config_file)
    return models or ()


class _Signals:
    """SIGTERM and SIGINT ask to stop, a second one ends the process at once; SIGHUP asks to look for changes.

    The system may give a signal to any thread, and then nothing interrupts a main thread that waits for a lock. So it
    waits for a byte, which Python writes wherever the signal arrives.
    """

    def __init__(self) -> None:
        self.stop_wanted = False
        self._look_wanted = False
        self._bell, self._button = socket.socketpair()
        self._button.setblocking(False)
        signal.set_wakeup_fd(self._button.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            self._look_wanted = True
        elif self.stop_wanted:
            os._exit(128 + number)
        else:
            self.stop_wanted = True

    def stop(self) -> None:
        """As SIGTERM does."""
        self.stop_wanted = True
        self._button.send(b"\0")

    def wait(self, look: Callable[[], None]) -> None:
        """Return when a stop is wanted; until then, look as often as that is asked for."""
        while not self.stop_wanted:
            self._bell.recv(64)
            if self._look_wanted:
                self._look_wanted = False
                # In a thread of its own, because it may wait for a load, and a signal has to be heard meanwhile.
                threading.Thread(target=look, name="look", daemon=True).start()


def main(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; a second one ends at once; SIGHUP looks for changes now. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signals = _Signals()
    if unused := config.unused():
        _log.warning("These flags have no effect here: %s.", ", ".join(unused))
    try:
        server = Server(config)
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    failures = _start(server, signals)
    signals.wait(server.look)
    _log.info("Stopping: finishing requests in flight.")
    ended = server.stop()
    if not ended or _is_anything_running():
        # Python would wait for a thread that is in a load or a run, which nothing interrupts.
        _log.warning("A load or a run is still going on; it is given up.")
        logging.shutdown()
        os._exit(len(failures))
    return len(failures)


def _start(server: Server, signals: _Signals) -> list[Exception]:
    """Start in a thread, because a signal has to be heard while models load; returns where its failure will be."""
    failures: list[Exception] = []

    def start() -> None:
        try:
            server.start()
        except Exception as error:
            _log.critical("The server cannot start.", exc_info=error)
            failures.append(error)
            signals.stop()

    threading.Thread(target=start, name="start", daemon=True).start()
    return failures


def _is_anything_running() -> bool:
    """Whether a thread is left after those that are ending had time to. Python would wait for those of a pool."""
    end_s = time.monotonic() + THREADS_END_S
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for thread in others:
        thread.join(max(end_s - time.monotonic(), 0))
    return any(thread.is_alive() for thread in others)


if __name__ == "__main__":
    try:
        chosen = configuration.parse(sys.argv[1:], os.environ)
    except ConfigError as refused:
        sys.exit(str(refused))
    sys.exit(main(chosen))
