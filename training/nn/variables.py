"""The estimator's variables: what layers, columns and optimizers create on the first call and reuse on every later.

Owns names (TensorFlow's), scopes, creation, restoring and the seeds of everything random. Does not know layers,
columns, files or the training loop. A variable is a parameter or buffer registered in the store under its TensorFlow
name and is looked up in the module's own dictionary at every call, so `torch.export` can put its own in its place.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from estimator_serving.training.errors import VariableMissingError, VariableShapeError
from estimator_serving.training.nn.initializers import Initializer, glorot_uniform

SLOTS = "training/"
"""Optimizer slots are named `training/<Optimizer>/<variable>/<slot>`."""

GLOBAL_STEP = "global_step"


class Start(Protocol):
    """Where a model's variables start that has no checkpoint of its own (see warm_start)."""

    def first_value(
        self, name: str, shape: tuple[int, ...], *, trainable: bool, generator: torch.Generator
    ) -> Tensor | None:
        """The variable's first value, None for its initializer's."""

    def complete(self) -> None:
        """model_fn has been called: the variables it makes are there."""


class VariableStore(nn.Module):
    """Every variable of one model by its TensorFlow name.

    `values` are what a checkpoint holds; a store made with them never initialises a variable: one that the model asks
    for and the checkpoint lacks, or holds in another shape, raises CheckpointMismatchError. `source` names the
    checkpoint in that message. `seed` fixes initial values (per name, so the order of creation does not matter) and
    dropout (per step). `start` may know better first values than the initializers. In a `frozen` store no variable asks
    for a gradient.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        values: Mapping[str, Tensor] | None = None,
        source: str = "",
        start: Start | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.is_frozen = frozen
        self.seed = seed & 0x7FFFFFFF
        self.source = source
        self._restored = None if values is None else dict(values)
        self._start = start
        self.global_step = self._first_step() if values is None else int(values.get(GLOBAL_STEP, torch.tensor(0)))
        self.training_mode = False
        self.without_steps = False
        self._taken_names: dict[str, set[str]] = {}
        self._claimed_names: set[str] = set()
        self.regularization_losses: list[Callable[[], Tensor]] = []
        self.pending_updates: list[Callable[[], None]] = []
        self.plans: dict[str, Any] = {}
        self.summaries: dict[str, Any] | None = None
        self._known_names = () if values is None else tuple(sorted(k for k in values if not k.startswith(SLOTS)))
        self._slots: dict[str, Tensor] = {}
        self._trainable: dict[str, nn.Parameter] = {}
        self._factories: dict[str, nn.Module] = {}
        self._first_buffers: dict[str, dict[str, Tensor]] = {}
        self._dropout_generator = torch.Generator()
        self._dropout_step = -1

    # -- variables ----------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Tensor:
        """The variable of that full name. KeyError if the model has not made it."""
        attribute = _attribute(name)
        for table in (self._parameters, self._buffers):
            tensor = table.get(attribute)
            if tensor is not None:
                return tensor
        if name in self._slots:
            return self._slots[name]
        if name == GLOBAL_STEP:
            return torch.tensor(self.global_step)
        return self._module_variables()[name]

    def find_or_create(
        self, name: str, shape: Sequence[int], *, initializer: Initializer, trainable: bool, dtype: torch.dtype
    ) -> Tensor:
        attribute = _attribute(name)
        tensor = self._parameters.get(attribute)
        if tensor is None:
            tensor = self._buffers.get(attribute)
        if tensor is None:
            return self._create(name, tuple(shape), initializer, trainable, dtype)
        if tensor.shape != tuple(shape):
            raise ValueError(
                f"Trying to share variable {name}, but specified shape {tuple(shape)} and found shape "
                f"{tuple(tensor.shape)}: give one of the two uses another name or scope."
            )
        return tensor

    def _create(
        self, name: str, shape: tuple[int, ...], initializer: Initializer, trainable: bool, dtype: torch.dtype
    ) -> Tensor:
        if torch.compiler.is_exporting():
            raise ValueError(f"Variable {name} would be created during export: call the model once eagerly first.")
        attribute = _attribute(name)
        if hasattr(self, attribute):
            raise ValueError(f"Variable name {name} is reserved: create it inside a variable_scope or rename it.")
        value = self._first_value(
            name, shape, lambda: initializer(shape, self.generator(name)).to(dtype), trainable=trainable
        ).to(dtype)
        if trainable:
            parameter = nn.Parameter(value, requires_grad=not self.is_frozen)
            self.register_parameter(attribute, parameter)
            self._trainable[name] = parameter
            return parameter
        self.register_buffer(attribute, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        """Variables are registered, never assigned; nn.Module's own check costs more than a small layer."""
        object.__setattr__(self, name, value)

    def slot(self, name: str, shape: Sequence[int], make: Callable[[], Tensor]) -> Tensor:
        """An optimizer's slot: float32 of `shape`, restored or made."""
        if name not in self._slots:
            self._slots[name] = self._first_value(name, tuple(shape), make)
        return self._slots[name]

    def replace_slot(self, name: str, value: Tensor) -> None:
        """Let an optimizer keep a slot elsewhere, in a larger tensor for example."""
        self._slots[name] = value

    def hyperparameter(self, name: str, value: float) -> None:
        """Record a constant under a TensorFlow name. It is saved, never restored: the program's value holds."""
        self._slots[name] = torch.tensor(value)

    def complete_start(self) -> None:
        """Say that model_fn has been called, and so has made its variables.

        Raises CheckpointMismatchError where the start names a variable that it did not make.
        """
        if self._start is not None:
            self._start.complete()

    def _first_step(self) -> int:
        return int(self._first_value(GLOBAL_STEP, (), lambda: torch.tensor(0)))

    def _first_value(
        self, name: str, shape: tuple[int, ...], make: Callable[[], Tensor], *, trainable: bool = False
    ) -> Tensor:
        if self._restored is None:
            return self._started_value(name, shape, make, trainable)
        if name not in self._restored:
            raise VariableMissingError(_missing_text(name, shape, self.source, self._known_names))
        value = self._restored.pop(name)
        if tuple(value.shape) != shape:
            raise VariableShapeError(_shape_text(name, shape, tuple(value.shape), self.source))
        return value

    def _started_value(self, name: str, shape: tuple[int, ...], make: Callable[[], Tensor], trainable: bool) -> Tensor:
        value = None
        if self._start is not None:
            value = self._start.first_value(name, shape, trainable=trainable, generator=self.generator(name))
        return make() if value is None else value

    # -- modules ------------------------------------------------------------------------------------------------------

    def find_or_create_module(self, name: str, factory: Callable[[], nn.Module]) -> nn.Module:
        made = self._factories.get(name)
        if made is None:
            made = self._create_module(name, factory)
        if made.training != self.training_mode:
            made.train(self.training_mode)
        return made

    def _create_module(self, name: str, factory: Callable[[], nn.Module]) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.generator(name).initial_seed())
            made = factory()
        with torch.no_grad():
            for inner, tensor in made.state_dict(keep_vars=True).items():
                full_name = _inner_name(name, inner)
                first = self._first_value(full_name, tuple(tensor.shape), tensor.detach, trainable=tensor.requires_grad)
                tensor.copy_(first)
        self.add_module(_attribute(name), made)
        self._factories[name] = made
        self._first_buffers[name] = {inner: buffer.clone() for inner, buffer in made.named_buffers()}
        self._trainable.update({_inner_name(name, k): p for k, p in made.named_parameters() if p.requires_grad})
        if self.is_frozen:
            made.requires_grad_(False)
        return made

    def rewind_modules(self) -> None:
        """Put back what the modules keep from call to call (moving averages): the one so far was no step."""
        for name, before in self._first_buffers.items():
            buffers = dict(self._factories[name].named_buffers())
            for inner, value in before.items():
                buffers[inner].copy_(value)
        self._first_buffers.clear()

    def _module_variables(self) -> dict[str, Tensor]:
        return {
            _inner_name(name, inner): tensor
            for name, made in self._factories.items()
            for inner, tensor in made.state_dict(keep_vars=True).items()
        }

    # -- all of them --------------------------------------------------------------------------------------------------

    @property
    def trainable_variables(self) -> dict[str, nn.Parameter]:
        """Name -> parameter, in order of creation."""
        return self._trainable

    def values(self) -> dict[str, Tensor]:
        """Every variable, slot and global_step by name: what a checkpoint holds. The tensors are the live ones."""
        own = {_name(k): v for table in (self._parameters, self._buffers) for k, v in table.items() if v is not None}
        everything = {**own, **self._module_variables(), **self._slots}
        return {
            **{name: tensor.detach() for name, tensor in everything.items()},
            GLOBAL_STEP: torch.tensor(self.global_step, dtype=torch.int64),
        }

    # -- randomness and updates ---------------------------------------------------------------------------------------

    def generator(self, name: str) -> torch.Generator:
        """A fresh generator for the initial value of `name`."""
        return torch.Generator().manual_seed((self.seed << 32) ^ zlib.crc32(name.encode()))

    def dropout_generator(self) -> torch.Generator:
        """The step's generator: seeded by seed and global_step, so a resumed run drops what an unbroken one drops."""
        if self._dropout_step != self.global_step:
            self._dropout_step = self.global_step
            self._dropout_generator.manual_seed(self.step_seed)
        return self._dropout_generator

    @property
    def step_seed(self) -> int:
        """The seed of everything random in the step that comes next."""
        return (self.seed << 32) ^ (0x9E3779B9 + self.global_step)

    def run_pending_updates(self) -> None:
        """Apply what layers asked for at this step (moving averages, constraints), behind the optimizer's own."""
        updates, self.pending_updates = self.pending_updates, []
        for update in updates:
            update()

    # -- names within one call of model_fn ----------------------------------------------------------------------------

    def start_call(self) -> None:
        """Forget what the last call of model_fn left behind: its names, its updates, its random numbers."""
        self._taken_names.clear()
        self._claimed_names.clear()
        self.pending_updates.clear()
        self.regularization_losses.clear()
        self._dropout_step = -1

    def unique_name(self, name: str) -> str:
        """`name`, then `name_1`, `name_2`, …: the first that no layer and no scope of this call has (TF's rule)."""
        prefix, _, last = name.rpartition("/")
        taken = self._taken_names.setdefault(prefix and f"{prefix}/", set())
        candidate, number = last, 0
        while candidate in taken:
            number += 1
            candidate = f"{last}_{number}"
        taken.add(candidate)
        return f"{name}_{number}" if number else name

    def open_scope(self, prefix: str, name: str) -> None:
        """Take the name; numbers inside begin anew, so that a scope entered again finds the layers it made before."""
        self._taken_names.setdefault(prefix, set()).add(name)
        self._taken_names.pop(f"{prefix}{name}/", None)

    def claim(self, name: str, reuse: Reuse) -> bool:
        """Note that a layer uses the variable `name`, and say whether it is the first in this call.

        Two layers share it only where `reuse` says so (TF's rule).

        Raises ValueError with TF's texts: a variable used before without reuse, or not used before with reuse=True.
        """
        if name in self._claimed_names:
            if not reuse:
                raise ValueError(
                    f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or "
                    "reuse=tf.AUTO_REUSE in VarScope? Only then do two layers share weights; else rename one."
                )
            return False
        if reuse is True:
            raise ValueError(
                f"Variable {name} does not exist, or was not created with tf.get_variable(). Did you mean to set "
                "reuse=tf.AUTO_REUSE in VarScope? With reuse=True an earlier layer of this model_fn must have made it."
            )
        self._claimed_names.add(name)
        return True

    def activate(self, *, training: bool) -> _Activation:
        """Make this the store that layers and columns find, for one call of model_fn.

        A frozen store takes no steps. In training it is asked for what the training graph computes: layers compute as
        they do outside training (`without_steps`), so that the same rows give the same numbers.
        """
        return _Activation(self, training)


