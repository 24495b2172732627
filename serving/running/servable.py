"""One version of one model: its signatures, and the runner that answers them.

Owns what a request must look like before anything runs. Knows no wire format, no session and nothing of other versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from estimator_serving.serving.request import PATIENT, Context, Outputs, Request
from estimator_serving.serving.running.batch_parameters import BatchParameters
from estimator_serving.serving.running.binding import Binding
from estimator_serving.serving.running.runner import Runner
from estimator_serving.wire.examples import ExampleEncoder, FeatureSpec
from estimator_serving.wire.signatures import Metadata

if TYPE_CHECKING:
    from estimator_serving.serving.running.session import AtOnce


class Servable:
    """A loaded version. `run` may be called from many threads at once.

    Attributes:
        name, version: which it is.
        signatures: by key.
        feature_spec: the features of its Examples, None where they are not known.
        encoder: writes an Example of these features, None where they are not known.
        runner: what runs its requests.
        properties: the metadata_props of its model.
        batching: how its requests share runs, None where they do not.
        at_once: how its default signature is run without anything in between, None where it is not.
        worked_out: what codecs keep of this version, by a key of theirs.
    """

    def __init__(
        self,
        name: str,
        version: int,
        metadata: Metadata,
        bindings: Mapping[str, Binding],
        runner: Runner,
        properties: Mapping[str, str] = MappingProxyType({}),
        batching: BatchParameters | None = None,
        at_once: AtOnce | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.signatures = metadata.signatures
        self.feature_spec: FeatureSpec | None = metadata.feature_spec
        self.encoder = None if metadata.feature_spec is None else ExampleEncoder(metadata.feature_spec)
        self.runner = runner
        self.properties = properties
        self.batching = batching
        self.at_once = at_once
        self.worked_out: dict[object, Any] = {}
        self._bindings = bindings

    def takes_examples(self, signature_name: str, alias: str) -> bool:
        """Whether this input is fed serialized tf.Examples."""
        return any(entry.alias == alias and entry.is_ragged for entry in self._bindings[signature_name].inputs)

    def has_rows(self, signature_name: str) -> bool:
        """Whether dimension 0 of every input and output may be a batch, as far as their shapes are declared."""
        return self._bindings[signature_name].has_rows

    def can_run_together(self, first: str, other: str) -> bool:
        """Whether one run can answer two signatures: whether they have the same inputs."""
        return self.signatures[first].inputs == self.signatures[other].inputs

    def run(self, request: Request, context: Context = PATIENT) -> Outputs:
        """Run one request and return the outputs it asked for, by the signature's names; strings as arrays of str.

        Raises InvalidArgumentError for inputs that do not fit the signature (see Binding.check), and what the runner
        raises (see Runner.run).
        """
        signature_name, inputs, outputs, form = request
        binding = self._bindings[signature_name]
        return self.runner.run(
            Request(signature_name, binding.check(inputs), outputs or binding.aliases, form), context
        )
