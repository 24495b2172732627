"""Servables in process, without a server: `load(path).signatures["predict"](examples=[...])`.

Finds a version under a path, and reads what callers give: bytes, dicts of features, arrays, lists. Knows no wire
format; what runs is the Servable that the server runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from estimator_serving.serving import errors
from estimator_serving.serving.models.loader import open_servable
from estimator_serving.serving.models.model_files import MODEL_FILE, SAVED_MODEL_FILE, import_command
from estimator_serving.serving.models.sources.directory import find_versions
from estimator_serving.serving.request import Array, Request, as_strings
from estimator_serving.serving.running.device import device_of
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import ExampleEncoder, ExampleError, encode_example
from estimator_serving.wire.signatures import Signature


class CallableSignature:
    """A signature to be called with its inputs by name.

    Attributes:
        key: its name.
        signature: its inputs, outputs and method name.
    """

    def __init__(self, key: str, loaded: Servable) -> None:
        self.key = key
        self.signature: Signature = loaded.signatures[key]
        self._servable = loaded

    def __call__(self, **inputs: Any) -> dict[str, Array]:
        """The outputs by name, strings as object arrays of str.

        An input of serialized tf.Examples takes bytes or feature dicts, one or a list of them; others take what numpy
        makes an array of, text as str or bytes. Raises TypeError for inputs of other names, InvalidArgumentError (a
        ServingError) for values that do not fit.
        """
        wanted = self.signature.inputs
        if inputs.keys() != wanted.keys():
            raise TypeError(
                f"The signature {self.key} takes {', '.join(sorted(wanted))}; "
                f"got {', '.join(sorted(inputs)) or 'nothing'}. Give each by its name."
            )
        given: dict[str, Array] = {}
        for alias, value in inputs.items():
            dtype = wanted[alias].dtype
            if self.takes_examples(alias):
                given[alias] = _read_examples(value, self._servable.encoder)
            else:
                given[alias] = _read_text(alias, value) if dtype.is_string else _read_numbers(alias, dtype, value)
        return dict(self._servable.run(Request(self.key, given)))

    def takes_examples(self, alias: str) -> bool:
        """Whether an input is serialized tf.Examples."""
        return self._servable.takes_examples(self.key, alias)

    def __repr__(self) -> str:
        return f"CallableSignature({self.key!r}: {sorted(self.signature.inputs)} -> {sorted(self.signature.outputs)})"


class LoadedServable:
    """A version in this process.

    Attributes:
        path: its directory.
        version: its number, 0 for a directory without one.
        signatures: by key, to be called.
        feature_spec: the features of its Examples, None if it takes none.
    """

    def __init__(self, path: Path, loaded: Servable) -> None:
        self.path = path
        self.version = loaded.version
        self.feature_spec = loaded.feature_spec
        self.signatures: Mapping[str, CallableSignature] = {
            key: CallableSignature(key, loaded) for key in loaded.signatures
        }


def load(path: str | os.PathLike[str], *, device: str = "cpu", intra_op_threads: int = 1) -> LoadedServable:
    """The servable at a path.

    Args:
        path: a version directory (it holds `model.onnx`), or a base path, of which the newest version is taken.
        device: `cpu` or `cuda`.
        intra_op_threads: threads that one run may use.

    Raises NotFoundError (a ServingError) if there is no version, InvalidArgumentError if it cannot be opened.
    """
    directory = find_version(Path(path))
    version = int(directory.name) if directory.name.isdigit() else 0
    loaded = open_servable(
        directory.name, version, directory, intra_op_threads=intra_op_threads, device=device_of(device)
    )
    return LoadedServable(directory, loaded)


def find_version(path: Path) -> Path:
    """The version directory at a path: itself, or the newest under it. Raises NotFoundError, for a SavedModel of
    TensorFlow with the command that converts it."""
    if (path / MODEL_FILE).is_file():
        return path
    found, _ = find_versions(path) if path.is_dir() else ({}, [])
    chosen = found[max(found)] if found else path
    if (chosen / SAVED_MODEL_FILE).is_file() and not (chosen / MODEL_FILE).is_file():
        base = chosen.parent if chosen.name.isdecimal() else chosen
        raise errors.NotFoundError(
            f"{chosen} holds a SavedModel of TensorFlow and no {MODEL_FILE}. Make a servable of it, and give its path "
            f"instead: {import_command(chosen, base)}"
        )
    if not found:
        raise errors.NotFoundError(
            f"No versions of servable found under base path {path}: it holds neither {MODEL_FILE} nor a numbered "
            "directory. Give the path that an export returned, or the one above it."
        )
    return chosen


def _read_examples(value: Any, encoder: ExampleEncoder | None) -> Array:
    """Serialized Examples of bytes and dicts of features, one or many."""
    encoded = []
    for one in [value] if isinstance(value, bytes | Mapping) else list(value):
        if isinstance(one, bytes):
            encoded.append(one)
            continue
        if not isinstance(one, Mapping):
            raise errors.InvalidArgumentError(
                f"An Example is bytes or a dict of features; got {type(one).__name__}. "
                "Encode it, or give the features by name."
            )
        try:
            encoded.append(encode_example(one) if encoder is None else encoder.encode(one))
        except ExampleError as error:
            raise errors.InvalidArgumentError(str(error)) from error
    return as_strings(encoded)


def _read_numbers(alias: str, dtype: DType, value: Any) -> Array:
    """What numpy makes of a value, in another type. A whole number fits every type that reaches so far; 2.5 fits no
    type of whole numbers."""
    try:
        array = np.asarray(value)
        is_whole = array.dtype.kind in "iu" and dtype.numpy.kind in "iu"
        # An empty array has numpy's default type, which says nothing.
        casting: Literal["unsafe", "same_kind"] = "unsafe" if is_whole or not array.size else "same_kind"
        with np.errstate(over="ignore"):
            converted = array.astype(dtype.numpy, casting=casting, copy=False)
    except (TypeError, ValueError) as error:
        raise errors.InvalidArgumentError(
            f"Input {alias} is {dtype.name}, and what came does not become that without loss ({error}); convert it."
        ) from error
    beyond = converted != array if is_whole else np.isinf(converted) & ~np.isinf(array)
    if beyond.any():
        raise errors.InvalidArgumentError(
            f"Input {alias}: {array[beyond].flat[0]} is out of range for {dtype.name}; send numbers within its range."
        )
    return converted


def _read_text(alias: str, value: Any) -> Array:
    """Text as an object array of bytes."""
    array = np.asarray(value, object)
    texts = []
    for one in array.ravel().tolist():
        if not isinstance(one, bytes | str):
            raise errors.InvalidArgumentError(f"Input {alias} is text; got {one!r} ({type(one).__name__}). Give str.")
        texts.append(one if isinstance(one, bytes) else one.encode())
    return as_strings(texts).reshape(array.shape)
