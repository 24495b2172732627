"""The server's settings: tensorflow_model_server's flags under their own names, and environment variables of the same.

Owns names, defaults, types, their checks and the groups `--help` shows; knows nothing of what the settings steer.
Source of names and defaults: tensorflow_model_server 2.20.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from google.protobuf import text_format
from google.protobuf.message import Message

from estimator_serving.serving import provider_options
from estimator_serving.serving.policy import TRANSITIONS
from estimator_serving.wire.pb import POOL

M = TypeVar("M", bound=Message)

MEBIBYTE = 1 << 20
PORT_MAX = 65535
OFF_PORT = 0  # as in TensorFlow Serving
FREE_PORT = -1
DEVICES = ("cpu", "cuda")
WORKERS_MAX = 256
# A Unix socket's address has 108 bytes, the last of them a NUL.
SOCKET_PATH_BYTES_MAX = 107
# The words TensorFlow's flag parser takes for a boolean.
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
# Where both SageMaker and MLflow ask for predictions.
INVOCATIONS_PATH = "/invocations"
ADDRESS_FLAGS = ("bind_address", "grpc_bind_address", "rest_api_bind_address")
# Without them, nobody is asked for a key, or nothing is encrypted; so an empty one, such as that of a variable that a
# script forgot to set, is not taken for one that was left out.
_PROTECTING_FLAGS = ("auth_file", "tls_cert_file", "tls_key_file", "tls_client_ca_file")
_UNKNOWN_FIELD = re.compile(r'Message type "([^"]+)" has no field named')
_ROUTE = re.compile(r"/[A-Za-z0-9._~:@/-]*")
# By the flag of a platform, the settings that its own environment variables fill, and what they are without one. These
# variables say where the platform looks, so they win over ours, and flags win over both.
STORAGE_VARIABLE = "AIP_STORAGE_URI"
PLATFORM_VARIABLES = {
    "enable_sagemaker": {"rest_api_port": ("SAGEMAKER_BIND_TO_PORT", "8080")},
    "enable_vertex_ai": {
        "rest_api_port": ("AIP_HTTP_PORT", "8080"),
        "vertex_ai_health_route": ("AIP_HEALTH_ROUTE", ""),
        "vertex_ai_predict_route": ("AIP_PREDICT_ROUTE", ""),
        "model_base_path": (STORAGE_VARIABLE, ""),
    },
}
# What `--help` shows for a value.
METAVARS = {int: "N", float: "X", str: "TEXT"}


class ConfigError(ValueError):
    """Settings the server cannot start with; the text is one sentence for the operator."""


def cpus() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


NETWORK = "network"
ACCESS = "access and TLS"
MODELS = "models"
LOADING = "loading and warmup"
RUNNING = "running and batching"
WATCHING = "monitoring"
CONTRACTS = "contracts of platforms"
UNUSED = "accepted from tensorflow_model_server, without effect here"


def _setting(default: Any, group: str, text: str) -> Any:
    return field(default=default, metadata={"group": group, "help": text})


def _unused(default: Any, text: str) -> Any:
    return _setting(default, UNUSED, text)


@dataclass(frozen=True)
class Config:
    """Everything `serve` can be told. A field is a flag `--field` and an environment variable `FIELD`.

    Raises:
        ConfigError: a port outside -1..65535, nothing to listen on, no model to serve, a size or time below its
            least, settings that exclude each other.
    """

    port: int = _setting(8500, NETWORK, "gRPC port; 0 turns gRPC off, -1 takes a free one that the log names")
    rest_api_port: int = _setting(8501, NETWORK, "REST port; 0 turns REST off, -1 takes a free one that the log names")
    bind_address: str = _setting("0.0.0.0", NETWORK, "address both ports listen on; :: for IPv6 and IPv4")
    grpc_bind_address: str = _setting("", NETWORK, "address the gRPC port listens on, if not bind_address")
    rest_api_bind_address: str = _setting("", NETWORK, "address the REST port listens on, if not bind_address")
    grpc_socket_path: str = _setting("", NETWORK, "Unix socket gRPC listens on too")
    grpc_max_threads: int = _setting(
        4 * cpus(), NETWORK, "threads that answer gRPC calls, at least; those that wait for a model have more"
    )
    grpc_channel_arguments: str = _setting("", NETWORK, "k=v,k=v for gRPC's core, such as grpc.max_connection_age_ms=1")
    enable_grpc_healthcheck_service: bool = _setting(False, NETWORK, "serve grpc.health.v1.Health")
    enable_serialization_as_tensor_content: bool = _setting(
        False, NETWORK, "gRPC answers carry numbers in tensor_content instead of typed fields"
    )
    enable_system_shared_memory: bool = _setting(
        False, NETWORK, "Open Inference clients may pass tensors in system shared memory of this user"
    )
    rest_api_num_threads: int = _setting(4 * cpus(), NETWORK, "threads that run slow models for REST calls, at least")
    rest_api_timeout_in_ms: int = _setting(30000, NETWORK, "longest a REST call may take")
    rest_api_enable_cors_support: bool = _setting(False, NETWORK, "answer browsers of other origins (CORS)")
    rest_api_enable_docs: bool = _setting(True, NETWORK, "serve /docs and /openapi.json")
    request_bytes_max: int = _setting(64 * MEBIBYTE, NETWORK, "largest request body or gRPC message, in bytes")
    shutdown_grace_seconds: float = _setting(30.0, NETWORK, "time requests in flight get after SIGTERM")

    auth_file: str = _setting(
        "", ACCESS, "file of keys and client certificates with their rights, reread when it changes; without one, "
        "everybody may ask everything",
    )  # fmt: skip
    auth_for_health: bool = _setting(False, ACCESS, "health checks need a key, too")
    enable_config_reload: bool = _setting(
        False, ACCESS, "without auth_file, every gRPC client may replace the list of models, as in TensorFlow Serving"
    )
    tls_cert_file: str = _setting(
        "", ACCESS, "PEM certificate, with those between it and its authority: both ports speak TLS; reread"
    )
    tls_key_file: str = _setting("", ACCESS, "PEM private key of tls_cert_file; reread")
    tls_client_ca_file: str = _setting(
        "", ACCESS, "PEM certificates of authorities: clients need a certificate that one of them signed; reread"
    )
    ssl_config_file: str = _setting("", ACCESS, "text SSLConfig (PEM texts inside): gRPC speaks TLS by it; reread")
    use_alts_credentials: bool = _setting(False, ACCESS, "gRPC speaks Google's ALTS, on its cloud only")

    model_name: str = _setting("default", MODELS, "name the model is served under")
    model_base_path: str = _setting("", MODELS, "directory that holds the model's version directories")
    model_config_file: str = _setting("", MODELS, "text ModelServerConfig: several models, policies, labels")
    model_config_file_poll_wait_seconds: float = _setting(
        0.0, MODELS, "pause between polls of model_config_file; 0 reads it once"
    )
    enable_repository_control: bool = _setting(
        False,
        MODELS,
        "without auth_file, every Open Inference client may load and unload models and change which lines are logged",
    )
    file_system_poll_wait_seconds: float = _setting(
        1.0, MODELS, "pause between polls of the base paths; 0 polls once, < 0 never"
    )
    servable_versions_always_present: bool = _setting(
        False, MODELS, "keep the served versions of a base path that has become empty"
    )
    aspired_version_policy: str = _setting(
        "availability_preserving", MODELS, "availability_preserving loads the new version first, resource_preserving "
        "unloads the old one first",
    )  # fmt: skip
    allow_version_labels_for_unavailable_models: bool = _setting(
        False, MODELS, "a new label may name a version that is not available yet"
    )

    num_load_threads: int = _setting(0, LOADING, "versions loaded at once; 0 is one a core")
    num_unload_threads: int = _setting(0, LOADING, "versions unloaded at once; 0 is one")
    max_num_load_retries: int = _setting(5, LOADING, "further tries for a load that failed for want of memory or files")
    load_retry_interval_micros: int = _setting(60_000_000, LOADING, "pause before such a try")
    enable_model_warmup: bool = _setting(True, LOADING, "replay assets.extra/tf_serving_warmup_requests before serving")
    num_request_iterations_for_warmup: int = _setting(0, LOADING, "times each warmup request is replayed; 0 is once")
    map_model_files: bool = _setting(
        False, LOADING, "map files of external data instead of reading them: less memory, but they must never change"
    )
    flush_filesystem_caches: bool = _setting(True, LOADING, "drop a model's files from the page cache once loaded")

    device: str = _setting("cpu", RUNNING, "cpu, or cuda for NVIDIA's GPUs (needs the extra `cuda`)")
    execution_provider_options: str = _setting(
        "", RUNNING, "k=v,k=v for ONNX Runtime's CUDA provider, such as device_id=0,gpu_mem_limit=2147483648"
    )
    enable_cuda_graphs: bool = _setting(
        False,
        RUNNING,
        "run batches of allowed_batch_sizes as captured CUDA graphs; needs device=cuda and enable_batching",
    )
    enable_cpu_memory_arena: bool = _setting(
        False, RUNNING, "keep the memory of runs for later runs, as ONNX Runtime does by default"
    )
    runs_at_once: int = _setting(
        0, RUNNING, "requests of one version that run at once where they are not batched; 0 is one a core"
    )
    workers: str = _setting(
        "0", RUNNING, "processes that answer beside each other, or auto for one a core; 0 answers in this one"
    )
    enable_batching: bool = _setting(False, RUNNING, "run requests of several callers together")
    batching_parameters_file: str = _setting("", RUNNING, "text BatchingParameters; needs enable_batching")
    enable_per_model_batching_parameters: bool = _setting(
        False, RUNNING, "read batching_params.pbtxt in each version directory"
    )
    tensorflow_session_parallelism: int = _setting(0, RUNNING, "threads of a session; 0 takes all cores")
    tensorflow_intra_op_parallelism: int = _setting(0, RUNNING, "threads inside one operator; 0 takes all cores")
    enable_signature_method_name_check: bool = _setting(
        False, RUNNING, "refuse a signature whose method_name is another method's"
    )

    monitoring_config_file: str = _setting("", WATCHING, "text MonitoringConfig: where Prometheus reads the metrics")
    access_log: str = _setting("", WATCHING, "file that gets a line of JSON for every inference; - for standard output")
    request_log_prefix: str = _setting(
        "", WATCHING, "absolute path the names of request logs begin with, for the model of model_name; TFRecords of "
        "PredictionLog",
    )  # fmt: skip
    request_log_sampling_rate: float = _setting(0.01, WATCHING, "share of the requests that are logged, 0 to 1")

    enable_kserve_v1: bool = _setting(False, CONTRACTS, "answer KServe's clients of its protocol v1")
    enable_sagemaker: bool = _setting(False, CONTRACTS, "answer as a container on SageMaker, at its port")
    enable_vertex_ai: bool = _setting(False, CONTRACTS, "answer as a container on Vertex AI, by its variables AIP_*")
    enable_mlflow_scoring: bool = _setting(False, CONTRACTS, "answer MLflow's clients of its scoring server")
    vertex_ai_health_route: str = _setting("/health", CONTRACTS, "path of health on Vertex AI")
    vertex_ai_predict_route: str = _setting("/predict", CONTRACTS, "path of predictions on Vertex AI")

    tensorflow_inter_op_parallelism: int = _unused(0, "ONNX Runtime runs a graph's operators one after the other")
    tensorflow_session_config_file: str = _unused("", "a TensorFlow session's settings")
    platform_config_file: str = _unused("", "settings of TensorFlow's platforms")
    per_process_gpu_memory_fraction: float = _unused(0.0, "TensorFlow's GPU allocator")
    saved_model_tags: str = _unused("serve", "an ONNX file has one graph")
    remove_unused_fields_from_bundle_metagraph: bool = _unused(True, "no MetaGraph is kept")
    prefer_tflite_model: bool = _unused(False, "no TensorFlow Lite")
    num_tflite_pools: int = _unused(cpus(), "no TensorFlow Lite")
    num_tflite_interpreters_per_pool: int = _unused(1, "no TensorFlow Lite")
    xla_cpu_compilation_enabled: bool = _unused(False, "no XLA")
    xla_gpu_compilation_enabled: bool = _unused(False, "no XLA")
    enable_profiler: bool = _unused(True, "TensorFlow's profiler service")
    thread_pool_factory_config_file: str = _unused("", "TensorFlow's thread pools")
    mixed_precision: str = _unused("", "a model runs in the precision it was exported with")
    skip_initialize_tpu: bool = _unused(False, "no TPU")

    def __post_init__(self) -> None:
        for name in ("port", "rest_api_port"):
            expected = f"a port up to {PORT_MAX}, 0 for off or -1 for a free one"
            self._check(name, lambda port: FREE_PORT <= port <= PORT_MAX, expected)
        # The two others say nothing where they are empty.
        for name in [name for name in ADDRESS_FLAGS if getattr(self, name) or name == "bind_address"]:
            self._check(name, _is_address, "an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all")
        for name in ("grpc_max_threads", "rest_api_num_threads", "request_bytes_max", "rest_api_timeout_in_ms"):
            self._check(name, lambda value: value > 0, "a number above 0")
        for name in (
            "tensorflow_intra_op_parallelism", "tensorflow_session_parallelism", "shutdown_grace_seconds",
            "model_config_file_poll_wait_seconds", "num_load_threads", "num_unload_threads", "max_num_load_retries",
            "load_retry_interval_micros", "num_request_iterations_for_warmup", "runs_at_once",
        ):  # fmt: skip
            self._check(name, lambda value: 0 <= value < math.inf, "0 or more")
        self._check("file_system_poll_wait_seconds", math.isfinite, "a number of seconds")
        self._check("device", DEVICES.__contains__, " or ".join(DEVICES))
        _check_device(self)
        self._check("aspired_version_policy", TRANSITIONS.__contains__, " or ".join(TRANSITIONS))
        if self.port == self.rest_api_port == OFF_PORT and not self.grpc_socket_path:
            raise ConfigError("--port and --rest_api_port are both 0, so nothing would be served; give one a port.")
        fits = len(os.fsencode(self.grpc_socket_path)) <= SOCKET_PATH_BYTES_MAX
        self._check("grpc_socket_path", lambda _: fits, f"a path of at most {SOCKET_PATH_BYTES_MAX} bytes")
        _check_tls(self)
        self.channel_arguments()
        self._check_workers()
        # What is served and how it runs, as far as one setting rules out another.
        if not self.model_base_path and not self.model_config_file:
            raise ConfigError(
                "Both server_options.model_base_path and server_options.model_config_file are empty! "
                "Pass --model_base_path=DIR, where DIR holds version directories, or --model_config_file=FILE."
            )
        if not self.model_config_file:
            self._check("model_name", bool, "the name clients ask for")
        if self.batching_parameters_file and not self.enable_batching:
            raise ConfigError(
                "--batching_parameters_file is set without --enable_batching=true; set both or neither of them."
            )
        if self.tensorflow_session_parallelism and self.tensorflow_intra_op_parallelism:
            raise ConfigError(
                "--tensorflow_session_parallelism and --tensorflow_intra_op_parallelism exclude each other; give one."
            )

        self._check_contracts()

    def _check_workers(self) -> None:
        """What several processes rule out. Raises ConfigError."""
        is_count = self.workers.isascii() and self.workers.isdecimal() and len(self.workers) <= 3
        self._check(
            "workers",
            lambda text: text == "auto" or (is_count and int(text) <= WORKERS_MAX),
            f"a number from 0 to {WORKERS_MAX}, or auto",
        )
        if not self.worker_processes:
            return
        if sys.platform != "linux":
            raise ConfigError(
                f"--workers={self.workers} needs Linux, whose SO_REUSEPORT spreads connections over processes; leave "
                "it out, and run several servers behind a load balancer instead."
            )
        for name, why in (
            ("grpc_socket_path", "only one process can listen on a Unix socket"),
            ("enable_system_shared_memory", "a region would be known to one process only"),
        ):
            if getattr(self, name):
                raise ConfigError(f"--{name} and --workers exclude each other, because {why}; leave one of them out.")

    def _check_contracts(self) -> None:
        """What the contracts of platforms rule out. Raises ConfigError."""
        for name in ("vertex_ai_health_route", "vertex_ai_predict_route"):
            self._check(
                name, lambda route: bool(_ROUTE.fullmatch(route)), "a path that begins with / and is no pattern"
            )
        at_invocations = [name for name in ("enable_sagemaker", "enable_mlflow_scoring") if getattr(self, name)]
        if self.enable_vertex_ai and self.vertex_ai_predict_route == INVOCATIONS_PATH:
            at_invocations.append("vertex_ai_predict_route")
        if len(at_invocations) > 1:
            raise ConfigError(
                f"--{' and --'.join(at_invocations)} both answer at {INVOCATIONS_PATH}, in different forms; choose one."
            )
        for name in ("enable_vertex_ai", "enable_mlflow_scoring"):
            if getattr(self, name) and self.model_config_file:
                raise ConfigError(
                    f"--{name} answers for one model, and --model_config_file may list several; give --model_name and "
                    "--model_base_path instead."
                )

    @property
    def grpc_address(self) -> str:
        """Where the gRPC port listens; an IPv6 address may have brackets, as in URLs."""
        return (self.grpc_bind_address or self.bind_address).strip("[]")

    @property
    def rest_address(self) -> str:
        return (self.rest_api_bind_address or self.bind_address).strip("[]")

    @property
    def worker_processes(self) -> int:
        """How many processes answer under a supervisor; 0 where this one answers without any."""
        return cpus() if self.workers == "auto" else int(self.workers)

    @property
    def cores(self) -> int:
        """The cores of one process that answers."""
        return max(1, cpus() // max(1, self.worker_processes))

    @property
    def intra_op_threads(self) -> int:
        return self.tensorflow_intra_op_parallelism or self.tensorflow_session_parallelism or self.cores

    @property
    def run_slots(self) -> int:
        """Requests of one version that run at once in a process; more than the fronts' threads bring are of no use."""
        return self.runs_at_once or min(self.cores, max(self.grpc_max_threads, self.rest_api_num_threads))

    @property
    def load_threads(self) -> int:
        return self.num_load_threads or cpus()

    @property
    def unload_threads(self) -> int:
        return self.num_unload_threads or 1

    @property
    def warmup_iterations(self) -> int:
        return max(self.num_request_iterations_for_warmup, 1)

    def unused(self) -> list[str]:
        """The flags that were set to something and have no effect here, as `--flag=value (why)`."""
        return [
            f"--{setting.name}={_as_text(getattr(self, setting.name))} ({setting.metadata['help']})"
            for setting in fields(self)
            if setting.metadata["group"] == UNUSED and getattr(self, setting.name) != setting.default
        ]

    def _check(self, name: str, holds: Callable[[Any], bool], expected: str) -> None:
        value = getattr(self, name)
        if not holds(value):
            raise ConfigError(f"--{name}={value} cannot be used; give {expected}.")

    def channel_arguments(self) -> list[tuple[str, int | str]]:
        """`grpc_channel_arguments` as grpc takes them: whole numbers as int, everything else as text.

        Raises ConfigError for a part that is not k=v.
        """
        arguments: list[tuple[str, int | str]] = []
        for part in self.grpc_channel_arguments.split(","):
            name, equals, value = (word.strip() for word in part.partition("="))
            if not part.strip():
                continue
            if not name or not equals:
                raise ConfigError(f"--grpc_channel_arguments holds {part!r}; write it as name=value,name=value.")
            arguments.append((name, int(value) if value.lstrip("-").isdecimal() else value))
        return arguments


