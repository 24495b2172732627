"""Gradient descent with TensorFlow's constants and update formulas (Keras legacy, TF 2.15).

Owns the formulas and which rows a sparse gradient touches. Does not know the training loop or files: `minimize` returns
a TrainOp, and the estimator runs it once the loss has been found to be a number. Slots live in the variable store as
`training/<Optimizer>/<variable>/<slot>`.

Adagrad, Ftrl and SGD change only the rows of a table that a batch looked up; Adam and RMSProp move every row (as TF).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypedDict, Unpack

import torch
from torch import Tensor

from estimator_serving.training.nn.variables import VariableStore, current_store
from estimator_serving.training.optimizers import schedules

LearningRate = float | Callable[[int], float] | Callable[[], float]
Tensors = list[Tensor]


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
"""Parameters up to this size are updated together; to gather larger gradients would cost more than it saves."""


@dataclass(slots=True)
class _Plan:
    """One optimizer's parameters and slots, looked up once and kept in the store for every later step."""

    path: str
    parameters: tuple[Tensor, ...]
    slots: tuple[Tensors, ...]
    """Per slot name a list parallel to `parameters`."""
    slot_names: tuple[list[str], ...]
    joined: _Joined | None = None
    """Made at the first step, when it is known which gradients are sparse."""


@dataclass(frozen=True, slots=True)
class _Joined:
    """Small parameters side by side in one tensor (the parameters are views of it), and their slots alike.

    A step on ten small tensors is ten times the work of a step on one: nearly all of it is calling.
    """

    members: tuple[int, ...]
    others: tuple[int, ...]
    weights: Tensors
    slots: tuple[Tensors, ...]

    def gradient(self, gradients: Sequence[Tensor | None]) -> Tensor | None:
        """The members' gradients side by side, None if one is missing in this step."""
        found = [gradients[i] for i in self.members]
        if any(g is None for g in found):
            return None
        return torch.cat([(g.to_dense() if g.is_sparse else g).reshape(-1) for g in found if g is not None])


@dataclass(frozen=True, slots=True)
class TrainOp:
    """A step that has not been taken: the gradients of `loss`, applied by each optimizer to its own variables."""

    store: VariableStore
    loss: Tensor
    parts: tuple[tuple[Optimizer, _Plan], ...]
    gradients: tuple[Tensor | None, ...] | None = field(default=None, kw_only=True)
    """One for each parameter of each part; None until they have been computed."""

    @property
    def is_inert(self) -> bool:
        """Whether there is no step to take: outside training, and where the training graph is exported."""
        return not self.parts

    def run(self) -> None:
        """Compute the gradients, change the variables, and raise global_step by 1."""
        gradients = self._gradients() if self.gradients is None else self.gradients
        step = self.store.global_step
        with torch.no_grad():
            taken = 0
            for optimizer, plan in self.parts:
                count = len(plan.parameters)
                optimizer.apply(plan, gradients[taken : taken + count], step, self.store)
                taken += count
        self.store.global_step = step + 1
        _count_iterations(self.parts, self.store)

    def of(self, loss: Tensor, gradients: tuple[Tensor | None, ...]) -> TrainOp:
        """The same step of another batch, whose gradients are known."""
        return TrainOp(self.store, loss, self.parts, gradients=gradients)

    def with_gradients(self) -> TrainOp:
        """The same step with its gradients computed."""
        return self.of(self.loss, self._gradients())

    def _gradients(self) -> tuple[Tensor | None, ...]:
        if len(self.parts) == 1:
            return torch.autograd.grad(self.loss, self.parts[0][1].parameters, allow_unused=True)
        parameters = [p for _, plan in self.parts for p in plan.parameters]
        return torch.autograd.grad(self.loss, parameters, allow_unused=True)


def group(*train_ops: TrainOp) -> TrainOp:
    """Several train ops of one loss as one step: one backward pass, global_step + 1."""
    first = train_ops[0]
    if any(op.loss is not first.loss for op in train_ops):
        raise ValueError("group takes train ops of one loss: add the losses up and minimize the sum.")
    parts = tuple(part for op in train_ops for part in op.parts)
    _count_iterations(parts, first.store)
    return TrainOp(first.store, first.loss, parts)


