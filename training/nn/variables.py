"""The estimator's variables: what layers, columns and optimizers create on the first call and reuse on every later one.

Owns the store, the scope of the model_fn that is running, and the seeds of a step. Does not know layers, columns, files
or the training loop. A variable is a parameter or buffer, registered in the store under its TensorFlow name. Every call
looks it up in the module's own dictionary, so that `torch.export` can put its own tensors there.

A store lives as long as a run and goes through calls of model_fn, all on one thread:

    activate      begins a call: forgets the names, updates and losses of the call before, and says which mode it is
    (model_fn)    layers find or make variables, claim names, and leave regularization losses and updates behind
    (the step)    the optimizers change variables and slots and raise global_step; then run_pending_updates
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from estimator_serving.training.nn.first_values import SLOTS as SLOTS
from estimator_serving.training.nn.first_values import FirstValues, mixed_seed
from estimator_serving.training.nn.initializers import Initializer, glorot_uniform
from estimator_serving.training.nn.names import Names, Reuse
from estimator_serving.wire.dtypes import as_dtype

if TYPE_CHECKING:
    from estimator_serving.training.checkpoints.warm_start import WarmStart

GLOBAL_STEP = "global_step"


class VariableStore(nn.Module):
    """Every variable of one model by its TensorFlow name.

    `values` are what a checkpoint holds. A store made with them never initialises a variable: if the checkpoint lacks a
    variable that the model asks for, or holds it in another shape, the store raises CheckpointMismatchError. `source`
    names the checkpoint in that message. `seed` fixes initial values (by name, so the order of creation does not
    matter) and dropout (by step). `start` may have first values that replace the initializers'. In a `frozen` store no
    variable asks for a gradient.

    Attributes:
        global_step: how many steps have been taken.
        trainable_variables: name -> parameter, in order of creation.
        slots: the optimizers' tensors by full name. Constants among them are saved, but never restored: the program's
            value holds.
        first_values: where new variables and slots get their values from.
        training_mode: whether this call of model_fn trains.
        without_steps: whether this call computes what training computes, in a frozen store: see `activate`.
        names: what this call has named so far.
        regularization_losses: functions that give the losses of this call's layers, f32 scalars.
        pending_updates: what this call's layers want done after the step (moving averages, constraints).
        plans: what each optimizer keeps between steps, by its path.
        summaries: the summaries of this step by tag; None in a step that is not summarised.
        replicas: the strategy that this training asks (distribute.strategy), None where it has one process.
        rate_scale: what the learning rate of every optimizer is multiplied by.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        values: Mapping[str, Tensor] | None = None,
        source: str = "",
        start: WarmStart | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.is_frozen = frozen
        self.seed = seed & 0x7FFFFFFF
        self.first_values = FirstValues(self.seed, values, source, start)
        if values is None:
            self.global_step = int(self.first_values.take(GLOBAL_STEP, (), lambda: torch.tensor(0)))
        else:
            self.global_step = int(values.get(GLOBAL_STEP, torch.tensor(0)))
        self.training_mode = False
        self.without_steps = False
        self.names = Names()
        self.regularization_losses: list[Callable[[], Tensor]] = []
        self.pending_updates: list[Callable[[], object]] = []
        self.plans: dict[str, Any] = {}
        self.summaries: dict[str, Any] | None = None
        self.rate_scale = 1.0
        self.replicas: Any = None
        self._buffer_versions: dict[int, int] = {}
        self.slots: dict[str, Tensor] = {}
        self.trainable_variables: dict[str, nn.Parameter] = {}
        self._modules_by_name: dict[str, nn.Module] = {}
        self._first_buffers: dict[str, dict[str, Tensor]] = {}
        self._dropout_generator = torch.Generator()
        self._dropout_step = -1

    # -- variables ----------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Tensor:
        """The variable or slot of that full name. KeyError if the model has not made it."""
        attribute = _attribute(name)
        tables: tuple[Mapping[str, Tensor | None], ...] = (self._parameters, self._buffers)
        for table in tables:
            tensor = table.get(attribute)
            if tensor is not None:
                return tensor
        if name in self.slots:
            return self.slots[name]
        if name == GLOBAL_STEP:
            return torch.tensor(self.global_step)
        return self._module_variables()[name]

    def find_or_create(
        self, name: str, shape: Sequence[int], *, initializer: Initializer, trainable: bool, dtype: torch.dtype
    ) -> Tensor:
        """The variable `name`, made on the first call. Errors as in get_variable."""
        attribute = _attribute(name)
        tensor: Tensor | None = self._parameters.get(attribute)
        if tensor is None:
            tensor = self._buffers.get(attribute)
        if tensor is not None:
            if tensor.shape != tuple(shape):
                raise ValueError(
                    f"Trying to share variable {name}, but specified shape {tuple(shape)} and found shape "
                    f"{tuple(tensor.shape)}: give one of the two uses another name or scope."
                )
            return tensor
        if torch.compiler.is_exporting():
            raise ValueError(f"Variable {name} would be created during export: call the model once eagerly first.")
        if hasattr(self, attribute):
            raise ValueError(f"Variable name {name} is reserved: create it inside a variable_scope or rename it.")
        value = self.first_values.take(
            name,
            tuple(shape),
            lambda: initializer(tuple(shape), self.first_values.generator(name)).to(dtype),
            trainable=trainable,
        ).to(dtype)
        if not trainable:
            self.register_buffer(attribute, value)
            return value
        parameter = nn.Parameter(value, requires_grad=not self.is_frozen)
        self.register_parameter(attribute, parameter)
        self.trainable_variables[name] = parameter
        return parameter

    def __setattr__(self, name: str, value: object) -> None:
        """Variables are registered, never assigned; nn.Module's own check costs more than a small layer."""
        object.__setattr__(self, name, value)

    def slot(self, name: str, shape: Sequence[int], make: Callable[[], Tensor]) -> Tensor:
        """An optimizer's slot: float32 of `shape`, restored or made by `make`."""
        if name not in self.slots:
            self.slots[name] = self.first_values.take(name, tuple(shape), make)
        return self.slots[name]

    # -- modules ------------------------------------------------------------------------------------------------------

    def find_or_create_module(self, name: str, factory: Callable[[], nn.Module]) -> nn.Module:
        """The module `name`, made by `factory` on the first call, in the mode of this call."""
        made = self._modules_by_name.get(name)
        if made is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.first_values.generator(name).initial_seed())
                made = factory()
            _check_and_tie(name, made)
            with torch.no_grad():
                for inner, tensor in _state_of(made).items():
                    shape, trainable = tuple(tensor.shape), tensor.requires_grad
                    full_name = _inner_name(name, inner)
                    tensor.copy_(self.first_values.take(full_name, shape, tensor.detach, trainable=trainable))
            self.add_module(_attribute(name), made)
            self._modules_by_name[name] = made
            self._first_buffers[name] = {inner: buffer.clone() for inner, buffer in made.named_buffers()}
            self.trainable_variables.update(
                {_inner_name(name, k): p for k, p in made.named_parameters() if p.requires_grad}
            )
            if self.is_frozen:
                made.requires_grad_(False)
        if made.training != self.training_mode:
            made.train(self.training_mode)
        return made

    def rewind_modules(self) -> None:
        """Put back what the modules keep from call to call (moving averages): no step followed the first call."""
        for name, before in self._first_buffers.items():
            buffers = dict(self._modules_by_name[name].named_buffers())
            for inner, value in before.items():
                buffers[inner].copy_(value)
        self._first_buffers.clear()

    def _module_variables(self) -> dict[str, Tensor]:
        return {
            _inner_name(name, inner): tensor
            for name, made in self._modules_by_name.items()
            for inner, tensor in _state_of(made).items()
        }

    # -- all of them --------------------------------------------------------------------------------------------------

    def values(self) -> dict[str, Tensor]:
        """Every variable and slot and global_step by name: what a checkpoint holds. The tensors are the live ones."""
        tables: tuple[Mapping[str, Tensor | None], ...] = (self._parameters, self._buffers)
        # The names as _attribute found them.
        own = {k.replace("%2E", "."): v for table in tables for k, v in table.items() if v is not None}
        everything = {**own, **self._module_variables(), **self.slots}
        return {
            **{name: tensor.detach() for name, tensor in everything.items()},
            GLOBAL_STEP: torch.tensor(self.global_step, dtype=torch.int64),
        }

    # -- randomness and updates ---------------------------------------------------------------------------------------

    def dropout_generator(self) -> torch.Generator:
        """The step's generator. It follows from seed and global_step, so a resumed run drops the same."""
        if self._dropout_step != self.global_step:
            self._dropout_step = self.global_step
            self._dropout_generator.manual_seed(self.step_seed)
        return self._dropout_generator

    @property
    def step_seed(self) -> int:
        """The seed of everything that the next step draws."""
        return mixed_seed(self.seed, 0x9E3779B9 + self.global_step)

    def run_pending_updates(self) -> None:
        """Apply what layers asked for in this step (moving averages, constraints), after the optimizer's changes."""
        updates, self.pending_updates = self.pending_updates, []
        if updates:
            with torch.no_grad():
                for update in updates:
                    update()

    def changed_buffers(self) -> list[Tensor]:
        """The float variables that no optimizer trains and that have changed since the last call (moving averages)."""
        found = [buffer for buffer in self.buffers() if buffer.is_floating_point()]
        changed = [b for b in found if self._buffer_versions.get(id(b), 0) != b._version]
        self._buffer_versions.update({id(b): b._version + 1 for b in changed})  # what copies the mean into it counts
        return changed

    # -- one call of model_fn -----------------------------------------------------------------------------------------

    def start_call(self) -> None:
        """Forget what the last call of model_fn left behind: its names, its updates, its losses, its random numbers."""
        self.names.clear()
        self.pending_updates.clear()
        self.regularization_losses.clear()
        self._dropout_step = -1

    def activate(self, *, training: bool) -> _Activation:
        """Make this the store that layers and columns find, for one call of model_fn: `with store.activate(…):`.

        A frozen store takes no steps. With `training` it computes the training graph that is exported: layers compute
        as they do outside training (`without_steps`), so that the same rows give the same numbers.
        """
        return _Activation(self, training)