# -- the current store and scope --------------------------------------------------------------------------------------


AUTO_REUSE = "auto_reuse"
"""As `reuse`: take the variable an earlier layer made, or make it."""

Reuse = bool | str | None


class _Current(threading.local):
    store: VariableStore | None = None
    prefix: str = ""
    reuse: Reuse = None


_current = _Current()


class _Activation:
    __slots__ = ("_before", "_store", "_training")

    def __init__(self, store: VariableStore, training: bool) -> None:
        self._store = store
        self._training = training

    def __enter__(self) -> VariableStore:
        store = self._store
        self._before = (_current.store, _current.prefix, _current.reuse)
        _current.store, _current.prefix, _current.reuse = store, "", None
        store.training_mode = self._training and not store.is_frozen
        store.without_steps = self._training and store.is_frozen
        store.start_call()
        return store

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.store, _current.prefix, _current.reuse = self._before


class variable_scope:  # noqa: N801  TensorFlow's name
    """`with variable_scope("dnn"):` puts `dnn/` in front of the names made inside. Scopes nest.

    Without a name the scope takes the first free one of `default_name`, `default_name_1`, … `reuse` (True or
    AUTO_REUSE) lets the layers inside share variables with earlier ones of the same name; it holds for inner scopes.
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
            store.open_scope(prefix, self.name)
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


def get_variable(
    name: str,
    shape: Sequence[int],
    *,
    initializer: Initializer = glorot_uniform,
    trainable: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The variable `name` in the current scope: made on the first call, the same one on every later call.

    Raises ValueError outside a model_fn or for another shape than before, CheckpointMismatchError when the checkpoint
    in model_dir has no such variable or holds it in another shape.
    """
    store = current_store()
    full_name = _current.prefix + name
    return store.find_or_create(full_name, shape, initializer=initializer, trainable=trainable, dtype=dtype)


