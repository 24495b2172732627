"""Receiver x export outputs -> signatures.

Owns which signatures an export has, and their keys, aliases and method names, in one table. Knows no graph: tensors are
named by what they are called there.
Source: TF 2.15 estimator, export_outputs and signature_def_utils. One oddity is mended: where what clients send cannot
feed the default signature, `serving_default` stays and answers predict; TensorFlow leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from estimator_serving.wire.signatures import (
    CLASSIFY_CLASSES,
    CLASSIFY_INPUTS,
    CLASSIFY_METHOD,
    CLASSIFY_SCORES,
    DEFAULT_SIGNATURE_KEY,
    EVAL_METHOD,
    PREDICT_METHOD,
    REGRESS_INPUTS,
    REGRESS_METHOD,
    REGRESS_OUTPUTS,
    TRAIN_METHOD,
    Signature,
    TensorInfo,
)


@dataclass(frozen=True)
class Kind:
    """A kind of export output.

    Attributes:
        method_name: the rpc it answers.
        input_alias: the one alias of its one input, serialized Examples; None where the receiver's aliases are used.
        aliases: the output aliases it may have; None where they are the outputs' own names.
    """

    method_name: str
    input_alias: str | None
    aliases: tuple[str, ...] | None


CLASSIFICATION = Kind(CLASSIFY_METHOD, CLASSIFY_INPUTS, (CLASSIFY_CLASSES, CLASSIFY_SCORES))
REGRESSION = Kind(REGRESS_METHOD, REGRESS_INPUTS, (REGRESS_OUTPUTS,))
PREDICTION = Kind(PREDICT_METHOD, None, None)
TRAINING = Kind(TRAIN_METHOD, None, None)
EVALUATION = Kind(EVAL_METHOD, None, None)


@dataclass(frozen=True)
class ExportedOutput:
    """One export output: its kind, and its tensors by alias."""

    kind: Kind
    tensors: Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Sent:
    """What clients send.

    Attributes:
        tensors: by alias.
        are_examples: whether it is one tensor of serialized Examples.
        alternatives: further groups of tensors by name; none of them is of Examples.
    """

    tensors: Mapping[str, TensorInfo]
    are_examples: bool
    alternatives: Mapping[str, Mapping[str, TensorInfo]] = field(default_factory=dict)


def build_signatures(sent: Sent, outputs: Mapping[str, ExportedOutput]) -> dict[str, Signature]:
    """The signatures of an export by key: those of `outputs` whose kind can be fed with what clients send.

    An alternative's are called `<alternative>:<key>`.
    """
    signatures = _signatures(sent.tensors, sent.are_examples, outputs)
    for name, tensors in sent.alternatives.items():
        signatures |= {f"{name}:{key}": one for key, one in _signatures(tensors, False, outputs).items()}
    return signatures


def _signatures(
    tensors: Mapping[str, TensorInfo], are_examples: bool, outputs: Mapping[str, ExportedOutput]
) -> dict[str, Signature]:
    kept = {key: one for key, one in outputs.items() if one.kind.input_alias is None or are_examples}
    if DEFAULT_SIGNATURE_KEY in outputs and DEFAULT_SIGNATURE_KEY not in kept:
        kept[DEFAULT_SIGNATURE_KEY] = _default_prediction(outputs)
    return {key: Signature(_inputs(one.kind, tensors), one.tensors, one.kind.method_name) for key, one in kept.items()}


def _default_prediction(outputs: Mapping[str, ExportedOutput]) -> ExportedOutput:
    """The predict output to answer by default; without one, the default's own tensors."""
    predictions = [one for one in outputs.values() if one.kind is PREDICTION]
    return predictions[0] if predictions else ExportedOutput(PREDICTION, outputs[DEFAULT_SIGNATURE_KEY].tensors)


def _inputs(kind: Kind, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    if kind.input_alias is None:
        return dict(tensors)
    (tensor,) = tensors.values()
    return {kind.input_alias: tensor}