# -- the current store and scope --------------------------------------------------------------------------------------


class _Current(threading.local):
    store: VariableStore | None = None
    prefix: str = ""
    reuse: Reuse = None


_current = _Current()


@dataclass(eq=False, slots=True)
class _Activation:
    store: VariableStore
    training: bool
    _before: tuple[VariableStore | None, str, Reuse] = (None, "", None)

    def __enter__(self) -> VariableStore:
        store = self.store
        self._before = (_current.store, _current.prefix, _current.reuse)
        _current.store, _current.prefix, _current.reuse = store, "", None
        store.training_mode = self.training and not store.is_frozen
        store.without_steps = self.training and store.is_frozen
        store.start_call()
        return store

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.store, _current.prefix, _current.reuse = self._before


class variable_scope:  # noqa: N801  TensorFlow's name
    """`with variable_scope("dnn"):` puts `dnn/` in front of the names made inside. Scopes nest.

    Without a name the scope takes the first free name of `default_name`, `default_name_1`, … `reuse` (True or
    AUTO_REUSE) lets the layers inside share variables with earlier ones of the same name; inner scopes inherit it.
    """

    __slots__ = ("_before", "_default_name", "_reuse", "name")

    def __init__(self, name_or_scope: str | None = None, default_name: str | None = None, reuse: Reuse = None) -> None:
        if name_or_scope is None and default_name is None:
            raise TypeError("If default_name is None then name_or_scope is required: give the scope a name.")
        self.name = name_or_scope or ""
        self._default_name = default_name
        self._reuse = reuse

    def __enter__(self) -> str:
        self._before = (_current.prefix, _current.reuse)
        prefix, store = _current.prefix, _current.store
        if not self.name:
            self.name = unique_name(self._default_name or "")
        if store is not None:
            store.names.open_scope(prefix, self.name)
        _current.prefix = f"{prefix}{self.name}/"
        if self._reuse is not None:
            _current.reuse = self._reuse
        return _current.prefix

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.prefix, _current.reuse = self._before