def _count_iterations(parts: Sequence[tuple[Optimizer, _Plan]], store: VariableStore) -> None:
    """Of several optimizers the first one's steps are global_step; TF saves the others' own counts as `iter`."""
    for _, plan in parts[1:]:
        store.hyperparameter(f"{plan.path}/iter", store.global_step)


class Optimizer:
    """An update formula. Subclasses name their slots and write `update`."""

    default_name: ClassVar[str]
    slot_names: tuple[str, ...] = ()
    touches_rows_alone: bool = True
    """Whether a sparse gradient changes only its own rows."""
    rests_without_gradient: bool = False
    """Whether a gradient of 0 changes nothing, so that small tables may be updated whole with the same result."""

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
        self.learning_rate = learning_rate
        self.decay = decay
        self.clipvalue = clipvalue
        self.clipnorm = clipnorm
        self.global_clipnorm = global_clipnorm
        self._rate_at = _function_of_step(learning_rate)

    def minimize(
        self,
        loss: Tensor,
        global_step: object = None,
        var_list: Iterable[Tensor] | None = None,
    ) -> TrainOp:
        """The step that lowers `loss`, over all trainable variables or those of `var_list`.

        `loss` f32 scalar. Slots are made or restored here, so a checkpoint that does not fit is found before the step.
        Raises ValueError outside a model_fn or when there is nothing to train.
        """
        store = current_store()
        if not store.training_mode:  # a model_fn may make its train_op in every mode; only TRAIN runs it
            return TrainOp(store, loss, ())
        return TrainOp(store, loss, ((self, self._plan(store, var_list)),))

    def apply(self, plan: _Plan, gradients: Sequence[Tensor | None], step: int, store: VariableStore) -> None:
        """Change the plan's parameters and slots in place. `step` is the global_step before this one."""
        rate = self.rate(step)
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
        """The formula, in place, on parallel lists of tensors."""
        raise NotImplementedError

    def rate(self, step: int) -> float:
        """The learning rate of the step that starts at global_step `step`."""
        rate = self._rate_at(step)
        return rate / (1.0 + self.decay * step) if self.decay else rate

    def initial(self, slot: str) -> float:
        """What a new slot is full of."""
        return 0.0

    def first_slot(self, slot: str, weights: Tensor, step: int) -> Tensor:
        """A new slot of `weights`, float32 of their shape, where training starts at global_step `step`."""
        return torch.full(weights.shape, self.initial(slot))

    def hyperparameters(self) -> dict[str, float]:
        """Constants saved beside the slots, under TF's names."""
        return {"decay": self.decay}

    # -- the list of variables ----------------------------------------------------------------------------------------

    def _plan(self, store: VariableStore, var_list: Iterable[Tensor] | None) -> _Plan:
        path = store.unique_name(f"training/{self.name}")
        wanted = tuple(store.trainable_variables.values()) if var_list is None else tuple(var_list)
        plan: _Plan | None = store.plans.get(path)
        if plan is None or not _same_tensors(plan.parameters, wanted):
            plan = store.plans[path] = self._new_plan(store, path, wanted)
        return plan

    def _new_plan(self, store: VariableStore, path: str, wanted: tuple[Tensor, ...]) -> _Plan:
        names = {id(p): name for name, p in store.trainable_variables.items()}
        if not wanted:
            raise ValueError("No variables to optimize: model_fn must make its layers before it calls minimize.")
        if any(id(p) not in names for p in wanted):
            raise ValueError("var_list holds a tensor that is not a trainable variable of this estimator's model_fn.")
        slot_names = tuple([f"{path}/{names[id(p)]}/{slot}" for p in wanted] for slot in self.slot_names)
        slots = tuple(
            [
                store.slot(name, p.shape, partial(self.first_slot, slot, p, store.global_step))
                for name, p in zip(full_names, wanted, strict=True)
            ]
            for slot, full_names in zip(self.slot_names, slot_names, strict=True)
        )
        for name, value in self.hyperparameters().items():
            store.hyperparameter(f"{path}/{name}", value)
        if not callable(self.learning_rate):
            store.hyperparameter(f"{path}/learning_rate", float(self.learning_rate))
        return _Plan(path, wanted, slots, slot_names)

    # -- limits -------------------------------------------------------------------------------------------------------

    def _clipped(self, gradients: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """In TF's order: entries, then each variable, or all variables together."""
        if self.clipvalue is None and self.clipnorm is None and self.global_clipnorm is None:
            return gradients
        # A row that was looked up twice has one gradient, the sum.
        summed = [g.coalesce() if g is not None and g.is_sparse else g for g in gradients]
        if self.clipvalue is not None:
            limit = self.clipvalue
            summed = [_mapped(g, lambda values: values.clamp(-limit, limit)) for g in summed]
        if self.clipnorm is not None:
            summed = [None if g is None else g * _shrinkage(_norm(g), self.clipnorm) for g in summed]
        if self.global_clipnorm is not None:
            norm = torch.stack([_norm(g) for g in summed if g is not None]).norm()
            shrinkage = _shrinkage(norm, self.global_clipnorm)
            summed = [None if g is None else g * shrinkage for g in summed]
        return summed

    # -- small tensors together, the others one by one ----------------------------------------------------------------

    def _join(self, plan: _Plan, gradients: Sequence[Tensor | None], store: VariableStore) -> _Joined:
        members = tuple(i for i, g in enumerate(gradients) if g is not None and self._can_join(plan.parameters[i], g))
        others = tuple(i for i in range(len(gradients)) if i not in members)
        if len(members) < 2:
            return _Joined((), tuple(range(len(gradients))), [], ())
        weights, views = _side_by_side([plan.parameters[i] for i in members])
        for i, view in zip(members, views, strict=True):
            parameter: Any = plan.parameters[i]
            parameter.data = view
            parameter.takes_whole_gradient = True  # see variables.gather_rows
        slots: list[Tensors] = []
        for tensors, names in zip(plan.slots, plan.slot_names, strict=True):
            whole, views = _side_by_side([tensors[i] for i in members])
            for i, view in zip(members, views, strict=True):
                tensors[i] = view
                store.replace_slot(names[i], view)
            slots.append([whole])
        return _Joined(members, others, [weights], tuple(slots))

    def _can_join(self, parameter: Tensor, gradient: Tensor) -> bool:
        if parameter.numel() > _SMALL_ELEMENTS or parameter.dtype != torch.float32:
            return False
        return not gradient.is_sparse or self.rests_without_gradient or not self.touches_rows_alone

    def _apply_each(
        self, plan: _Plan, indices: Iterable[int], gradients: Sequence[Tensor | None], rate: float, step: int
    ) -> None:
        """Gather the touched rows, run the one formula on dense tensors and rows together, put the rows back."""
        weights: Tensors = []
        grads: Tensors = []
        slots: tuple[Tensors, ...] = tuple([] for _ in plan.slots)
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for i in indices:
            gradient = gradients[i]
            if gradient is None:
                continue
            tensors = [plan.parameters[i], *(slot[i] for slot in plan.slots)]
            if gradient.is_sparse and self.touches_rows_alone:
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


def _function_of_step(learning_rate: LearningRate) -> Callable[[int], float]:
    """A number, a function of the step or a function without arguments, all as the second."""
    if not callable(learning_rate):
        constant = float(learning_rate)
        return lambda step: constant  # noqa: ARG005
    function: Any = learning_rate
    takes_step = isinstance(function, schedules.LearningRateSchedule) or inspect.signature(function).parameters
    return (lambda step: float(function(step))) if takes_step else (lambda step: float(function()))  # noqa: ARG005


def _mapped(gradient: Tensor | None, change: Callable[[Tensor], Tensor]) -> Tensor | None:
    """A gradient with its values changed; of a coalesced sparse one those that are there."""
    if gradient is None or not gradient.is_sparse:
        return None if gradient is None else change(gradient)
    values = change(gradient.values())
    return torch.sparse_coo_tensor(
        gradient.indices(), values, gradient.shape, is_coalesced=True, check_invariants=False
    )


def _norm(gradient: Tensor) -> Tensor:
    return (gradient.values() if gradient.is_sparse else gradient).norm()


def _shrinkage(norm: Tensor, limit: float) -> Tensor:
    return limit / norm.clamp(min=limit)


def _side_by_side(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensors]:
    """A flat copy of all, and views of it in the shape of each."""
    flat = torch.cat([t.detach().reshape(-1) for t in tensors])
    pieces = flat.split([t.numel() for t in tensors])
    return flat, [piece.view(t.shape) for piece, t in zip(pieces, tensors, strict=True)]


def _same_tensors(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


class SGD(Optimizer):
    """w −= lr·g; with momentum a = m·a − lr·g, w += a (Nesterov: w += m·a − lr·g). Default lr 0.01."""

    default_name = "SGD"

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"`momentum` must be between [0, 1], given: {momentum}.")
        self.momentum = momentum
        self.nesterov = nesterov
        self.slot_names = ("momentum",) if momentum else ()
        self.rests_without_gradient = not momentum

    def hyperparameters(self) -> dict[str, float]:
        return {**super().hyperparameters(), "momentum": self.momentum}

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        if not self.momentum:
            torch._foreach_add_(weights, gradients, alpha=-rate)
            return
        (velocity,) = slots
        torch._foreach_mul_(velocity, self.momentum)
        torch._foreach_add_(velocity, gradients, alpha=-rate)
        if self.nesterov:
            torch._foreach_add_(weights, velocity, alpha=self.momentum)
            torch._foreach_add_(weights, gradients, alpha=-rate)
        else:
            torch._foreach_add_(weights, velocity)


class Adagrad(Optimizer):
    """n += g²; w −= lr·g/(√n + ε). Defaults lr 0.001, n₀ 0.1, ε 1e-7."""

    default_name = "Adagrad"
    slot_names = ("accumulator",)
    rests_without_gradient = True

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        if initial_accumulator_value < 0.0:
            raise ValueError(f"initial_accumulator_value must be non-negative: {initial_accumulator_value}")
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def initial(self, slot: str) -> float:
        return self.initial_accumulator_value

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        (accumulator,) = slots
        torch._foreach_addcmul_(accumulator, gradients, gradients)
        denominator = torch._foreach_sqrt(accumulator)
        torch._foreach_add_(denominator, self.epsilon)
        torch._foreach_addcdiv_(weights, gradients, denominator, value=-rate)


class Adam(Optimizer):
    """Adam with ε outside the corrected root, as TF has it: w −= lr·√(1−β₂ᵗ)/(1−β₁ᵗ) · m/(√v + ε).

    Defaults lr 0.001, β 0.9 and 0.999, ε 1e-7. t is global_step + 1. Every row of a table moves, looked up or not.
    `amsgrad` divides by the root of the largest v so far.
    """

    default_name = "Adam"
    slot_names = ("m", "v")
    touches_rows_alone = False

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.slot_names = ("m", "v", "vhat") if amsgrad else ("m", "v")

    def hyperparameters(self) -> dict[str, float]:
        return {**super().hyperparameters(), "beta_1": self.beta_1, "beta_2": self.beta_2}

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        m, v, *largest = slots
        corrected = rate * (1.0 - self.beta_2 ** (step + 1)) ** 0.5 / (1.0 - self.beta_1 ** (step + 1))
        torch._foreach_lerp_(m, gradients, 1.0 - self.beta_1)
        torch._foreach_mul_(v, self.beta_2)
        torch._foreach_addcmul_(v, gradients, gradients, value=1.0 - self.beta_2)
        if largest:
            torch._foreach_maximum_(largest[0], v)
        denominator = torch._foreach_sqrt(largest[0] if largest else v)
        torch._foreach_add_(denominator, self.epsilon)
        torch._foreach_addcdiv_(weights, m, denominator, value=-corrected)


class Adamax(Optimizer):
    """Adam with the largest gradient in place of the root: u = max(β₂·u, |g|); w −= lr/(1−β₁ᵗ) · m/(u + ε).

    Defaults lr 0.001, β 0.9 and 0.999, ε 1e-7. t is global_step + 1.
    """

    default_name = "Adamax"
    slot_names = ("m", "v")

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def hyperparameters(self) -> dict[str, float]:
        return {**super().hyperparameters(), "beta_1": self.beta_1, "beta_2": self.beta_2}

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        m, largest = slots
        torch._foreach_lerp_(m, gradients, 1.0 - self.beta_1)
        torch._foreach_mul_(largest, self.beta_2)
        torch._foreach_maximum_(largest, torch._foreach_abs(gradients))
        denominator = torch._foreach_add(largest, self.epsilon)
        torch._foreach_addcdiv_(weights, m, denominator, value=-rate / (1.0 - self.beta_1 ** (step + 1)))


class Adadelta(Optimizer):
    """s = ρ·s + (1−ρ)·g²; d = g·√(u + ε)/√(s + ε); u = ρ·u + (1−ρ)·d²; w −= lr·d. Defaults lr 0.001, ρ 0.95, ε 1e-7."""

    default_name = "Adadelta"
    slot_names = ("accum_grad", "accum_var")

    def __init__(
        self, learning_rate: LearningRate = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **common: Unpack[Common]
    ) -> None:
        super().__init__(learning_rate, **common)
        self.rho = rho
        self.epsilon = epsilon

    def hyperparameters(self) -> dict[str, float]:
        return {**super().hyperparameters(), "rho": self.rho}

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        squares, steps = slots
        torch._foreach_mul_(squares, self.rho)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - self.rho)
        delta = torch._foreach_sqrt(torch._foreach_add(steps, self.epsilon))
        torch._foreach_div_(delta, torch._foreach_sqrt(torch._foreach_add(squares, self.epsilon)))
        torch._foreach_mul_(delta, gradients)
        torch._foreach_mul_(steps, self.rho)
        torch._foreach_addcmul_(steps, delta, delta, value=1.0 - self.rho)
        torch._foreach_add_(weights, delta, alpha=-rate)


