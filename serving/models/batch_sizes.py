"""One run of every batch size that a version pads to, before it takes traffic.

Owns the rows of these runs: those of a warmup request, again and again, or blank ones that fit the signature. The
first run of a shape pays for memory and for the choice of kernels; on a GPU it also captures the graph. No failure
here keeps a version from its traffic, because blank rows may be what no client sends.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping

import numpy as np

from estimator_serving.serving.errors import as_serving_error
from estimator_serving.serving.request import Array, Context, Outputs, Request, as_strings
from estimator_serving.serving.running.batching import BatchingRunner
from estimator_serving.serving.running.runner import Runner
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.features import FixedLenFeature, example_dtypes

_log = logging.getLogger(__name__)

# How long the runs of one version may take together.
BUDGET_S = 30.0


class Recorder:
    """Runs requests as another runner does, and keeps the last of each signature.

    Attributes:
        seen: by signature, with inputs as a runner takes them.
    """

    def __init__(self, inner: Runner) -> None:
        self.seen: dict[str, Request] = {}
        self._inner = inner

    def run(self, request: Request, context: Context) -> Outputs:
        self.seen[request.signature_name] = request
        return self._inner.run(request, context)


def with_runner(servable: Servable, runner: Runner | Recorder) -> Servable:
    """The same version, run by another runner."""
    other = copy.copy(servable)
    other.runner = runner  # type: ignore[assignment]
    return other


def run_sizes(servable: Servable, seen: Mapping[str, Request], budget_s: float = BUDGET_S) -> int:
    """Run each allowed batch size of a version once for every kind of inputs; returns how many runs there were.

    seen: requests that the version has answered, by signature. Ends early when the time is over. The first run that
    fails is logged; its signature's larger sizes are left out.
    """
    batching = servable.runner
    if not isinstance(batching, BatchingRunner) or servable.batching is None:
        return 0
    unbatched = with_runner(servable, batching.inner)
    seen = {name: one for name, one in seen.items() if all(array.size and array.ndim for array in one.inputs.values())}
    ends_s = time.monotonic() + budget_s
    context = Context(ends_s)
    count, has_failed = 0, False
    # One signature for each set of the graph's inputs; those of requests first.
    by_inputs: dict[frozenset[str], str] = {}
    for name in filter(servable.has_rows, (*seen, *servable.signatures)):
        by_inputs.setdefault(frozenset(one.value_name for one in servable.signatures[name].inputs.values()), name)
    for signature_name in by_inputs.values():
        for size in servable.batching.allowed_batch_sizes:
            if time.monotonic() >= ends_s:
                _log.warning(
                    "Model %s version %d: %g s were not enough to run every allowed batch size before it takes "
                    "traffic; allow fewer of them.", servable.name, servable.version, budget_s,
                )  # fmt: skip
                return count
            try:
                if signature_name in seen:
                    known = seen[signature_name]
                    rows = {alias: array[np.arange(size) % len(array)] for alias, array in known.inputs.items()}
                    unbatched.runner.run(known._replace(inputs=rows), context)
                else:
                    unbatched.run(Request(signature_name, _blank(servable, signature_name, size)), context)
                count += 1
            except Exception as error:
                if not has_failed:
                    _log.warning(
                        "Model %s version %d could not be run on %d rows of signature %s before it takes traffic, so "
                        "the first batches are slower; add warmup requests for it: %s", servable.name,
                        servable.version, size, signature_name, as_serving_error(error).message,
                    )  # fmt: skip
                has_failed = True
                break
    return count


def _blank(servable: Servable, signature_name: str, size: int) -> dict[str, Array]:
    """Inputs of so many rows: zeros and empty texts, dimensions of 1 where any length fits, and Examples with what
    the parser requires."""
    inputs: dict[str, Array] = {}
    for alias, info in servable.signatures[signature_name].inputs.items():
        if servable.takes_examples(signature_name, alias):
            spec, example = servable.feature_spec or {}, b""
            kinds = example_dtypes(spec)
            required = {
                key: [b"" if kinds[key].is_string else 0] * math.prod(feature.shape)
                for key, feature in spec.items()
                if isinstance(feature, FixedLenFeature) and feature.default_value is None
            }
            if servable.encoder is not None:
                example = servable.encoder.encode(required)
            inputs[alias] = as_strings([example] * size)
            continue
        if info.shape is None:
            raise ValueError(f"the rank of input {alias} is not known")
        shape = (size, *(1 if length < 0 else length for length in info.shape[1:]))
        blank = b"" if info.dtype.is_string else 0
        inputs[alias] = np.full(shape, blank, info.dtype.numpy)
    return inputs