def current_store() -> VariableStore:
    """The store of the model_fn that is being called. ValueError outside one."""
    if _current.store is None:
        raise ValueError(
            "Variables live in an Estimator: layers, columns and optimizers can only be called inside a model_fn "
            "that an Estimator runs."
        )
    return _current.store


def is_in_model_fn() -> bool:
    """Whether a model_fn is being called on this thread."""
    return _current.store is not None


def get_variable(
    name: str,
    shape: Sequence[int],
    dtype: Any = torch.float32,
    initializer: Initializer | None = None,
    regularizer: Callable[[Tensor], Tensor] | None = None,
    trainable: bool = True,
) -> Tensor:
    """The variable `name` in the current scope: made on the first call, the same one on every later call.

    `initializer` is glorot_uniform by default; `regularizer` adds to get_regularization_loss().
    Raises ValueError outside a model_fn or for another shape than before, and CheckpointMismatchError if the checkpoint
    in model_dir lacks the variable or holds it in another shape.
    """
    store = current_store()
    full_name = _current.prefix + name
    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, as_dtype(dtype).name)
    variable = store.find_or_create(
        full_name, shape, initializer=initializer or glorot_uniform, trainable=trainable, dtype=kind
    )
    if regularizer is not None and store.names.is_new(full_name):
        store.regularization_losses.append(lambda: regularizer(variable))
    return variable


