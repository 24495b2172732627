"""What an operator may choose of TensorFlow Serving's dialect. Knows nothing of flags; the server hands these in."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """Choices that change answers.

    tensor_content: write numeric answers to tensor_content instead of the typed `*_val` fields.
    check_method_names: answer an rpc only by signatures exported for it.
    """

    tensor_content: bool = False
    check_method_names: bool = False


DEFAULT = Options()