def _is_address(text: str) -> bool:
    """Whether it may be an address or the name of a machine, which a resolver knows or not."""
    try:
        return bool(text.strip("[] ").encode("idna"))
    except UnicodeError:
        return False


def _check_device(config: Config) -> None:
    """Raises ConfigError for settings that the device does not have, or that do not go together."""
    for name in ("execution_provider_options", "enable_cuda_graphs"):
        if getattr(config, name) and config.device != "cuda":
            raise ConfigError(
                f"--{name} is for --device=cuda, and --device={config.device} has no such thing; give "
                "--device=cuda, or leave it out."
            )
    if config.enable_cuda_graphs and not config.enable_batching:
        raise ConfigError(
            "--enable_cuda_graphs needs --enable_batching=true and allowed_batch_sizes in the batching parameters, "
            "because a graph has a fixed number of rows; set them, or leave it out."
        )
    try:
        provider_options.parse(config.execution_provider_options)
    except ValueError as error:
        raise ConfigError(f"--execution_provider_options: {error}") from None


def _check_tls(config: Config) -> None:
    """Raises ConfigError for settings of TLS that do not go together."""
    if config.ssl_config_file and config.use_alts_credentials:
        raise ConfigError("--ssl_config_file and --use_alts_credentials exclude each other; give one of the two.")
    if bool(config.tls_cert_file) != bool(config.tls_key_file) or (
        config.tls_client_ca_file and not config.tls_cert_file
    ):
        raise ConfigError(
            "TLS needs --tls_cert_file and --tls_key_file, and --tls_client_ca_file may come with them; give both."
        )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--flag` for every setting, in groups; flags not given leave no trace, so that the environment can speak."""
    parser.add_argument("--version", action=_Version, help="print the version and exit", **_argument_of(bool))
    parser.usage = "%(prog)s (--model_base_path=DIR | --model_config_file=FILE) [--FLAG=VALUE ...]"
    parser.formatter_class = _HelpFormatter
    names = dict.fromkeys(setting.metadata["group"] for setting in fields(Config))
    groups = {name: parser.add_argument_group(name) for name in names}
    groups[UNUSED].description = ", ".join(one.name for one in fields(Config) if one.metadata["group"] == UNUSED)
    for setting in fields(Config):
        group = setting.metadata["group"]
        default = "" if setting.default == "" else f" (default {_as_text(setting.default)})"
        text = argparse.SUPPRESS if group == UNUSED else f"{setting.metadata['help']}{default}".replace("%", "%%")
        groups[group].add_argument(
            f"--{setting.name}", default=argparse.SUPPRESS, help=text, **_argument_of(type(setting.default))
        )


class _Version(argparse.Action):
    """Prints the version and exits where it is true: a boolean like the others."""

    def __call__(self, parser: argparse.ArgumentParser, _chosen: Any, wanted: Any, _option: str | None = None) -> None:
        if wanted:
            print(version_text())
            parser.exit()


class _HelpFormatter(argparse.HelpFormatter):
    """One width for every terminal: names up to 28 characters stand beside their texts."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)


def version_text() -> str:
    """What `--version` prints."""
    return f"estimator-serving {metadata.version('estimator-serving')}"


def _check_protection(given: Mapping[str, Any]) -> None:
    """Raises ConfigError for a file of keys or certificates that is given, by a flag or a variable, and empty."""
    for name, value in given.items():
        if value == "" and name.lower().strip("-") in _PROTECTING_FLAGS:
            raise ConfigError(f"{name} is given and empty; name the file, or leave it out to serve without one.")


def from_settings(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Config:
    """The Config of flags (they win), environment variables (FIELD in capitals) and defaults.

    Raises ConfigError for a variable that is not of its setting's type, for an empty file of keys or certificates, and
    for what Config refuses.
    """
    known = {setting.name: type(setting.default) for setting in fields(Config)}
    values: dict[str, Any] = {}

    def take(name: str, variable: str, text: str) -> None:
        kind = known[name]
        try:
            read: Callable[[str], Any] = boolean if kind is bool else kind
            values[name] = read(text)
        except ValueError:
            raise ConfigError(f"{variable}={text!r} cannot be used; give a value of type {kind.__name__}.") from None

    for name in known:
        if (text := environment.get(name.upper())) is not None:
            take(name, name.upper(), text)
    given = {name: value for name, value in flags.items() if name in known}
    for contract, variables in PLATFORM_VARIABLES.items():
        for name, (variable, default) in variables.items() if (values | given).get(contract) else ():
            text = environment.get(variable, "")
            if name in given or not (text or (default and name not in values)):
                continue
            scheme, separator, rest = text.partition("://")
            if variable == STORAGE_VARIABLE and separator:
                if scheme != "file" or not rest.startswith("/"):
                    raise ConfigError(
                        f"{variable}={text} is on another machine, and this server reads local directories; copy it "
                        "into the image or onto a volume, and give that directory as --model_base_path."
                    )
                text = unquote(rest)
            take(name, variable, text or default)
    _check_protection({name.upper(): values[name] for name in values if name not in given})
    _check_protection({f"--{name}": value for name, value in given.items()})
    return Config(**values | given)


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """The Config of a command line, as `serve` reads it."""
    parser = argparse.ArgumentParser(prog="serve", description="Serve models over REST and gRPC.", allow_abbrev=False)
    add_flags(parser)
    return from_settings(vars(parser.parse_args(arguments)), environment)


def read_text(flag: str, path: str, bytes_max: int = MEBIBYTE) -> str:
    """The text of a file that a flag names.

    Raises ConfigError where it is no file, cannot be read, is larger than any such file would be, or is not UTF-8.
    """
    try:
        if not Path(path).is_file():
            raise OSError(0, "it is no file" if Path(path).exists() else "no such file")
        content = Path(path).read_bytes() if Path(path).stat().st_size <= bytes_max else None
        if content is None:
            raise ConfigError(f"--{flag}={path} is larger than {bytes_max} bytes, which no such file needs.")
        return content.decode()
    except OSError as error:
        raise ConfigError(f"--{flag}={path} cannot be read ({error.strerror}); check the path.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"--{flag}={path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None


def parse_text(text: str, message: M, path: str) -> M:
    """Fill a message from protobuf's text format.

    Raises ConfigError where that cannot be, with file, line and column.
    """
    try:
        return text_format.Parse(text, message, descriptor_pool=POOL)
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        at = f"{path}:{line}:{column}" if line else path
        what = str(error).removeprefix(f"{line}:{column} : ").rstrip(".")
        if unknown := _UNKNOWN_FIELD.match(what):
            fields = POOL.FindMessageTypeByName(unknown[1]).fields
            what += f"; its fields are {', '.join(sorted(known.name for known in fields))}"
        raise ConfigError(
            f"Error parsing text-format {message.DESCRIPTOR.full_name}: {at}: {what}. "
            f"Invalid protobuf file: '{path}'; correct it there."
        ) from None


def _argument_of(kind: type) -> dict[str, Any]:
    """How argparse reads a flag of this type; a boolean may stand alone, as in TensorFlow."""
    if kind is bool:
        return {"type": boolean, "nargs": "?", "const": True, "metavar": "BOOL"}
    return {"type": kind, "metavar": METAVARS[kind]}


def boolean(text: str) -> bool:
    if text.lower() not in BOOLEANS:
        raise ValueError(text)
    return BOOLEANS[text.lower()]


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
