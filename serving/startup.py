"""What an operator's flags come to before anything runs: the models to serve, the manager, the paths of metrics.

Owns the step from a Config, and the files that it names, to the parts' own settings; and StartError. Opens no port and
loads no model.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TypeVar

from estimator_serving.serving import provider_options
from estimator_serving.serving.access import key_file
from estimator_serving.serving.access.authorizer import Authorizer
from estimator_serving.serving.access.key_file import KeyFileError
from estimator_serving.serving.config import MEBIBYTE, Config, ConfigError, read_text
from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.log_settings import LogSettings
from estimator_serving.serving.metrics import BatchMetrics, LoadMetrics
from estimator_serving.serving.models import memory, model_config
from estimator_serving.serving.models.loader import Batching, Loader, open_servable
from estimator_serving.serving.models.manager import Load, Manager, Retries
from estimator_serving.serving.models.model_config import ModelConfig
from estimator_serving.serving.models.warmup import Replay
from estimator_serving.serving.observing import monitoring
from estimator_serving.serving.policy import TRANSITIONS
from estimator_serving.serving.renewal import Renewal
from estimator_serving.serving.running import batch_parameters
from estimator_serving.serving.running.batch_parameters import BatchParameters, BatchParametersError
from estimator_serving.serving.running.device import device_of

_log = logging.getLogger(__name__)

AUTH_FILE_BYTES_MAX = 16 * MEBIBYTE

M = TypeVar("M", bound=Manager)


class StartError(RuntimeError):
    """The server cannot start; the text is one sentence for the operator."""


def read_models(config: Config) -> tuple[ModelConfig, ...]:
    """The models to start with: those of --model_config_file, or the one of --model_name and --model_base_path."""
    try:
        if not config.model_config_file:
            model_config.check_names([config.model_name])
            path, prefix = Path(config.model_base_path).absolute(), config.request_log_prefix
            logging_ = LogSettings(Path(prefix), config.request_log_sampling_rate) if prefix else None
            return (ModelConfig(config.model_name, path, logging=logging_),)
        models = model_config.read_file(config.model_config_file)
    except (ConfigError, ServingError) as error:
        raise StartError(f"Failed to start server. Error: {error}") from error
    if models is None:
        _log.warning("%s configures nothing; the server starts without models.", config.model_config_file)
    return models or ()


def make_authorizer(config: Config) -> tuple[Authorizer, Renewal] | tuple[None, None]:
    """What knows the callers, and what reads --auth_file again; None without one.

    Raises StartError if the file cannot be used.
    """
    if not config.auth_file:
        return None, None
    authorizer = Authorizer([])

    def apply() -> None:
        try:
            entries = key_file.parse(read_text("auth_file", config.auth_file, AUTH_FILE_BYTES_MAX))
        except KeyFileError as error:
            raise ConfigError(f"--auth_file={config.auth_file} cannot be used. {error}") from None
        if not entries:
            _log.warning("--auth_file=%s holds no key, so nobody may ask anything.", config.auth_file)
        authorizer.replace(entries)

    try:
        return authorizer, Renewal("Keys", [config.auth_file], apply)
    except ConfigError as error:
        raise StartError(f"Failed to start server. Error: {error}") from error


def read_metrics_paths(config: Config) -> tuple[str, ...]:
    """The paths that answer with metrics. Raises StartError if --monitoring_config_file cannot be used."""
    try:
        return monitoring.read_paths(config.monitoring_config_file)
    except ConfigError as error:
        raise StartError(str(error)) from None


def make_loader(config: Config, answer: Replay, batches: BatchMetrics, loads: LoadMetrics) -> Loader:
    """A loader that opens and warms up versions by the flags.

    answer: answers the requests of warmup files.

    Raises StartError if --batching_parameters_file cannot be used.
    """
    batching = None
    if config.enable_batching:
        parameters, path = BatchParameters(), config.batching_parameters_file
        try:
            if path:
                parameters = batch_parameters.parse(read_text("batching_parameters_file", path), path)
        except (BatchParametersError, ConfigError) as error:
            raise StartError(str(error)) from None
        batching = Batching(parameters, config.enable_per_model_batching_parameters, batches.of_version)
    device = device_of(
        config.device, provider_options.parse(config.execution_provider_options), graphs=config.enable_cuda_graphs
    )
    return Loader(
        partial(
            open_servable,
            intra_op_threads=config.intra_op_threads,
            device=device,
            batching=batching,
            mapped=config.map_model_files,
            slots=config.run_slots,
            arena=config.enable_cpu_memory_arena,
        ),
        answer,
        device.provider,
        config.warmup_iterations if config.enable_model_warmup else 0,
        config.flush_filesystem_caches,
        loads,
    )


def make_manager(config: Config, load: Load, kind: type[M]) -> M:
    """A manager of a kind that loads and unloads by the flags."""
    return kind(
        load,
        load_threads=config.load_threads,
        unload_threads=config.unload_threads,
        next_action=TRANSITIONS[config.aspired_version_policy],
        retries=Retries(config.max_num_load_retries, config.load_retry_interval_micros / 1e6),
        unloaded=memory.give_back,
    )
