"""A version's files, read into memory before ONNX Runtime opens them, and what has to hold of them.

Owns the rules for external data: it lies inside the version directory or the base path, in plain files, and is as long
as the model says. ONNX Runtime would wait for a pipe's other end, for example. Owns the snapshot: ONNX Runtime maps the
files of external data, so a file that is overwritten later changes the answers, and one that is cut ends the process.
Content that was read is out of reach of both. Owns too whether all of it fits into memory: the kernel would end the
process, and every other model with it.
"""

from __future__ import annotations

import logging
import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from estimator_serving.serving.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError
from estimator_serving.serving.models.memory import free_bytes
from estimator_serving.wire.onnx_model import OnnxError, OnnxModel, parse_model

_log = logging.getLogger(__name__)

MODEL_FILE = "model.onnx"
# What TensorFlow's own servers load.
SAVED_MODEL_FILE = "saved_model.pb"
# The same as text, which the importer does not read.
SAVED_MODEL_TEXT_FILE = "saved_model.pbtxt"
AS_TEXT_HINT = "Save it again as saved_model.pb (as_text=False), and convert that with `estimator-serving import`."
# A file's size fits int64, which has so many digits.
_DIGITS_MAX = 19


@dataclass(frozen=True)
class ModelFiles:
    """The files of a version.

    path: of its model.onnx.
    model: what that says about itself.
    content: its bytes.
    external: the content of each file of external data, by its location in the model; None where ONNX Runtime is to
        map the files itself.
    """

    path: Path
    model: OnnxModel
    content: bytes
    external: Mapping[str, bytes] | None


def read_files(directory: Path, *, mapped: bool = False) -> ModelFiles:
    """Check the files of a version directory and read them.

    mapped: leave external data to ONNX Runtime, which maps it: less memory, but the files must never change.

    Raises:
        NotFoundError: the directory holds no model.onnx.
        InvalidArgumentError: that is no whole ONNX model, or its external data breaks a rule, or a file was written to
            while it was read.
        ResourceExhaustedError: the files are larger than the memory that is free.
        OSError: a file cannot be read.
    """
    path = directory / MODEL_FILE
    if not path.is_file():
        if (directory / SAVED_MODEL_FILE).is_file():
            _log.error("To convert a SavedModel, run: %s", import_command(directory, directory.parent))
            raise NotFoundError(
                f"{directory} holds no {MODEL_FILE}, but a TensorFlow SavedModel. Convert it with `estimator-serving "
                "import`; the log has the whole command."
            )
        if (directory / SAVED_MODEL_TEXT_FILE).is_file():
            raise NotFoundError(
                f"{directory} holds no {MODEL_FILE}, but a TensorFlow SavedModel as text. {AS_TEXT_HINT}"
            )
        if os.path.lexists(path):
            special = "a directory" if path.is_dir() else "a pipe, a socket or a device"
            what = special if path.exists() else "a link that leads nowhere"
            raise NotFoundError(
                f"{directory} holds no {MODEL_FILE} that can be read: what has this name is {what}; put the model's "
                "file there."
            )
        raise NotFoundError(f"{directory} holds no {MODEL_FILE}; export the model again, or put the file there.")
    _check_fits(path, path.stat().st_size)
    content = _read(path)
    try:
        model = parse_model(content, path)
    except OnnxError as error:
        raise InvalidArgumentError(str(error)) from None
    files: dict[str, Path] = {}
    for tensor in model.external:
        try:
            if tensor.location not in files:
                files[tensor.location] = _find(directory, tensor.location)
            offset = _number("offset", tensor.offset)
            end, size = offset + _number("length", tensor.length), files[tensor.location].stat().st_size
            if end > size:
                raise ValueError(f"bytes {offset} to {end} of a file of {size} bytes")
        except ValueError as error:
            raise InvalidArgumentError(
                f"Tensor {tensor.name!r} of {path} keeps its values in {tensor.location!r}, {error}; "
                "export the model again, and copy its directory as a whole."
            ) from None
    external_bytes = sum(file.stat().st_size for file in files.values())
    # Read once, and copied once more by ONNX Runtime before the first copy can go.
    _check_fits(path, external_bytes if mapped else 2 * external_bytes)
    external = None if mapped else {location: _read(file) for location, file in files.items()}
    return ModelFiles(path, model, content, external)


def import_command(saved_model: Path, base: Path) -> str:
    """The command that converts a SavedModel, for a shell; the servable goes beside its base path."""
    return f"estimator-serving import {shlex.quote(str(saved_model))} {shlex.quote(f'{base}-onnx')}"


def drop_from_cache(directory: Path) -> None:
    """Tell the kernel that a version's files will not be read again soon; what is mapped stays."""
    for path in directory.rglob("*"):
        if not stat.S_ISREG(path.lstat().st_mode):
            continue
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _check_fits(path: Path, wanted_bytes: int) -> None:
    free = free_bytes()
    if free is not None and wanted_bytes > free:
        raise ResourceExhaustedError(
            f"Insufficient resources to load servable {path}: reading its files takes {wanted_bytes >> 20} MiB, and "
            f"{free >> 20} MiB of memory are free; unload another model, or give the server more memory."
        )


def _find(directory: Path, location: str) -> Path:
    """The file at a location, links resolved. Raises ValueError with the reason why it must not be opened."""
    parts = PurePosixPath(location).parts
    if not parts or "\0" in location:
        raise ValueError("which names no file")
    if location.startswith("/") or PureWindowsPath(location).drive:
        raise ValueError("an absolute path")
    if ".." in parts:
        leads_out = os.path.normpath(location).split("/")[0] == ".."
        raise ValueError("which leads out of the version directory" if leads_out else 'which must not contain ".."')
    try:
        file = (directory / location).resolve(strict=True)
        mode = file.lstat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = getattr(error, "strerror", None) or "its links lead in a circle"
        raise ValueError(f"which cannot be found ({reason})") from None
    # Where models come as links (volumes of Kubernetes, a hub's cache), their targets lie beside the versions.
    base = directory.parent if directory.name.isdecimal() else directory
    if not any(file.is_relative_to(root.resolve()) for root in (directory, base)):
        raise ValueError("a link that leads out of the version directory and its base path")
    if not stat.S_ISREG(mode):
        raise ValueError("which is no plain file")
    return file


def _read(path: Path) -> bytes:
    """The content of a plain file, as it was at one moment. Raises InvalidArgumentError where it changed meanwhile."""
    # Without blocking, should it have become a pipe.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        before = os.fstat(file.fileno())
        content = file.read()
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (len(content), after.st_mtime_ns):
        raise InvalidArgumentError(
            f"{path} was written to while it was read; write a version under another name, and rename it."
        )
    return content


def _number(name: str, text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > _DIGITS_MAX:
        raise ValueError(f"at {name} {text[:32]!r}, which is no size in bytes")
    return int(text)
