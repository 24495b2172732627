"""What has to hold of a version's files before ONNX Runtime opens them.

Owns the rules for external data: it lies inside the version directory, in plain files of its own, and is as long as the
model says. ONNX Runtime would follow a path out of the directory, or wait for a pipe's other end. Owns too whether all
of it fits into memory: the kernel would end the process, and every other model with it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from estimator_serving.serving.errors import InvalidArgumentError, ResourceExhaustedError
from estimator_serving.serving.models.memory import free_bytes
from estimator_serving.wire.onnx_model import ExternalTensor, OnnxError, OnnxModel, read_model

# A file's size fits int64, which has so many digits.
_DIGITS_MAX = 19


def check_files(path: Path) -> OnnxModel:
    """Look at a model's file and at the files it refers to; returns what the model says about itself.

    Raises:
        InvalidArgumentError: it is no whole ONNX model, or its external data breaks a rule.
        ResourceExhaustedError: the files are larger than the memory that is free.
    """
    try:
        model = read_model(path)
    except OnnxError as error:
        raise InvalidArgumentError(str(error)) from None
    sizes: dict[str, int] = {}
    for tensor in model.external:
        try:
            if tensor.location not in sizes:
                sizes[tensor.location] = _size(path.parent, tensor.location)
            _check_range(tensor, sizes[tensor.location])
        except ValueError as error:
            raise InvalidArgumentError(
                f"Tensor {tensor.name!r} of {path} keeps its values in {tensor.location!r}, {error}; "
                "export the model again, and copy its directory as a whole."
            ) from None
    _check_fits(path, path.stat().st_size + sum(sizes.values()))
    return model


def _check_fits(path: Path, size: int) -> None:
    free = free_bytes()
    if free is not None and size > free:
        raise ResourceExhaustedError(
            f"Insufficient resources to load servable {path}: its files hold {size >> 20} MiB, and {free >> 20} MiB of "
            "memory are free; unload another model, or give the server more memory."
        )


def drop_from_cache(directory: Path) -> None:
    """Tell the kernel that a version's files will not be read again soon; what is mapped stays."""
    for path in directory.rglob("*"):
        if not stat.S_ISREG(path.lstat().st_mode):
            continue
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _size(directory: Path, location: str) -> int:
    """The size of the file at a location. Raises ValueError with the reason why it must not be opened."""
    parts = PurePosixPath(location).parts
    if not parts or "\0" in location:
        raise ValueError("which names no file")
    if location.startswith("/") or PureWindowsPath(location).drive:
        raise ValueError("an absolute path")
    if ".." in parts:
        raise ValueError("which leads out of the version directory")
    path = directory
    for part in parts:
        path = path / part
        status = _status(path)
        if stat.S_ISLNK(status.st_mode):
            raise ValueError("which is a symbolic link or lies behind one")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("which is no plain file")
    if status.st_nlink != 1:
        raise ValueError("which is a hard link: the same file has another name elsewhere")
    return status.st_size


def _status(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except OSError as error:
        raise ValueError(f"which cannot be found ({error.strerror})") from None


def _check_range(tensor: ExternalTensor, size: int) -> None:
    offset = _number("offset", tensor.offset)
    end = offset + _number("length", tensor.length)
    if end > size:
        raise ValueError(f"bytes {offset} to {end} of a file of {size} bytes")


def _number(name: str, text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > _DIGITS_MAX:
        raise ValueError(f"at {name} {text[:32]!r}, which is no size in bytes")
    return int(text)
