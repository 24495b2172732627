"""A checkpoint that TensorFlow wrote, as variables by name.

Owns which tensor of the files is which variable. Does not know how the files are laid out (wire.tensor_bundle does) or
which slots an optimizer wants.

A variable stands in the file under its name, whole, however many parts it had. Two things differ from that:

- TensorFlow 1 keeps the slots of each part of a variable apart: `linear/weights/part_0/Ftrl`, or `…/t_0/RMSProp`
  where a name was cut. They are put together as `linear/weights/Ftrl`.
- tf.train.Checkpoint and Keras name tensors by the path of objects that leads to them; the variable's name is in the
  object graph beside them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.errors import CorruptCheckpointError
from estimator_serving.wire import dtypes
from estimator_serving.wire.tensor_bundle import (
    Array,
    TensorBundle,
    TensorBundleError,
    TensorDtypeError,
    open_bundle,
)

_PART_OF_SLOT = re.compile(r"(?P<variable>.+)/(?:part|t)_\d+/(?P<slot>[^/]+)")


def read_tensorflow_checkpoint(prefix: str) -> Mapping[str, Tensor]:
    """The variables of `<prefix>.index`, each read when it is asked for; strings are no variables and left out.

    Raises CorruptCheckpointError, here or at the reading, where the files are not what was written.
    """
    try:
        return _Values(open_bundle(prefix))
    except TensorBundleError as error:
        raise CorruptCheckpointError(str(error)) from error


class _Values(Mapping[str, Tensor]):
    def __init__(self, bundle: TensorBundle) -> None:
        self._bundle = bundle
        self._keys = _keys_by_name(bundle)

    def __getitem__(self, name: str) -> Tensor:
        keys = self._keys[name]
        try:
            array = self._bundle.read(keys[0]) if len(keys) == 1 else _put_together(self._bundle, name, keys)
        except TensorBundleError as error:
            raise CorruptCheckpointError(str(error)) from error
        return _as_tensor(array)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _keys_by_name(bundle: TensorBundle) -> dict[str, list[str]]:
    """The keys of each variable: one, or for a slot one for each part of its variable."""
    keys: dict[str, list[str]] = {}
    objects = bundle.object_names()
    shared = {name for name, count in Counter(objects.values()).items() if count > 1}
    for key in bundle.keys():  # noqa: SIM118  not a mapping
        if not _is_number(bundle, key):
            continue
        part = _PART_OF_SLOT.fullmatch(key)
        name = objects.get(key, key)
        if part is not None and part["variable"] in bundle:
            name = f"{part['variable']}/{part['slot']}"
        keys.setdefault(key if name in shared else name, []).append(key)
    return keys


def _is_number(bundle: TensorBundle, key: str) -> bool:
    try:
        dtype = bundle.entry(key).dtype
    except TensorDtypeError:
        return False
    return dtype.numpy.kind in "fiubc" or dtype is dtypes.bfloat16


def _put_together(bundle: TensorBundle, name: str, keys: Sequence[str]) -> Array:
    """The slot that stands in parts under several keys, each with its own slices of the whole shape."""
    first = bundle.entry(keys[0])
    places = [(key, region) for key in keys for region in bundle.entry(key).slices]
    parts = [(region, bundle.read_region(key, region)) for key, region in places]
    if sum(part.size for _, part in parts) != math.prod(first.shape) or any(
        bundle.entry(key).shape != first.shape for key in keys
    ):
        raise TensorBundleError(
            f"The parts {', '.join(keys)} in {bundle.prefix} do not make up {name} of shape {list(first.shape)}; copy "
            "the checkpoint again from where it was written, or use an older one."
        )
    whole = np.empty(first.shape, first.dtype.numpy)
    for region, part in parts:
        whole[region] = part
    return whole


def _as_tensor(array: Array) -> Tensor:
    """A tensor of its own: the array may be a view of the file."""
    if array.dtype == dtypes.bfloat16.numpy:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
