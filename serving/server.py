"""The server: builds every part, starts both fronts, and ends them in order.

Owns the composition and the order of start and stop; the only module that knows all the others. What flags come to is
in `startup`, ports are in `listeners`, signals and the process in `process`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from functools import partial

from estimator_serving.serving import listeners, startup
from estimator_serving.serving.config import OFF_PORT, Config
from estimator_serving.serving.crowd import Crowd
from estimator_serving.serving.dialects.base import CORS, Dialect
from estimator_serving.serving.dialects.contracts.contract import Terms
from estimator_serving.serving.dialects.contracts.mlflow import MlflowScoring
from estimator_serving.serving.dialects.contracts.sagemaker import SageMaker
from estimator_serving.serving.dialects.contracts.vertex_ai import VertexAi
from estimator_serving.serving.dialects.oip.describe import Models
from estimator_serving.serving.dialects.oip.dialect import OpenInference
from estimator_serving.serving.dialects.oip.repository import Repository
from estimator_serving.serving.dialects.oip.shared_memory import Regions
from estimator_serving.serving.dialects.tfs import json_codec, proto_codec, replay
from estimator_serving.serving.dialects.tfs.dialect import TensorFlowServing
from estimator_serving.serving.dialects.tfs.options import DEFAULT, Options
from estimator_serving.serving.dialects.tfs.reload import handle_reload
from estimator_serving.serving.errors import STOPPING_TEXT
from estimator_serving.serving.holdings import Holdings, own_holdings
from estimator_serving.serving.metrics import Exposition, LogMetrics, RequestMetrics, Statistics
from estimator_serving.serving.models.warmup import Replay
from estimator_serving.serving.observing.access_log import AccessLog
from estimator_serving.serving.observing.monitoring import ConfigGauge, VersionGauges
from estimator_serving.serving.observing.request_log import RequestLog
from estimator_serving.serving.predictor import Predictor
from estimator_serving.serving.renewal import Renewals
from estimator_serving.serving.startup import StartError

_log = logging.getLogger(__name__)

# Answers a request of a warmup file, as it was exported, whatever an operator chose for clients.
replay_warmup: Replay = partial(replay.answer, proto_codec.codecs(DEFAULT))


class Server:
    """A model server with both fronts.

    Making one reads the files its flags name and binds the ports; `start` loads what is there and answers; `stop`
    drains.

    holdings: the models; without any, those of the flags.

    Raises:
        StartError: a port or socket that is taken, a file that cannot be read or breaks a rule.
    """

    def __init__(self, config: Config, holdings: Holdings | None = None) -> None:
        self._config = config
        self._stopping = False
        self._starting = threading.Lock()
        requests, logged = RequestMetrics(), LogMetrics()
        authorizer, keys = startup.make_authorizer(config)
        rest_tls, grpc_tls, renewals = listeners.make_tls(config)
        self._renewals = Renewals([*renewals, *([keys] if keys else [])])
        # Where everybody may use every model, empty for nowhere.
        self.open_to_all = listeners.open_to_all(config, rest_tls, grpc_tls)
        self.holdings = holdings = holdings or own_holdings(config, replay_warmup)
        self.manager, self.catalog = holdings.manager, holdings.catalog
        self._logs: list[RequestLog | AccessLog] = [RequestLog(self.catalog.log_settings, proto_codec.CODECS, logged)]
        if config.access_log:
            self._logs.append(AccessLog(config.access_log))
        self.statistics = Statistics(requests, holdings.batches)
        gauges = VersionGauges(self.manager)
        self.exposition = exposition = Exposition(
            requests, holdings.batches, holdings.loads, logged, gauges, ConfigGauge(holdings.trouble),
            loaded=gauges.loaded, paths=startup.read_metrics_paths(config),
        )  # fmt: skip
        # Of each front one, whatever dialect its requests are in.
        grpc, rest = (
            Crowd(listeners.threads_of(config, threads))
            for threads in (config.grpc_max_threads, config.rest_api_num_threads)
        )
        crowds = {"GRPC": grpc, "V2_GRPC": grpc, "REST": rest, "V2_REST": rest}
        # A request log has a use for the calls of the models that have settings; an access log, for all.
        observed = {} if config.access_log else {"is_observed": self.catalog.log_settings}
        predictor = Predictor(self.manager, requests, self._logs, crowds, **observed)
        kind = "KIND_GPU" if config.device == "cuda" else "KIND_CPU"
        models = Models(self.manager, kind, self.catalog.version_policy, lambda *key: self.statistics.gather(*key))
        dialects = list(self._dialects(predictor, models, exposition))
        self._rest = listeners.make_rest(
            config, dialects, predictor.router, exposition, self.unready, holdings.trouble, authorizer, rest_tls
        )
        try:
            self._grpc = listeners.make_grpc(config, dialects, self.unready, authorizer, grpc_tls)
        except StartError:
            if self._rest:
                self._rest.stop()
            raise

    def _dialects(self, predictor: Predictor, models: Models, exposition: Exposition) -> Iterator[Dialect]:
        """Every dialect that the fronts speak, in the order in which they are asked.

        The contracts are first, because a platform may choose their paths below another dialect's prefix.
        """
        config = self._config
        options = Options(config.enable_serialization_as_tensor_content, config.enable_signature_method_name_check)
        cors = config.rest_api_enable_cors_support
        terms = Terms(
            json_codec.codecs(options._replace(exact=True)),
            None if config.model_config_file else config.model_name,
            self.unready,
            CORS if cors else (),
        )
        if config.enable_sagemaker:
            yield SageMaker(predictor, terms)
        if config.enable_mlflow_scoring:
            yield MlflowScoring(predictor, terms)
        if config.enable_vertex_ai:
            yield VertexAi(predictor, terms, config.vertex_ai_predict_route, (config.vertex_ai_health_route,))
        reload = partial(handle_reload, self.catalog, exposition.total, is_open=config.enable_config_reload)
        yield TensorFlowServing(predictor, options, cors=cors, reload=reload, kserve=config.enable_kserve_v1)
        yield OpenInference(
            predictor,
            models,
            Repository(self.manager, self.catalog, config.enable_repository_control),
            Regions(is_enabled=config.enable_system_shared_memory),
            self.unready,
            headers=CORS if cors else (),
        )

    @property
    def rest_port(self) -> int:
        """The port REST listens on, 0 if it is off."""
        return self._rest.port if self._rest else OFF_PORT

    @property
    def grpc_port(self) -> int:
        """The port gRPC listens on, 0 if it is off."""
        return self._grpc.port if self._grpc else OFF_PORT

    def start(self) -> None:
        """Answer, and load the versions that are there; returns once each is served or has failed, or `stop` is called.

        /readyz says how far the load is. A version that fails or a base path that is empty does not keep the others
        from being served; /readyz tells of it.
        """
        with self._starting:
            if self.open_to_all:
                _log.warning(
                    "Everybody who reaches %s may use every model: give --auth_file or --tls_client_ca_file, or "
                    "--bind_address=127.0.0.1.", self.open_to_all,
                )  # fmt: skip
            self._renewals.start()
            fronts = (("gRPC", self._grpc, self._config.grpc_address), ("REST", self._rest, self._config.rest_address))
            for name, front, address in fronts:
                if front:
                    front.start()
                if front and front.port:
                    _log.info("Serving %s at %s:%d.", name, address, front.port)
            if self._config.grpc_socket_path:
                _log.info("Serving gRPC at unix:%s.", self._config.grpc_socket_path)
            self.holdings.start()

    def poll(self) -> None:
        """Read the file of models, the base paths, keys and certificates now, without waiting for the next poll."""
        self._renewals.poll()
        self.holdings.poll()

    def stop(self) -> bool:
        """Say "not ready", accept no more, finish what is in flight within the grace period, unload the models.

        Returns False if a load is still going on, which nothing can interrupt.
        """
        self._stopping = True
        self._renewals.stop()
        self.holdings.interrupt()
        with self._starting:
            draining = [threading.Thread(target=front.stop) for front in (self._grpc, self._rest) if front]
            for thread in draining:
                thread.start()
            for thread in draining:
                thread.join()
        for log in self._logs:
            log.close()
        return self.holdings.stop()

    def unready(self) -> str:
        """Why requests cannot be answered now; empty when they can."""
        return STOPPING_TEXT if self._stopping else self.manager.unready()