def module(name: str, factory: Callable[[], nn.Module]) -> nn.Module:
    """Any nn.Module as part of the model: `factory()` on the first call, the same module on every later call.

    Its parameters and buffers are variables `<scope>/<name>/<parameter path>`. They are trained, saved and restored
    like all others. The module's train or eval mode follows the estimator's.
    """
    return current_store().find_or_create_module(_current.prefix + name, factory)


def claim_variable(name: str, reuse: Reuse = None) -> bool:
    """Note that a layer uses the variable `name` of the current scope: see Names.claim."""
    return current_store().names.claim(_current.prefix + name, _current.reuse if reuse is None else reuse)


def scoped_name(name: str) -> str:
    """`name` with the current scope in front."""
    return _current.prefix + name


def unique_name(name: str) -> str:
    """A name for a layer without one: `dense`, `dense_1`, … in the current scope."""
    full_name = current_store().names.unique(_current.prefix + name)
    return full_name[len(_current.prefix) :]


def get_global_step() -> Any:
    """The current global_step, int64 scalar; outside a model_fn its name, by which a hook asks the run for it."""
    return GLOBAL_STEP if _current.store is None else torch.tensor(_current.store.global_step)


def _attribute(name: str) -> str:
    """A module attribute may hold `/` but no `.`, which column names may contain."""
    return name.replace(".", "%2E") if "." in name else name


def _inner_name(module_name: str, path: str) -> str:
    return f"{module_name}/{path.replace('.', '/')}"


def _state_of(made: nn.Module) -> dict[str, Tensor]:
    """A module's parameters and buffers; one that it has under several names stands under the first."""
    found = {id(tensor): inner for inner, tensor in reversed(made.state_dict(keep_vars=True).items())}
    return {inner: tensor for inner, tensor in made.state_dict(keep_vars=True).items() if found[id(tensor)] == inner}


def _check_and_tie(name: str, made: nn.Module) -> None:
    """Make parameters that share their memory one parameter. Raises ValueError for a module without shapes."""
    known: dict[tuple[Any, ...], nn.Parameter] = {}
    for path, inner in made.named_modules():
        for key, parameter in list(inner.named_parameters(recurse=False, remove_duplicate=False)):
            if nn.parameter.is_lazy(parameter):
                raise ValueError(
                    f"module({name!r}, …) has a lazy module, {type(inner).__name__} {path!r}, whose shapes only a "
                    "batch shows. Use the module that takes its input size (nn.Linear for nn.LazyLinear), or call "
                    "the lazy one with a batch inside the factory."
                )
            if parameter.numel():
                memory = parameter.data_ptr(), tuple(parameter.shape), parameter.stride()
                setattr(inner, key, known.setdefault(memory, parameter))