class RMSProp(Optimizer):
    """s = ρ·s + (1−ρ)·g²; w −= lr·g/(√s + ε); with momentum a = m·a + lr·g/√(s + ε), w −= a.

    `centered` takes the square of the moving mean of g from s. Defaults lr 0.001, ρ 0.9, momentum 0, ε 1e-7.
    """

    default_name = "RMSprop"

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"`momentum` must be between [0, 1], given: {momentum}.")
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered
        self.slot_names = ("rms", *(["momentum"] if momentum else []), *(["mg"] if centered else []))
        # TF decays s everywhere without momentum, and only in the touched rows with it.
        self.touches_rows_alone = bool(momentum)

    def hyperparameters(self) -> dict[str, float]:
        return {**super().hyperparameters(), "rho": self.rho, "momentum": self.momentum}

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        named = dict(zip(self.slot_names, slots, strict=True))
        squares = named["rms"]
        torch._foreach_mul_(squares, self.rho)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - self.rho)
        variance = squares
        if self.centered:
            torch._foreach_lerp_(named["mg"], gradients, 1.0 - self.rho)
            variance = torch._foreach_addcmul(squares, named["mg"], named["mg"], value=-1.0)
        if self.momentum:
            root = torch._foreach_sqrt(torch._foreach_add(variance, self.epsilon))
            torch._foreach_mul_(named["momentum"], self.momentum)
            torch._foreach_addcdiv_(named["momentum"], gradients, root, value=rate)
            torch._foreach_sub_(weights, named["momentum"])
        else:
            root = torch._foreach_add(torch._foreach_sqrt(variance), self.epsilon)
            torch._foreach_addcdiv_(weights, gradients, root, value=-rate)


