"""The server's settings: tensorflow_model_server's flags under their own names, and environment variables of the same.

Owns defaults, types and their checks; knows nothing of what the settings steer.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

MEBIBYTE = 1 << 20
PORT_MAX = 65535
OFF_PORT = 0  # as in TensorFlow Serving
FREE_PORT = -1
DEVICES = ("cpu", "cuda")


class ConfigError(ValueError):
    """Settings the server cannot start with; the text is one sentence for the operator."""


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Config:
    """Everything `serve` can be told. A field is a flag `--field` and an environment variable `FIELD`.

    Raises:
        ConfigError: a port outside -1..65535, both ports off, a size or time that is not positive, no model_base_path.
    """

    port: int = _setting(8500, "gRPC port; 0 turns gRPC off, -1 takes a free one that the log names")
    rest_api_port: int = _setting(8501, "REST port; 0 turns REST off, -1 takes a free one that the log names")
    bind_address: str = _setting("0.0.0.0", "address both ports listen on")
    model_name: str = _setting("default", "name the model is served under")
    model_base_path: str = _setting("", "directory that holds the version directories")
    file_system_poll_wait_seconds: float = _setting(
        1.0, "pause between looks at the base path; 0 looks once, < 0 never"
    )
    grpc_max_threads: int = _setting(4 * _cpus(), "threads that answer gRPC calls")
    rest_api_num_threads: int = _setting(4 * _cpus(), "threads that run slow models for REST calls")
    rest_api_timeout_in_ms: int = _setting(
        30000, "time a REST call gets, in milliseconds; then it is answered with 504"
    )
    rest_api_enable_cors_support: bool = _setting(False, "let browsers of any origin call the REST API")
    enable_grpc_healthcheck_service: bool = _setting(False, "answer grpc.health.v1.Health")
    enable_serialization_as_tensor_content: bool = _setting(False, "write numeric gRPC answers as tensor_content")
    enable_signature_method_name_check: bool = _setting(
        False, "answer an rpc only by signatures whose method_name is that rpc's"
    )
    tensorflow_intra_op_parallelism: int = _setting(0, "threads inside one operator; 0 takes all cores")
    device: str = _setting("cpu", "cpu, or cuda for NVIDIA's GPUs (needs the extra `cuda`)")
    request_bytes_max: int = _setting(64 * MEBIBYTE, "largest request body or gRPC message, in bytes")
    shutdown_grace_seconds: float = _setting(30.0, "time requests in flight get after SIGTERM")

    def __post_init__(self) -> None:
        for name in ("port", "rest_api_port"):
            port = getattr(self, name)
            _check(
                FREE_PORT <= port <= PORT_MAX, name, port, f"a port up to {PORT_MAX}, 0 for off or -1 for a free one"
            )
        if self.port == self.rest_api_port == OFF_PORT:
            raise ConfigError("--port and --rest_api_port are both 0, so nothing would be served; give one a port.")
        for name in ("grpc_max_threads", "rest_api_num_threads", "request_bytes_max", "rest_api_timeout_in_ms"):
            _check(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")
        for name in ("tensorflow_intra_op_parallelism", "shutdown_grace_seconds"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _check(self.device in DEVICES, "device", self.device, " or ".join(DEVICES))
        _check(bool(self.model_name), "model_name", self.model_name, "the name clients ask for")
        if not self.model_base_path:
            raise ConfigError(
                "model_base_path is empty! Pass --model_base_path=DIR, where DIR holds version directories."
            )

    @property
    def base_path(self) -> Path:
        return Path(self.model_base_path)

    @property
    def intra_op_threads(self) -> int:
        return self.tensorflow_intra_op_parallelism or _cpus()


def _check(valid: bool, name: str, value: object, expected: str) -> None:
    if not valid:
        raise ConfigError(f"--{name}={value} cannot be used; give {expected}.")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one `--flag` for every setting; flags not given leave no trace, so that the environment can speak."""
    for setting in fields(Config):
        text = f"{setting.metadata['help']} (default {setting.default!r})".replace("%", "%%")
        parser.add_argument(f"--{setting.name}", type=_type_of(setting.default), default=argparse.SUPPRESS, help=text)


def from_settings(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Config:
    """The Config of flags (they win), environment variables (FIELD in capitals) and defaults.

    Raises ConfigError for a variable that is not of its setting's type, and for what Config refuses.
    """
    known = {setting.name: _type_of(setting.default) for setting in fields(Config)}
    values = {
        name: _read(name, environment[name.upper()], kind)
        for name, kind in known.items()
        if name.upper() in environment
    }
    return Config(**values | {name: value for name, value in flags.items() if name in known})


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """The Config of a command line, as `serve` reads it."""
    parser = argparse.ArgumentParser(prog="serve", description="Serve a model over REST and gRPC.")
    add_flags(parser)
    return from_settings(vars(parser.parse_args(arguments)), environment)


def _type_of(default: object) -> Callable[[str], Any]:
    return _boolean if isinstance(default, bool) else type(default)


def _boolean(text: str) -> bool:
    """Raises ValueError for what is neither true nor false."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(text)
    return text.lower() in ("true", "1")


def _read(name: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(
            f"{name.upper()}={text!r} cannot be used; give a value of type {kind.__name__.lstrip('_')}."
        ) from None
