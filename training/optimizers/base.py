"""What every optimizer does: a training step from gradients to changed variables (Keras legacy, TF 2.15).

    op = optimizer.minimize(loss)     model_fn: finds or makes the Plan, the optimizer's parameters with their slots
    op.run(strategy)                  the loop, once it knows that the loss is a number:
        gradients                       torch.autograd of the loss, or those that a replayed step has computed
        strategy.reduce(gradients)      the one place where gradients of several replicas meet
        optimizer.apply(plan, …)        limits them, then calls `update`, the formula of a subclass
        global_step + 1

The first step decides how a plan is laid out. Small parameters with dense gradients move side by side into one tensor
(decision 7), and so do their slots; the others stay where they are. A sparse gradient changes only the rows of a table
that a batch looked up in Adagrad, Ftrl and SGD. Adam and RMSProp move every row, as they do in TensorFlow.

Owns plans, gradients, limits and rows. Does not know the training loop, replicas or files. Slots live in the variable
store as `training/<Optimizer>/<variable>/<slot>`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypedDict

import torch
from torch import Tensor

from estimator_serving.training.nn.variables import VariableStore, current_store
from estimator_serving.training.optimizers.gradients import Gradients as Gradients
from estimator_serving.training.optimizers.gradients import (
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    coalesced,
)

LearningRate = float | Callable[[int], float] | Callable[[], float]
Tensors = list[Tensor]


class Replicas(Protocol):
    """What a step needs of the processes that train together (`distribute.strategy.Strategy` has it)."""

    num_replicas: int

    def reduce(self, gradients: Gradients, borrow: bool = False) -> Gradients:
        """The mean of each gradient over all replicas: see Strategy.reduce."""


class Common(TypedDict, total=False):
    """Arguments of every optimizer.

    `name` stands in the names of its slots; `decay` divides the rate by 1 + decay·step; `clipvalue` limits each entry
    of a gradient, `clipnorm` the length of each variable's gradient, `global_clipnorm` that of all of them together
    (one of the last two).
    """

    name: str
    decay: float
    clipvalue: float | None
    clipnorm: float | None
    global_clipnorm: float | None


_SMALL_ELEMENTS = 65536
"""Parameters up to this size are updated together. Gathering larger gradients would cost more than it saves."""


@dataclass(slots=True)
class _Plan:
    """One optimizer's parameters and slots, looked up once and kept in the store for every later step."""

    path: str
    parameters: tuple[Tensor, ...]
    slots: tuple[Tensors, ...]
    """Per slot name a list parallel to `parameters`."""
    slot_names: tuple[list[str], ...]
    joined: _Joined | None = None
    """Made at the first step, because only the gradients show which of them are sparse."""


@dataclass(frozen=True, slots=True)
class _Joined:
    """Small parameters side by side in one tensor (the parameters are views of it), and their slots likewise.

    `members` and `others` are positions in the plan's parameters. A step on ten small tensors takes ten times as long
    as a step on one, because nearly all of it is the cost of calls.
    """

    members: tuple[int, ...]
    others: tuple[int, ...]
    weights: Tensors
    slots: tuple[Tensors, ...]

    def gradient(self, gradients: Gradients) -> Tensor | None:
        """The members' gradients side by side, or None if one of them is None in this step."""
        found = [gradients[i] for i in self.members]
        if any(g is None for g in found):
            return None
        dense = [g.to_dense() if g.is_sparse else g for g in found if g is not None]
        return torch._C._nn.flatten_dense_tensors(dense)


