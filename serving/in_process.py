"""Servables in process, without a server: `load(path).signatures["predict"](examples=[...])`.

Owns the finding of a version under a path, and the reading of what callers hand over: bytes, dicts of features, arrays,
lists. Knows no wire format; what runs is the Servable that the server runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from estimator_serving.serving import errors
from estimator_serving.serving.models.sources.directory import find_versions
from estimator_serving.serving.policy import Latest
from estimator_serving.serving.request import Array, Request, as_strings
from estimator_serving.serving.running import servable
from estimator_serving.serving.running.servable import MODEL_FILE, Servable
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import ExampleError, FeatureSpec, encode_example, encode_example_by_spec
from estimator_serving.wire.signatures import Signature, TensorInfo


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
        given = {alias: self._read(alias, wanted[alias], value) for alias, value in inputs.items()}
        return dict(self._servable.run(Request(self.key, given)))

    def takes_examples(self, alias: str) -> bool:
        """Whether an input is serialized tf.Examples."""
        return self._servable.takes_examples(self.key, alias)

    def __repr__(self) -> str:
        return f"CallableSignature({self.key!r}: {sorted(self.signature.inputs)} -> {sorted(self.signature.outputs)})"

    def _read(self, alias: str, info: TensorInfo, value: Any) -> Array:
        if self.takes_examples(alias):
            return _examples(value, self._servable.feature_spec)
        if info.dtype.is_string:
            return _text(alias, value)
        return _numbers(alias, info.dtype, value)


class LoadedServable:
    """A version in this process.

    Attributes:
        path: its directory.
        version: its number, 0 for a directory without one.
        signatures: by key, to be called.
        feature_spec: the features of its Examples, None where it takes none.
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
        path: a version directory (what holds `model.onnx`), or a base path, of which the newest version is taken.
        device: `cpu` or `cuda`.
        intra_op_threads: threads that one run may use.

    Raises NotFoundError (a ServingError) where there is no version, InvalidArgumentError where it cannot be opened.
    """
    directory = find_version(Path(path))
    version = int(directory.name) if directory.name.isdigit() else 0
    loaded = servable.load(directory.name, version, directory, intra_op_threads=intra_op_threads, device=device)
    return LoadedServable(directory, loaded)


def find_version(path: Path) -> Path:
    """The version directory at a path: itself, or the newest under it. Raises NotFoundError."""
    if (path / MODEL_FILE).is_file():
        return path
    found, _ = find_versions(path) if path.is_dir() else ({}, [])
    if not found:
        raise errors.NotFoundError(
            f"No versions of servable found under base path {path}: it holds neither {MODEL_FILE} nor a numbered "
            "directory. Give the path that an export returned, or the one above it."
        )
    (newest,) = Latest(1).choose(found)
    return found[newest]


def _examples(value: Any, spec: FeatureSpec | None) -> Array:
    rows = [value] if isinstance(value, bytes | Mapping) else list(value)
    return as_strings([one if isinstance(one, bytes) else _example(one, spec) for one in rows])


def _example(features: Any, spec: FeatureSpec | None) -> bytes:
    if not isinstance(features, Mapping):
        raise errors.InvalidArgumentError(
            f"An Example is bytes or a dict of features; got {type(features).__name__}. "
            "Encode it, or give the features by name."
        )
    try:
        return encode_example(features) if spec is None else encode_example_by_spec(features, spec)
    except ExampleError as error:
        raise errors.InvalidArgumentError(str(error)) from error


def _numbers(alias: str, dtype: DType, value: Any) -> Array:
    """What numpy makes of a value, in another type. A whole number is a number of any type that reaches so far; 2.5 is
    no whole number."""
    try:
        array = np.asarray(value)
        is_whole = array.dtype.kind in "iu" and dtype.numpy.kind in "iu"
        # What is empty has numpy's default type, and that says nothing.
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
            f"Input {alias} is {dtype.name}, which does not reach {array[beyond].flat[0]}; send smaller numbers."
        )
    return converted


def _text(alias: str, value: Any) -> Array:
    array = np.asarray(value, object)
    return as_strings([_bytes(alias, one) for one in array.ravel().tolist()]).reshape(array.shape)


def _bytes(alias: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise errors.InvalidArgumentError(f"Input {alias} is text; got {value!r} ({type(value).__name__}). Give str.")