RMSprop = RMSProp
"""Keras' spelling."""


class Ftrl(Optimizer):
    """Follow the regularised leader. Defaults lr 0.001, lr_power −0.5, n₀ 0.1, l1 = l2 = shrinkage = β = 0.

        n' = n + g²;  σ = (n'^−p − n^−p)/lr;  z += g + 2·shrinkage·w − σ·w
        w  = (clip(z, ±l1) − z) / (n'^−p/lr + 2·(l2 + β/(2·lr)))

    z starts at 0, so a weight that starts elsewhere is pulled towards 0 and one without gradient becomes 0 (TF's too).
    With `keep_initial_weights`, which TF lacks, z starts at −w₀·(n₀^−p + β)/lr: a weight stays where it starts (or was
    warm-started) until gradients and regularisation move it.
    """

    default_name = "Ftrl"
    slot_names = ("accumulator", "linear")

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        keep_initial_weights: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(learning_rate, **common)
        _check_ftrl(
            learning_rate_power,
            initial_accumulator_value=initial_accumulator_value,
            l1_regularization_strength=l1_regularization_strength,
            l2_regularization_strength=l2_regularization_strength,
            l2_shrinkage_regularization_strength=l2_shrinkage_regularization_strength,
        )
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1 = l1_regularization_strength
        self.l2 = l2_regularization_strength
        self.l2_shrinkage = l2_shrinkage_regularization_strength
        self.beta = beta
        self.keep_initial_weights = keep_initial_weights

    def initial(self, slot: str) -> float:
        return self.initial_accumulator_value if slot == "accumulator" else 0.0

    def first_slot(self, slot: str, weights: Tensor, step: int) -> Tensor:
        if slot != "linear" or not self.keep_initial_weights:
            return super().first_slot(slot, weights, step)
        pull = (self.initial_accumulator_value**-self.learning_rate_power + self.beta) / self.rate(step)
        return weights.detach() * -pull

    def hyperparameters(self) -> dict[str, float]:
        return {
            **super().hyperparameters(),
            "beta": self.beta,
            "l1_regularization_strength": self.l1,
            "l2_regularization_strength": self.l2,
            "learning_rate_power": self.learning_rate_power,
        }

    def update(self, weights: Tensors, gradients: Tensors, slots: Sequence[Tensors], rate: float, step: int) -> None:
        accumulator, linear = slots
        before = self._power(accumulator)
        torch._foreach_addcmul_(accumulator, gradients, gradients)
        after = self._power(accumulator)
        torch._foreach_add_(linear, gradients)
        if self.l2_shrinkage:
            torch._foreach_add_(linear, weights, alpha=2.0 * self.l2_shrinkage)
        torch._foreach_sub_(before, after)
        torch._foreach_addcmul_(linear, before, weights, value=1.0 / rate)
        torch._foreach_div_(after, rate)
        torch._foreach_add_(after, 2.0 * self.l2 + self.beta / rate)
        pulled = torch._foreach_neg(linear)
        if self.l1:
            clipped = torch._foreach_clamp_min(torch._foreach_clamp_max(linear, self.l1), -self.l1)
            torch._foreach_add_(pulled, clipped)
        torch._foreach_div_(pulled, after)
        torch._foreach_copy_(weights, pulled)

    def _power(self, accumulator: Tensors) -> Tensors:
        if self.learning_rate_power == -0.5:
            return list(torch._foreach_sqrt(accumulator))
        return list(torch._foreach_pow(accumulator, -self.learning_rate_power))