@dataclass(frozen=True, slots=True)
class TrainOp:
    """A step that has not been taken yet: each optimizer applies the gradients of `loss` to its own variables."""

    store: VariableStore
    loss: Tensor | None
    """None if the gradients were computed before, and no loss is known."""
    parts: tuple[tuple[Optimizer, _Plan], ...]
    gradients: tuple[Tensor | None, ...] | None = field(default=None, kw_only=True)
    """One for each parameter of each part; None until they are computed."""
    adds_up: bool = field(default=False, kw_only=True)
    """Whether the loss is a sum over the batch, so that the gradients of several replicas are added up."""

    @property
    def is_inert(self) -> bool:
        """Whether there is no step to take: outside training, and while the training graph is exported."""
        return not self.parts

    def run(self, strategy: Replicas | None = None) -> None:
        """Compute the gradients, reduce them over the strategy's replicas, change the variables, count the step.

        Without a strategy the gradients are applied as they are.
        """
        gradients: Gradients = self.compute_gradients() if self.gradients is None else self.gradients
        step = self.store.global_step
        with torch.no_grad():
            if strategy is not None:
                gradients = strategy.reduce(gradients, borrow=all(optimizer.only_reads for optimizer, _ in self.parts))
                if self.adds_up and strategy.num_replicas > 1:
                    gradients = [None if g is None else g * strategy.num_replicas for g in gradients]
            taken = 0
            for optimizer, plan in self.parts:
                count = len(plan.parameters)
                optimizer.apply(plan, gradients[taken : taken + count], step, self.store)
                taken += count
        self.store.global_step = step + 1
        _count_iterations(self.parts, self.store)

    def of(self, loss: Tensor, gradients: tuple[Tensor | None, ...]) -> TrainOp:
        """The same step for another batch, whose gradients are known."""
        return TrainOp(self.store, loss, self.parts, gradients=gradients, adds_up=self.adds_up)

    def adding_up(self) -> TrainOp:
        """The same step of a loss that is a sum over the batch."""
        return TrainOp(self.store, self.loss, self.parts, gradients=self.gradients, adds_up=True)

    def compute_gradients(self) -> tuple[Tensor | None, ...]:
        """One for each parameter of each part."""
        assert self.loss is not None
        if len(self.parts) == 1:
            return torch.autograd.grad(self.loss, self.parts[0][1].parameters, allow_unused=True)
        parameters = [p for _, plan in self.parts for p in plan.parameters]
        return torch.autograd.grad(self.loss, parameters, allow_unused=True)


def group(*train_ops: TrainOp) -> TrainOp:
    """Several train ops of one step as one: global_step + 1, and one backward pass if they have one loss.

    Raises ValueError for train ops of different losses, unless their gradients are known already (apply_gradients).
    """
    first = train_ops[0]
    parts = tuple(part for op in train_ops for part in op.parts)
    _count_iterations(parts, first.store)
    known = all(op.gradients is not None for op in train_ops)
    if not known and any(op.loss is not first.loss for op in train_ops):
        raise ValueError(
            "group takes train ops of one loss: add the losses up and minimize the sum, or make every train op with "
            "compute_gradients and apply_gradients."
        )
    gradients = tuple(g for op in train_ops for g in op.gradients or ()) if known else None
    return TrainOp(first.store, first.loss, parts, gradients=gradients, adds_up=first.adds_up)


def _count_iterations(parts: Sequence[tuple[Optimizer, _Plan]], store: VariableStore) -> None:
    """The first optimizer counts its steps as global_step; TF saves the count of each other one as `iter`."""
    for _, plan in parts[1:]:
        store.slots[f"{plan.path}/iter"] = torch.tensor(store.global_step)


