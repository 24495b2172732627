"""The variables of a checkpoint that TensorFlow wrote, by name.

Owns the rules that say which variable a tensor of the files is. Does not know the layout of the files, which
wire.tensor_bundle reads, or which slots an optimizer needs.

A variable is stored under its name, also if it had several parts. There are two exceptions:

- TensorFlow 1 stores the slots of each part of a variable separately, as `linear/weights/part_0/Ftrl` (or
  `…/t_0/RMSProp`, where TensorFlow shortens the name). They become one slot, `linear/weights/Ftrl`.
- tf.train.Checkpoint and Keras name a tensor by the path of objects that leads to it. The object graph in the
  checkpoint has the variable's name.
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
    """The variables of `<prefix>.index`. Each is read when it is looked up. Strings are left out.

    Raises CorruptCheckpointError, here or at a lookup, if the files are truncated or changed.
    """
    try:
        return _Values(open_bundle(prefix))
    except TensorBundleError as error:
        raise CorruptCheckpointError(str(error)) from error


class _Values(Mapping[str, Tensor]):
    def __init__(self, bundle: TensorBundle) -> None:
        self._bundle = bundle
        # The keys of each variable. There is one, except for a slot of a variable with several parts.
        self._keys: dict[str, list[str]] = {}
        objects = bundle.object_names()
        shared = {name for name, count in Counter(objects.values()).items() if count > 1}
        for key in bundle.keys():  # noqa: SIM118  not a mapping
            try:
                dtype = bundle.entry(key).dtype
            except TensorDtypeError:
                continue
            if dtype.numpy.kind not in "fiubc" and dtype is not dtypes.bfloat16:
                continue  # no number
            part = _PART_OF_SLOT.fullmatch(key)
            name = objects.get(key, key)
            if part is not None and part["variable"] in bundle:
                name = f"{part['variable']}/{part['slot']}"
            self._keys.setdefault(key if name in shared else name, []).append(key)

    def __getitem__(self, name: str) -> Tensor:
        keys = self._keys[name]
        try:
            array = self._bundle.read(keys[0]) if len(keys) == 1 else _put_together(self._bundle, name, keys)
        except TensorBundleError as error:
            raise CorruptCheckpointError(str(error)) from error
        # A copy of the array, which may be a view of the file.
        if array.dtype == dtypes.bfloat16.numpy:
            return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(np.array(array))

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _put_together(bundle: TensorBundle, name: str, keys: Sequence[str]) -> Array:
    """A slot whose parts are stored under several keys, each with its own slices of the whole shape."""
    first = bundle.entry(keys[0])
    places = [(key, region) for key in keys for region in bundle.entry(key).slices]
    parts = [(region, bundle.read_region(key, region)) for key, region in places]
    if sum(part.size for _, part in parts) != math.prod(first.shape) or any(
        bundle.entry(key).shape != first.shape for key in keys
    ):
        raise TensorBundleError(
            f"The parts {', '.join(keys)} in {bundle.prefix} do not make up {name} of shape {list(first.shape)}. Copy "
            "the checkpoint again from where it was written, or use an older one."
        )
    whole = np.empty(first.shape, first.dtype.numpy)
    for region, part in parts:
        whole[region] = part
    return whole
