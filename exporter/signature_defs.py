"""Receiver x export outputs -> signatures.

Owns which signatures an export has, and their keys, aliases and method names, in one table. Knows no graph: tensors are
named by what they are called there.
Source: TF 2.15 estimator, export_outputs and signature_def_utils.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from estimator_serving.exporter.receivers import ServingInputReceiver
from estimator_serving.wire.signatures import (
    CLASSIFY_CLASSES,
    CLASSIFY_INPUTS,
    CLASSIFY_METHOD,
    CLASSIFY_SCORES,
    PREDICT_METHOD,
    REGRESS_INPUTS,
    REGRESS_METHOD,
    REGRESS_OUTPUTS,
    Signature,
    TensorInfo,
)


@dataclass(frozen=True)
class Kind:
    """A kind of export output.

    Attributes:
        method_name: the rpc it answers.
        input_alias: the one alias of its one input; None where the receiver's own aliases are used.
        aliases: the output aliases it may have; None where they are the outputs' own names.
    """

    method_name: str
    input_alias: str | None
    aliases: tuple[str, ...] | None


CLASSIFICATION = Kind(CLASSIFY_METHOD, CLASSIFY_INPUTS, (CLASSIFY_CLASSES, CLASSIFY_SCORES))
REGRESSION = Kind(REGRESS_METHOD, REGRESS_INPUTS, (REGRESS_OUTPUTS,))
PREDICTION = Kind(PREDICT_METHOD, None, None)


@dataclass(frozen=True)
class ExportedOutput:
    """One export output: its kind, and its tensors by alias."""

    kind: Kind
    tensors: Mapping[str, TensorInfo]


def build_signatures(receiver: ServingInputReceiver, outputs: Mapping[str, ExportedOutput]) -> dict[str, Signature]:
    """The signatures of an export by key: those of `outputs` whose kind the receiver can feed."""
    return {
        key: Signature(_inputs(output.kind, receiver), output.tensors, output.kind.method_name)
        for key, output in outputs.items()
        if output.kind.input_alias is None or receiver.takes_examples
    }


def _inputs(kind: Kind, receiver: ServingInputReceiver) -> dict[str, TensorInfo]:
    if kind.input_alias is None:
        return {alias: tensor.info for alias, tensor in receiver.receiver_tensors.items()}
    (tensor,) = receiver.receiver_tensors.values()
    return {kind.input_alias: tensor.info}