class Optimizer:
    """Changes variables by their gradients. A subclass names its slots and writes `update`; for example

    class SignDescent(Optimizer):
        default_name = "SignDescent"

        def update(self, weights, gradients, slots, rate, step):
            torch._foreach_add_(weights, torch._foreach_sign(gradients), alpha=-rate)
    """

    default_name: ClassVar[str]
    v1_name: ClassVar[str] = ""
    """The optimizer's name in TensorFlow 1, if it differs from default_name."""
    slot_names: tuple[str, ...] = ()
    starts: Mapping[str, float] = MappingProxyType({})
    """The number that fills a new slot, by slot name; 0 if it is not there."""
    touches_only_rows: bool = True
    """Whether a sparse gradient changes only its own rows."""
    v1_slots: ClassVar[tuple[str, ...]] = ()
    """The slots in the order in which TensorFlow 1 numbers them, if it is another than that of slot_names."""
    constants: ClassVar[tuple[str, ...]] = ("decay",)
    """The attributes that are saved beside the slots. Their names are TensorFlow's."""
    rests_without_gradient: bool = False
    """Whether a gradient of 0 changes nothing. Small tables are then updated whole, with the same result."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        name: str | None = None,
        decay: float = 0.0,
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        if clipnorm is not None and global_clipnorm is not None:
            raise ValueError(
                "Cannot accept both `clipnorm` and `global_clipnorm`. "
                f"Received: `clipnorm`={clipnorm}, `global_clipnorm`={global_clipnorm}. Pass one of them."
            )
        limits = {"decay": decay, "clipvalue": clipvalue, "clipnorm": clipnorm, "global_clipnorm": global_clipnorm}
        for key, value in limits.items():
            if value is not None and value < 0:
                raise ValueError(f"Expected {key} >= 0, received: {value}")
        self.name = name or self.default_name
        self.learning_rate = learning_rate if callable(learning_rate) else float(learning_rate)
        self.decay = decay
        self.clipvalue = clipvalue
        self.clipnorm = clipnorm
        self.global_clipnorm = global_clipnorm
        self._rate_takes_step = callable(learning_rate) and bool(inspect.signature(learning_rate).parameters)

    def minimize(
        self,
        loss: Tensor,
        global_step: object = None,
        var_list: Iterable[Tensor] | None = None,
    ) -> TrainOp:
        """The step that lowers `loss` (f32 scalar), over all trainable variables or those of `var_list`.

        Slots are made or restored here, so a checkpoint that does not fit is found before the step.

        Raises ValueError outside a model_fn, without a variable to train, and for a tensor in `var_list` that is not a
        trainable variable.
        """
        store = current_store()
        if not store.training_mode:  # a model_fn may make its train_op in every mode; only TRAIN runs it
            return TrainOp(store, loss, ())
        return TrainOp(store, loss, ((self, self._plan(store, var_list)),))

    def compute_gradients(
        self, loss: Tensor, var_list: Iterable[Tensor] | None = None
    ) -> list[tuple[Tensor | None, Tensor]]:
        """The pairs (gradient, variable) of `loss`, over all trainable variables or those of `var_list`.

        The gradient is None where the loss does not depend on the variable, and sparse by rows (COO) for a table of
        which rows were looked up. Outside training every gradient is 0, since nothing asks for one.
        Raises ValueError outside a model_fn.
        """
        store = current_store()
        variables = [*store.trainable_variables.values()] if var_list is None else [*var_list]
        if not store.training_mode:
            return [(torch.zeros_like(variable), variable) for variable in variables]
        # The graph is kept: a model_fn may ask for the gradients of one loss twice.
        return [
            *zip(torch.autograd.grad(loss, variables, retain_graph=True, allow_unused=True), variables, strict=True)
        ]

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Tensor | None, Tensor]],
        global_step: object = None,
        name: str | None = None,
    ) -> TrainOp:
        """The step that changes variables by gradients which are known: what `compute_gradients` gave, changed or not.

        Several replicas take the mean of their gradients, as they are given here. global_step counts up by 1, whether
        it is given or not.

        Raises ValueError as minimize does, and if there is no gradient at all (TF 2.15).
        """
        pairs = [*grads_and_vars]
        if not pairs:
            raise ValueError("No variables provided.")
        store = current_store()
        if not store.training_mode:
            return TrainOp(store, None, (), gradients=())
        if all(gradient is None for gradient, _ in pairs):
            names = {id(variable): name for name, variable in store.trainable_variables.items()}
            raise ValueError(
                f"No gradients provided for any variable: {[names.get(id(variable)) for _, variable in pairs]}. The "
                "loss must be computed from them, without detach() and outside torch.no_grad()."
            )
        plan = self._plan(store, [variable for _, variable in pairs])
        return TrainOp(store, None, ((self, plan),), gradients=tuple(gradient for gradient, _ in pairs))

    def _plan(self, store: VariableStore, variables: Iterable[Tensor] | None) -> _Plan:
        """The plan of the last step, or a new one if it is the first or has other variables."""
        path = store.names.unique(f"training/{self.name}")
        wanted = tuple(store.trainable_variables.values()) if variables is None else tuple(variables)
        plan: _Plan | None = store.plans.get(path)
        if plan is None or [*map(id, plan.parameters)] != [*map(id, wanted)]:
            plan = store.plans[path] = self._new_plan(store, path, wanted)
        return plan

    def apply(self, plan: _Plan, gradients: Gradients, step: int, store: VariableStore) -> None:
        """Change the plan's parameters and slots in place. `step` is the global_step before this one."""
        rate = self.rate(step) * store.rate_scale
        gradients = self._clipped(gradients)
        if plan.joined is None:
            plan.joined = self._join(plan, gradients, store)
        joined = plan.joined
        gradient = joined.gradient(gradients) if joined.members else None
        if gradient is None:
            self._apply_each(plan, range(len(gradients)), gradients, rate, step)
            return
        self.update(joined.weights, [gradient], joined.slots, rate, step)
        if joined.others:
            self._apply_each(plan, joined.others, gradients, rate, step)

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        """The formula. Changes `weights` and `slots` in place.

        Args:
            weights: parameters, or the touched rows of some, or several small ones side by side.
            gradients: dense, parallel to `weights` and of the same shapes.
            slots: for each of `slot_names` a list parallel to `weights`.
            rate: the learning rate of this step.
            step: the global_step before this step, 0 in the first.
        """
        raise NotImplementedError

    @property
    def only_reads(self) -> bool:
        """Whether a step neither changes nor keeps the gradients, which is known of this package's optimizers."""
        return all(each.__module__.startswith(f"{__package__}.") for each in (type(self).apply, type(self).update))

    def rate(self, step: int) -> float:
        """The learning rate of the step that starts at global_step `step`."""
        given: Any = self.learning_rate
        if callable(given):
            given = given(step) if self._rate_takes_step else given()
        rate = float(given)
        return rate / (1.0 + self.decay * step) if self.decay else rate

    def initial(self, slot: str) -> float:
        """The number that fills a new slot."""
        return self.starts.get(slot, 0.0)

    def first_slot(self, slot: str, weights: Tensor, step: int) -> Tensor:
        """A new slot of `weights`: float32 of their shape. Training starts at global_step `step`."""
        return torch.full(weights.shape, self.initial(slot))

    def from_v1(self, slot: str, value: Tensor, step: int) -> Tensor:
        """Convert a slot of TensorFlow 1's optimizer, at global_step `step`, to the value that this class keeps."""
        return value

    def hyperparameters(self) -> dict[str, float]:
        """Constants saved beside the slots, under TF's names."""
        return {name: getattr(self, name) for name in self.constants}

    # -- one step -----------------------------------------------------------------------------------------------------

    def _new_plan(self, store: VariableStore, path: str, wanted: tuple[Tensor, ...]) -> _Plan:
        names = {id(p): name for name, p in store.trainable_variables.items()}
        if not wanted:
            raise ValueError("No variables to optimize: model_fn must make its layers before it calls minimize.")
        if any(id(p) not in names for p in wanted):
            raise ValueError("var_list holds a tensor that is not a trainable variable of this estimator's model_fn.")
        slot_names = tuple([f"{path}/{names[id(p)]}/{slot}" for p in wanted] for slot in self.slot_names)
        v1_order = [slot for slot in self.v1_slots or self.slot_names if slot in self.slot_names]
        for slot, full_names in zip(self.slot_names, slot_names, strict=True):
            for name, p in zip(full_names, wanted, strict=True):
                # A slot has another name in a checkpoint of TensorFlow. Keras outside an estimator writes
                # `Adam/<variable>/m`. TensorFlow 1 numbers them: `<variable>/Adam`, `…/Adam_1`.
                variable = names[id(p)]
                for kind in (self.name, self.v1_name or self.default_name):
                    store.first_values.rename(f"{kind}/{variable}/{slot}", name, lambda value: value)
                    number = v1_order.index(slot)
                    old = f"{variable}/{kind}_{number}" if number else f"{variable}/{kind}"
                    store.first_values.rename(old, name, partial(self.from_v1, slot, step=store.global_step))
        slots = tuple(
            [
                store.slot(name, p.shape, partial(self.first_slot, slot, p, store.global_step))
                for name, p in zip(full_names, wanted, strict=True)
            ]
            for slot, full_names in zip(self.slot_names, slot_names, strict=True)
        )
        for name, value in self.hyperparameters().items():
            store.slots[f"{path}/{name}"] = torch.tensor(value)
        if not callable(self.learning_rate):
            store.slots[f"{path}/learning_rate"] = torch.tensor(self.learning_rate)
        return _Plan(path, wanted, slots, slot_names)

    def _clipped(self, gradients: Gradients) -> Gradients:
        """Limited in TF's order: entries first, then each variable, then all variables together."""
        if self.clipvalue is None and self.clipnorm is None and self.global_clipnorm is None:
            return gradients
        clipped = coalesced(gradients)
        if (limit := self.clipvalue) is not None:
            clipped = [None if g is None else clip_by_value(g, -limit, limit) for g in clipped]
        if self.clipnorm is not None:
            clipped = [None if g is None else clip_by_norm(g, self.clipnorm) for g in clipped]
        if self.global_clipnorm is not None:
            clipped, _ = clip_by_global_norm(clipped, self.global_clipnorm)
        return clipped

    def _join(self, plan: _Plan, gradients: Gradients, store: VariableStore) -> _Joined:
        """Lay the plan's small parameters and their slots side by side."""
        takes_sparse = self.rests_without_gradient or not self.touches_only_rows
        members = tuple(
            i
            for i, (parameter, gradient) in enumerate(zip(plan.parameters, gradients, strict=True))
            if parameter.numel() <= _SMALL_ELEMENTS
            and parameter.dtype == torch.float32
            and gradient is not None
            and (takes_sparse or not gradient.is_sparse)
        )
        others = tuple(i for i in range(len(gradients)) if i not in members)
        if len(members) < 2:
            return _Joined((), tuple(range(len(gradients))), [], ())
        weights, views = _side_by_side([plan.parameters[i] for i in members])
        for i, view in zip(members, views, strict=True):
            parameter: Any = plan.parameters[i]
            parameter.data = view
            parameter.takes_whole_gradient = True  # see lookups.gather_rows
        slots: list[Tensors] = []
        for tensors, names in zip(plan.slots, plan.slot_names, strict=True):
            whole, views = _side_by_side([tensors[i] for i in members])
            for i, view in zip(members, views, strict=True):
                tensors[i] = view
                store.slots[names[i]] = view
            slots.append([whole])
        return _Joined(members, others, [weights], tuple(slots))

    def _apply_each(self, plan: _Plan, indices: Iterable[int], gradients: Gradients, rate: float, step: int) -> None:
        """Gather the touched rows, run the formula on dense tensors and rows together, put the rows back."""
        weights: Tensors = []
        grads: Tensors = []
        slots: tuple[Tensors, ...] = tuple([] for _ in plan.slots)
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for i in indices:
            gradient = gradients[i]
            if gradient is None:
                continue
            tensors = [plan.parameters[i], *(slot[i] for slot in plan.slots)]
            if gradient.is_sparse and self.touches_only_rows:
                gradient = gradient.coalesce()
                ids = gradient.indices()[0]
                taken = [t.index_select(0, ids) for t in tensors]
                rows.extend((whole, ids, part) for whole, part in zip(tensors, taken, strict=True))
                tensors, gradient = taken, gradient.values()
            elif gradient.is_sparse:
                gradient = gradient.to_dense()
            weights.append(tensors[0])
            grads.append(gradient)
            for target, tensor in zip(slots, tensors[1:], strict=True):
                target.append(tensor)
        if weights:
            self.update(weights, grads, slots, rate, step)
        for whole, ids, part in rows:
            whole.index_copy_(0, ids, part)


def _side_by_side(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensors]:
    """A flat copy of all, and views of it in the shape of each."""
    flat = torch.cat([t.detach().reshape(-1) for t in tensors])
    pieces = torch.split(flat, [t.numel() for t in tensors])
    return flat, [piece.view(t.shape) for piece, t in zip(pieces, tensors, strict=True)]
