"""Which models to serve, from where, which versions and under which labels: ModelServerConfig, checked.

Owns ModelConfig, the step from TensorFlow Serving's messages and text files to it, and the rules a list has to keep.
Knows no disk beyond the file it reads, and nothing of what is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message

from estimator_serving.serving import log_settings
from estimator_serving.serving.config import MEBIBYTE, parse_text, read_text
from estimator_serving.serving.errors import FailedPreconditionError, InvalidArgumentError
from estimator_serving.serving.log_settings import LogSettings
from estimator_serving.serving.policy import All, Latest, Specific, VersionPolicy
from estimator_serving.wire.pb import serving_pb

CONFIG_FILE_BYTES_MAX = 16 * MEBIBYTE
NAME_CHARACTERS_MAX = 256
TENSORFLOW_PLATFORM = "tensorflow"
# What a model's platform may be called; all of them mean an ONNX file. Configurations that move over say tensorflow.
PLATFORMS = ("onnx", "onnxruntime", TENSORFLOW_PLATFORM)

M = TypeVar("M", bound=Message)


class VersionDirectory(NamedTuple):
    """Where a version lies, and a stamp of its files: equal as long as none of them changes."""

    path: Path
    stamp: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """One model.

    Attributes:
        labels: version numbers by the names requests may use for them.
        platform: as the configuration calls it; empty where it does not say.
        logging: how its requests are logged, None for not at all.
        remarks: what an operator should read once it is in force.
    """

    name: str
    base_path: Path
    version_policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)
    platform: str = ""
    logging: LogSettings | None = None
    remarks: tuple[str, ...] = field(default=(), compare=False)


def read_file(path: str, flag: str = "model_config_file") -> tuple[ModelConfig, ...] | None:
    """The models of a text ModelServerConfig; None where it sets nothing, which asks for no change.

    Raises:
        ConfigError: the file cannot be read, or is not such a text (with file, line and column).
        InvalidArgumentError: what it says breaks a rule.
        FailedPreconditionError: it holds another kind of configuration than a list of models.
    """
    proto = parse_file(flag, path, serving_pb.ModelServerConfig(), CONFIG_FILE_BYTES_MAX)
    match proto.WhichOneof("config"):
        case None:
            return None
        case "model_config_list":
            return read_list(proto.model_config_list)
        case other:
            raise FailedPreconditionError(
                f"Cannot transition to requested config. {path} sets {other}; "
                "it is only legal to transition from one ModelConfigList to another."
            )


def parse_file(flag: str, path: str, message: M, bytes_max: int = MEBIBYTE) -> M:
    """Fill a message from a file in protobuf's text format.

    Raises ConfigError where the file cannot be read or parsed, with file, line and column.
    """
    return parse_text(read_text(flag, path, bytes_max), message, path)


def read_list(proto: serving_pb.ModelConfigList) -> tuple[ModelConfig, ...]:
    """The models of a list.

    Raises InvalidArgumentError for a name that is listed twice or cannot be one, a path that is not absolute, a
    platform that is not served; the texts are TensorFlow Serving's.
    """
    check_names(entry.name for entry in proto.config)
    for entry in proto.config:
        if not Path(entry.base_path).is_absolute():
            raise InvalidArgumentError(
                f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}. "
                "Give the path of a directory on this machine, from the root."
            )
        if "\0" in entry.base_path:
            raise InvalidArgumentError(f"The base_path of model {entry.name} holds a NUL; no path does.")
    return tuple(_read(entry) for entry in proto.config)


def _read(entry: Any) -> ModelConfig:
    """One model of a list, its path checked already."""
    remarks: list[str] = []
    policy: VersionPolicy = Latest(entry.model_version_policy.latest.num_versions or 1)
    match entry.model_version_policy.WhichOneof("policy_choice"):
        case "all":
            policy = All()
        case "specific":
            policy = Specific(frozenset(entry.model_version_policy.specific.versions))
            if not policy.versions:
                remarks.append(f"Model {entry.name} asks for specific versions and lists none; none is served.")
    platform: str = entry.model_platform
    if entry.model_type:
        if platform:
            raise InvalidArgumentError(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform; remove model_type from model {entry.name}."
            )
        platform = TENSORFLOW_PLATFORM if entry.model_type == serving_pb.ModelType.Value("TENSORFLOW") else "other"
        remarks.append(f"Model {entry.name} sets the deprecated model_type; set model_platform instead.")
    elif platform == TENSORFLOW_PLATFORM:
        remarks.append(
            f'Model {entry.name} says model_platform: "{TENSORFLOW_PLATFORM}"; its versions are served from their '
            "model.onnx."
        )
    if platform and platform not in PLATFORMS:
        raise InvalidArgumentError(
            f"Model {entry.name} requests unsupported platform {platform}; there are {', '.join(PLATFORMS)}."
        )
    return ModelConfig(
        entry.name,
        Path(entry.base_path),
        policy,
        dict(entry.version_labels),
        platform,
        log_settings.read(entry.logging_config),
        tuple(remarks),
    )


def check_change(old: Iterable[ModelConfig], new: Sequence[ModelConfig]) -> None:
    """Raise InvalidArgumentError where a model that is served would change its platform.

    One that did not say, such as the model of the flags, may say it now.
    """
    platforms = {model.name: model.platform for model in old if model.platform}
    for model in new:
        platform = platforms.get(model.name, model.platform)
        if model.platform and platform != model.platform:
            raise InvalidArgumentError(
                f"Illegal to change a model's platform. For model {model.name} platform was {platform} and new "
                f"platform requested is {model.platform}; keep the platform, or serve it under another name."
            )


def check_names(names: Iterable[str]) -> None:
    """Raise InvalidArgumentError for a name that stands twice, is empty or too long, cannot be printed, or reads like a
    path."""
    seen: set[str] = set()
    for name in names:
        if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise InvalidArgumentError(
                f"The model name {name[:64]!r} cannot be served; give 1 to {NAME_CHARACTERS_MAX} printable characters."
            )
        if name.startswith(".") or "/" in name or "\\" in name:
            raise InvalidArgumentError(
                f"The model name {name!r} cannot be served: it reads like a path; give one without slashes that does "
                "not begin with a dot."
            )
        if name in seen:
            raise InvalidArgumentError(f"Illegal to list model {name} multiple times in config list; list it once.")
        seen.add(name)
