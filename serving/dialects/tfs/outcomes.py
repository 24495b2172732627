"""What classify and regress make of a signature and its outputs, for JSON and protobuf alike.

Owns the checks and texts of TensorFlow Serving's classifier and regressor. Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from estimator_serving.serving.dialects.tfs.options import DEFAULT, Options
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.request import Array, Outputs, Request, as_strings
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.signatures import (
    CLASSIFY_CLASSES,
    CLASSIFY_INPUTS,
    CLASSIFY_METHOD,
    CLASSIFY_SCORES,
    REGRESS_INPUTS,
    REGRESS_METHOD,
    REGRESS_OUTPUTS,
    Signature,
)

# Examples with their context repeated in each may take this much, however little was sent.
REPEATED_BYTES_MAX = 1 << 28


def join_context(context: bytes, examples: Sequence[bytes]) -> Array:
    """Serialized Examples as the strings a signature takes, the context's bytes before each one's own.

    For protobuf, concatenation is merging, and what comes later wins. Raises InvalidArgumentError where the context
    would be repeated too often.
    """
    if len(context) * len(examples) > REPEATED_BYTES_MAX:
        raise InvalidArgumentError(
            f"A context of {len(context)} bytes counts in each of {len(examples)} Examples, which is more than "
            f"{REPEATED_BYTES_MAX} bytes in all; send fewer Examples at once, or less context."
        )
    return as_strings([context + example for example in examples] if context else list(examples))


class Classes(NamedTuple):
    """Labels (str) and scores (float32), each [batch, classes]."""

    labels: Array
    scores: Array


def find_signature(servable: Servable, name: str) -> Signature:
    """The signature of a classify or regress request. Raises InvalidArgumentError where there is none of that name."""
    signature = servable.signatures.get(name)
    if signature is None:
        raise InvalidArgumentError(
            f"No signature was found with the name: {name}. There are: {', '.join(sorted(servable.signatures))}."
        )
    return signature


def classify_request(servable: Servable, signature_name: str, examples: Array, options: Options = DEFAULT) -> Request:
    """The run a classify request asks for.

    Raises InvalidArgumentError where the signature does not classify Examples, or, where that is to be checked, where
    its method name says something else.
    """
    signature = find_signature(servable, signature_name)
    if options.check_method_names:
        check_method_name(signature, "classification", CLASSIFY_METHOD)
    _check_counts(signature, signature_name, (1, 2), "one or two output Tensors")
    _check_input(servable, signature_name, CLASSIFY_INPUTS, "classification")
    outputs = tuple(alias for alias in (CLASSIFY_CLASSES, CLASSIFY_SCORES) if alias in signature.outputs)
    if not outputs:
        raise InvalidArgumentError(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature_name} with {', '.join(sorted(signature.outputs))}."
        )
    return Request(signature_name, {CLASSIFY_INPUTS: examples}, outputs)


def regress_request(servable: Servable, signature_name: str, examples: Array, options: Options = DEFAULT) -> Request:
    """The run a regress request asks for.

    Raises InvalidArgumentError where the signature does not regress on Examples, or, where that is to be checked, where
    its method name says something else.
    """
    signature = find_signature(servable, signature_name)
    if options.check_method_names:
        check_method_name(signature, "regression", REGRESS_METHOD)
    _check_counts(signature, signature_name, (1,), "one output Tensor")
    _check_input(servable, signature_name, REGRESS_INPUTS, "regression")
    if REGRESS_OUTPUTS not in signature.outputs:
        raise InvalidArgumentError(
            f"No regression outputs found in SignatureDef: {signature_name} has "
            f"{', '.join(sorted(signature.outputs))}; a regression's output is called {REGRESS_OUTPUTS}."
        )
    return Request(signature_name, {REGRESS_INPUTS: examples}, (REGRESS_OUTPUTS,))


def check_method_name(signature: Signature, kind: str, *expected: str) -> None:
    """Refuse a signature that was exported for another rpc. Raises InvalidArgumentError."""
    if signature.method_name not in expected:
        names = expected[0] if len(expected) == 1 else f"one of {{{', '.join(sorted(expected))}}}"
        raise InvalidArgumentError(
            f"Expected {kind} signature method_name to be {names}. Was: {signature.method_name}. The server checks "
            "this because it runs with --enable_signature_method_name_check."
        )


def read_classes(outputs: Outputs, request: Request) -> Classes:
    """The classes of each Example. Labels are empty where the model gives scores alone, scores 0 where labels alone."""
    batch = len(request.inputs[CLASSIFY_INPUTS])
    labels, scores = outputs.get(CLASSIFY_CLASSES), outputs.get(CLASSIFY_SCORES)
    shape = _classes_shape(labels, scores, batch)
    if labels is None:
        labels = np.full(shape, "", object)
    if scores is None:
        scores = np.zeros(shape, np.float32)
    return Classes(labels, scores)


def read_regressions(outputs: Outputs, request: Request) -> Array:
    """One float32 an Example, [batch]."""
    values = outputs[REGRESS_OUTPUTS]
    batch = len(request.inputs[REGRESS_INPUTS])
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != 1):
        raise InvalidArgumentError(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {list(values.shape)}"
        )
    if len(values) != batch:
        raise InvalidArgumentError(f"Input batch size did not match output batch size: {batch} vs. {len(values)}")
    if values.dtype != np.float32:
        raise InvalidArgumentError(f"Expected output Tensor of DT_FLOAT.  Got: {values.dtype.name}")
    return values.reshape(batch)


def _check_counts(signature: Signature, signature_name: str, outputs: tuple[int, ...], expected: str) -> None:
    if len(signature.inputs) != 1:
        raise InvalidArgumentError(
            f"Expected one input Tensor. Signature {signature_name} has {len(signature.inputs)}; use predict."
        )
    if len(signature.outputs) not in outputs:
        raise InvalidArgumentError(
            f"Expected {expected}, found {len(signature.outputs)} in signature {signature_name}; use predict."
        )


def _check_input(servable: Servable, signature_name: str, alias: str, kind: str) -> None:
    inputs = servable.signatures[signature_name].inputs
    if alias not in inputs or not servable.takes_examples(signature_name, alias):
        raise InvalidArgumentError(
            f"No {kind} inputs found in SignatureDef: {signature_name} takes no serialized tf.Examples; use predict."
        )


def _classes_shape(labels: Array | None, scores: Array | None, batch: int) -> tuple[int, int]:
    if labels is not None:
        _check_matrix(labels, batch, "classes")
        if labels.dtype != np.dtype(object):
            raise InvalidArgumentError(f"Expected classes Tensor of DT_STRING. Got: {labels.dtype.name}")
    if scores is not None:
        _check_matrix(scores, batch, "scores")
        if scores.dtype != np.float32:
            raise InvalidArgumentError(f"Expected scores Tensor of DT_FLOAT. Got: {scores.dtype.name}")
    if labels is not None and scores is not None and labels.shape != scores.shape:
        raise InvalidArgumentError(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    present = labels if labels is not None else scores
    assert present is not None, "classify_request asks for one of the two"
    return (batch, present.shape[1])


def _check_matrix(array: Array, batch: int, name: str) -> None:
    if array.ndim != 2:
        raise InvalidArgumentError(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
    if len(array) != batch:
        raise InvalidArgumentError(f"Expected {name} output batch size of {batch}. Got: {len(array)}")
