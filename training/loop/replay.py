"""A training step recorded once and replayed: the same operators on the new batch, without the Python and the autograd
engine that found them. For small models those two are most of a step.

The theory. A signature is the shapes and dtypes of a batch's tensors. Its first step is taken the ordinary way, for it
makes what every later step finds. Its second step is recorded, while it is taken: every operator below autograd becomes
a line of a small program from the batch and the variables to the loss and the gradients. Its later steps run that
program. It is TorchScript, whose interpreter calls an operator in half the time that Python needs; its optimizations
are off, because they may change the last bit of a number.

A step may ask its tensors a yes-or-no question ("is an id missing?", "are the labels in range?"). The program asks
again, and where an answer differs the step is taken the ordinary way and recorded beside the first recording. PyTorch
itself asks one such question: an operator that picks rows by their values and finds none is followed by another one
(the gradient of a table without rows).

A model is replayed only if its model_fn is marked `depends_only_on_tensors`: what it computes follows from features,
labels and variables, and not from the step, a counter or any other state of the program. The first step that cannot be
recorded (it draws random numbers, reads a number into Python, or changes a variable) ends all replaying of this model.
The numbers of a replayed step are those of the ordinary one to the last bit: the operators, their order and their
arguments are the same.

Owns recording and replaying one call of model_fn with its gradients. Does not know the training loop. All of it runs on
the thread of the loop, without a lock.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from estimator_serving.training.columns.features import Features
from estimator_serving.training.model_fn import EstimatorSpec, ModelFn
from estimator_serving.training.nn.variables import VariableStore

_SIGNATURES_MAX = 16
"""Shapes of batches that are recorded: the full batch, and several widths of multivalent features."""
_RECORDINGS_MAX = 3
"""Recordings of one signature, which differ in the answers to what the step asks."""

Call = Callable[[Any, Any], EstimatorSpec]
Signature = tuple[tuple[torch.Size, torch.dtype], ...]


def depends_only_on_tensors(model_fn: ModelFn) -> ModelFn:
    """Mark a model_fn whose steps may be replayed."""
    vars(model_fn)[_MARK] = True
    return model_fn


def may_be_replayed(model_fn: ModelFn) -> bool:
    """Whether a model_fn is marked so."""
    return getattr(model_fn, _MARK, False)


_MARK = "depends_only_on_tensors"


def replaying(model_fn: ModelFn, call: Call, store: VariableStore) -> Call:
    """`call(features, labels)`, replayed where model_fn is marked for it."""
    return _Replay(call, store) if may_be_replayed(model_fn) else call


class _Replay:
    """A signature is called the ordinary way first, recorded the second time and replayed from then on."""

    def __init__(self, call: Call, store: VariableStore) -> None:
        self._call = call
        self._store = store
        self._recordings: defaultdict[Signature, list[_Recording]] = defaultdict(list)
        self._seen: set[Signature] = set()
        self._is_possible = True

    def __call__(self, features: Any, labels: Any) -> EstimatorSpec:
        if not self._is_possible or self._store.summaries is not None or not isinstance(features, Features):
            return self._call(features, labels)
        inputs = [*features.tensors(), labels]
        if not all(issubclass(kind, Tensor) for kind in {*map(type, inputs)}):
            return self._call(features, labels)
        signature = tuple([(each.shape, each.dtype) for each in inputs])
        recordings = self._recordings[signature]
        for recording in recordings:
            spec = recording.replay(inputs)
            if spec is not None:
                return spec
        if signature in self._seen and len(recordings) < _RECORDINGS_MAX:
            recorder = _Recorder(inputs, self._store)
            with recorder:
                spec = self._call(features, labels)
                assert spec.train_op is not None
                assert spec.loss is not None
                train_op = spec.train_op
                assert train_op.loss is not None
                spec = spec.of_step(spec.loss, train_op.of(train_op.loss, train_op.compute_gradients()))
            made = None if self._store.pending_updates or spec.predictions else recorder.finish(spec)
            if made is None:
                self._is_possible = False
            else:
                recordings.append(made)
            return spec
        if len(self._seen) < _SIGNATURES_MAX:
            self._seen.add(signature)
        return self._call(features, labels)


class _Recording(NamedTuple):
    program: Callable[..., list[Tensor | None]]
    variables: tuple[Tensor, ...]
    spec: EstimatorSpec

    def replay(self, inputs: Sequence[Tensor]) -> EstimatorSpec | None:
        """The spec of a step on these inputs, None where an answer differs from the recorded one.

        None after an error too, so that the ordinary step raises it.
        """
        was_optimizing = torch._C._get_graph_executor_optimize()
        torch._C._set_graph_executor_optimize(False)  # the operators as they stand, none fused or left out
        try:
            with torch._C._AutoDispatchBelowAutograd():
                made = self.program(*inputs, *self.variables)
        except RuntimeError:
            return None
        finally:
            torch._C._set_graph_executor_optimize(was_optimizing)
        if not made:
            return None
        loss, *gradients = made
        assert loss is not None
        assert self.spec.train_op is not None
        return self.spec.of_step(loss, self.spec.train_op.of(loss, tuple(gradients)))


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    question: str
    """What must be true after it for the rest to be run; empty if nothing."""
    makes: frozenset[str]
    needs: frozenset[str]
    must_run: bool
    """Whether it does something beside making a value: stops the replay, or changes a tensor in place."""


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types neither it nor its constructor
    """Notes every operator below autograd as a line of TorchScript: names for tensors and whatever has no literal."""

    def __init__(self, inputs: Sequence[Tensor], store: VariableStore) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inputs = [f"i{number}" for number in range(len(inputs))]
        self._names = {id(tensor): name for tensor, name in zip(inputs, self._inputs, strict=True)}
        self._constants: dict[str, Any] = {"torch": torch}
        self._variables: dict[str, Tensor] = {}
        self._lines: list[_Line] = []
        # Keeps the objects alive, so that no id is used twice.
        self._alive: list[Any] = list(inputs)
        self._can_repeat = True
        self._numbers = itertools.count()
        for tensor in (*store.parameters(), *store.buffers()):
            self._variable(tensor)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise PyTorch wraps __torch_dispatch__ so that torch.compile leaves it alone, and imports the compiler for
        # that, which takes as long as thousands of steps.
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self._alive.append((args, made))
        try:
            self._note(function, args, kwargs or {}, made)
        except LookupError:
            # What it made has no name, so the recording fails if the loss or a gradient is computed from it.
            self._can_repeat &= isinstance(made, Tensor) and not function._schema.is_mutable
        return made

    def finish(self, spec: EstimatorSpec) -> _Recording | None:
        """The recording, with the loss and the gradients as its results; None where it cannot be repeated."""
        assert spec.train_op is not None
        needed: set[str] = set()
        try:
            results = self._text([spec.loss, *(spec.train_op.gradients or ())], needed)
        except LookupError:
            return None
        if not self._can_repeat:
            return None
        # From the last line to the first: those that the needed values come from.
        kept: list[_Line] = []
        for line in reversed(self._lines):
            if line.must_run or line.makes & needed:
                needed |= line.needs
                kept.append(line)
        variables = {name: tensor for name, tensor in self._variables.items() if name in needed}
        text = [f"def program({', '.join(f'{name}: Tensor' for name in (*self._inputs, *variables))}):"]
        text.append("    made = torch.jit.annotate(List[Optional[Tensor]], [])")
        indent = "    "
        for line in reversed(kept):
            text.append(indent + line.text)
            if line.question:
                text.append(f"{indent}if {line.question}:")
                indent += "    "
        text += [f"{indent}made = torch.jit.annotate(List[Optional[Tensor]], {results})", "    return made\n"]
        try:
            unit = torch._C.CompilationUnit()
            unit.define("\n".join(text), self._constants.get)  # type: ignore[arg-type]  # it may give any value
        except RuntimeError:
            return None
        assert spec.loss is not None
        loss = spec.loss.detach()  # not the recorded batch's autograd graph, which would stay in memory
        spec = spec.of_step(loss, spec.train_op.of(loss, ()))
        return _Recording(unit.find_function("program"), tuple(variables.values()), spec)

    def _note(self, function: Any, args: Any, kwargs: Any, made: Any) -> None:
        """One operator. LookupError for what cannot be repeated."""
        if function is torch.ops.aten.detach.default:
            self._names[id(made)] = self._names[id(args[0])]
            return
        if function is torch.ops.aten.ones_like.default and made.ndim == 0:
            # The gradient of the loss by itself, where autograd begins: always this 1.
            self._variable(made)
            return
        # Whether the operator changes a variable or an input in place.
        writes_outside = any(
            schema.alias_info is not None and schema.alias_info.is_write and not self._names[id(value)].startswith("v")
            for schema, value in zip(function._schema.arguments, args, strict=False)
        )
        if torch.Tag.nondeterministic_seeded in function.tags or writes_outside:
            raise LookupError
        needs: set[str] = set()
        given = [self._text(value, needs) for value in args]
        given += [f"{key}={self._text(value, needs)}" for key, value in kwargs.items()]
        makes: set[str] = set()
        result = self._result(made, makes)
        # What sends the step another way where it is false.
        question = ""
        if isinstance(made, bool):
            question = f"bool({result})" if made else f"not bool({result})"
        elif torch.Tag.dynamic_output_shape in function.tags and isinstance(made, Tensor):
            question = f"{result}.numel() {'==' if made.numel() == 0 else '!='} 0"
        must_run = function._schema.is_mutable or bool(question)
        text = f"{result} = {self._constant(function.overloadpacket)}({', '.join(given)})"
        self._lines.append(_Line(text, question, frozenset(makes), frozenset(needs), must_run))

    def _result(self, made: Any, makes: set[str]) -> str:
        if isinstance(made, tuple | list):
            return f"({', '.join(self._result(each, makes) for each in made)},)"
        if not isinstance(made, Tensor | bool):
            raise LookupError  # a number that Python went on with
        name = f"v{next(self._numbers)}"
        makes.add(name)
        if isinstance(made, Tensor):
            self._names[id(made)] = name
        return name

    def _text(self, value: Any, needs: set[str]) -> str:
        if isinstance(value, Tensor):
            name = self._names[id(value)]
            needs.add(name)
            return name
        if isinstance(value, list | tuple):
            return f"[{', '.join(self._text(each, needs) for each in value)}]"
        if value is None or isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
            return str(value)
        if isinstance(value, torch.device):
            return f'torch.device("{value}")'
        return self._constant(value)

    def _variable(self, tensor: Tensor) -> None:
        name = self._names[id(tensor)] = f"c{next(self._numbers)}"
        self._variables[name] = tensor

    def _constant(self, value: Any) -> str:
        name = f"c{next(self._numbers)}"
        self._constants[name] = value
        return name