def _check_ftrl(learning_rate_power: float, **not_negative: float) -> None:
    for name, value in not_negative.items():
        if value < 0.0:
            raise ValueError(f"{name} needs to be positive or zero, given: {value}.")
    if learning_rate_power > 0.0:
        raise ValueError(f"learning_rate_power {learning_rate_power} needs to be negative or zero.")


OptimizerLike = str | Optimizer | Callable[[], Optimizer]

BY_NAME: dict[str, type[Optimizer]] = {
    "Adagrad": Adagrad,
    "Adam": Adam,
    "Ftrl": Ftrl,
    "RMSProp": RMSProp,
    "SGD": SGD,
}


def get_optimizer(optimizer: OptimizerLike, learning_rate: float | None = None) -> Optimizer:
    """An optimizer from its name, itself, or a callable without arguments that makes one.

    `learning_rate` is for names alone; None means the class's own default. Raises ValueError for anything else.
    """
    if isinstance(optimizer, str):
        if optimizer not in BY_NAME:
            raise ValueError(f"Unsupported optimizer name: {optimizer}. Supported names are: {tuple(BY_NAME)}")
        make: Callable[..., Optimizer] = BY_NAME[optimizer]
        return make() if learning_rate is None else make(learning_rate=learning_rate)
    made = optimizer() if callable(optimizer) else optimizer
    if not isinstance(made, Optimizer):
        raise ValueError(
            f"The given object is not an Optimizer instance. Given: {made!r}. "
            "Pass one of training.optimizers, its name, or a function without arguments that returns one."
        )
    return made
