"""Receiver x export outputs -> signatures.

Owns which signatures an export has, and their keys, aliases and method names, in one table. Knows no graph: a tensor is
named by its name there.
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
        method_name: the method its signature answers.
        input_alias: the alias of its single input, serialized Examples; None where the receiver's aliases are used.
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
class SignatureInputs:
    """What clients send.

    Attributes:
        tensors: by alias.
        are_examples: whether it is one tensor of serialized Examples.
        alternatives: further groups of tensors by name; none of them is of Examples.
    """

    tensors: Mapping[str, TensorInfo]
    are_examples: bool
    alternatives: Mapping[str, Mapping[str, TensorInfo]] = field(default_factory=dict)


def build_signatures(inputs: SignatureInputs, outputs: Mapping[str, ExportedOutput]) -> dict[str, Signature]:
    """The signatures of an export by key: those of `outputs` whose kind can be fed with what clients send.

    An alternative's are called `<alternative>:<key>`.
    """
    signatures = _signatures(inputs.tensors, inputs.are_examples, outputs)
    for name, tensors in inputs.alternatives.items():
        signatures |= {f"{name}:{key}": one for key, one in _signatures(tensors, False, outputs).items()}
    return signatures


def _signatures(
    tensors: Mapping[str, TensorInfo], are_examples: bool, outputs: Mapping[str, ExportedOutput]
) -> dict[str, Signature]:
    kept = {key: one for key, one in outputs.items() if one.kind.input_alias is None or are_examples}
    if DEFAULT_SIGNATURE_KEY in outputs and DEFAULT_SIGNATURE_KEY not in kept:
        # By default it answers with the first predict output; without one, with the default's own tensors.
        own = ExportedOutput(PREDICTION, outputs[DEFAULT_SIGNATURE_KEY].tensors)
        kept[DEFAULT_SIGNATURE_KEY] = next((one for one in outputs.values() if one.kind is PREDICTION), own)
    signatures = {}
    for key, one in kept.items():
        # With an alias for its input, a kind takes Examples: the only tensor.
        alias = one.kind.input_alias
        inputs = dict(tensors) if alias is None else {alias: next(iter(tensors.values()))}
        signatures[key] = Signature(inputs, one.tensors, one.kind.method_name)
    return signatures