def module(name: str, factory: Callable[[], nn.Module]) -> nn.Module:
    """Any nn.Module as part of the model: `factory()` on the first call, the same module on every later call.

    Its parameters and buffers are variables `<scope>/<name>/<parameter path>` and are trained, saved and restored like
    all others; train/eval mode follows the estimator's.
    """
    return current_store().find_or_create_module(_current.prefix + name, factory)


def claim_variable(name: str, reuse: Reuse = None) -> bool:
    """Note that a layer uses the variable `name` of the current scope: see VariableStore.claim."""
    return current_store().claim(_current.prefix + name, _current.reuse if reuse is None else reuse)


def scoped_name(name: str) -> str:
    """`name` with the current scope in front."""
    return _current.prefix + name


def unique_name(name: str) -> str:
    """A name for a layer that was given none: `dense`, `dense_1`, … in the current scope."""
    full_name = current_store().unique_name(_current.prefix + name)
    return full_name[len(_current.prefix) :]


def get_global_step() -> Tensor:
    """The current global_step, int64 scalar. ValueError outside a model_fn."""
    return torch.tensor(current_store().global_step)


# -- lookups ----------------------------------------------------------------------------------------------------------


def gather_rows(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of `table` f32 [rows, dim] at `ids` int64 [*]: f32 [*, dim], zeros where ids < 0.

    The gradient of `table` is sparse and holds the rows with ids >= 0 alone, so that Adagrad, Ftrl
    and SGD leave the others untouched as TensorFlow does (TF 2.15). It is dense where the optimizer has found that
    to be the same and faster, and says so on the table (`takes_whole_gradient`).
    """
    if not (torch.is_grad_enabled() and table.requires_grad):
        return _gather(table, ids)
    sparse = not getattr(table, "takes_whole_gradient", False)
    if (ids < 0).any():
        return _GatherRows.apply(table, ids, sparse)
    # The same in C++; with ids < 0 it would count row 0 as looked up.
    return functional.embedding(ids, table, sparse=sparse)


def _gather(table: Tensor, ids: Tensor) -> Tensor:
    rows = functional.embedding(ids.clamp(min=0), table)
    return rows * (ids >= 0).unsqueeze(-1)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, sparse: bool) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = table.shape[0]
        ctx.sparse = sparse
        return _gather(table, ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        # The padding index is left out of the gradient; it may be any number but -1, which means that there is none.
        padding = ctx.rows
        present = ids.masked_fill(ids < 0, padding)
        aten = torch.ops.aten
        backward = aten.embedding_sparse_backward if ctx.sparse else aten.embedding_dense_backward
        return backward(gradient, present, ctx.rows, padding, False), None, None


# -- names and messages -----------------------------------------------------------------------------------------------


def _attribute(name: str) -> str:
    """A module attribute may hold `/` but no `.`, which column names may contain."""
    return name.replace(".", "%2E") if "." in name else name


def _name(attribute: str) -> str:
    return attribute.replace("%2E", ".")


def _inner_name(module_name: str, path: str) -> str:
    return f"{module_name}/{path.replace('.', '/')}"


_RESTORING_FAILED = "Restoring from checkpoint failed. This is most likely due to a "
_NOT_ALTERED = "Please ensure that you have not altered the graph expected based on the checkpoint."
_NEW_MODEL_DIR = "Give the changed model a new model_dir, or change it back to the one that was trained."


def _missing_text(name: str, shape: tuple[int, ...], source: str, known: Sequence[str]) -> str:
    return (
        f"{_RESTORING_FAILED}Variable name or other graph key that is missing from the checkpoint. {_NOT_ALTERED} "
        f"The model asks for {name} with shape {shape}, and {source or 'the checkpoint'} holds {list(known)}. "
        f"{_NEW_MODEL_DIR}"
    )


def _shape_text(name: str, wanted: tuple[int, ...], found: tuple[int, ...], source: str) -> str:
    return (
        f"{_RESTORING_FAILED}mismatch between the current graph and the graph from the checkpoint. {_NOT_ALTERED} "
        f"The variable {name} has shape {wanted} in the model and {found} in {source or 'the checkpoint'}. "
        f"{_NEW_MODEL_DIR}"
    )
