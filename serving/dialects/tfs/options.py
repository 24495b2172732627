"""The options of TensorFlow Serving's dialect. Knows nothing of flags; the server hands these in."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """Choices that change answers.

    tensor_content: write numeric answers to tensor_content instead of the typed `*_val` fields.
    check_method_names: refuse an rpc if the signature was exported for another one.
    exact: refuse numbers in JSON that their dtype does not hold, instead of narrowing them as TensorFlow Serving does.
    """

    tensor_content: bool = False
    check_method_names: bool = False
    exact: bool = False


DEFAULT = Options()
