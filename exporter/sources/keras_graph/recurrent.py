"""Rules for layers that go through the steps of a sequence: any number of steps, any mask, any cell.

A recurrent layer becomes a loop over its steps whose body is the cell, taken apart as every layer is: gates, their
order, `reset_after` and activations are those that Keras itself computes. Where a mask leaves a step out, states and
output stay as they were (or the output is zero), as in Keras's own loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from estimator_serving.exporter.sources.keras_graph.operations import resize
from estimator_serving.exporter.sources.keras_graph.rules import LAYERS, lowers
from estimator_serving.exporter.sources.keras_graph.values import NotLoweredError, Value, numpy_dtype

if TYPE_CHECKING:
    from estimator_serving.exporter.sources.keras_graph.graph import KerasGraph

_BOOL = np.dtype(bool)
_INT64 = np.dtype(np.int64)


@lowers("RNN", "LSTM", "GRU", "SimpleRNN", rules=LAYERS)
def _rnn(
    g: KerasGraph, layer: Any, sequences: Value, initial_state: Any = None, mask: Any = None, training: Any = None
) -> Any:
    import keras

    if layer.stateful:
        raise NotLoweredError(
            f"the layer {layer.name} (stateful: it remembers between calls, which a servable does not; build the model "
            "with stateful=False and give the state as an input)"
        )
    if initial_state is None:
        batch = g.one("Shape", sequences.name, start=0, end=1)
        sizes = layer.cell.state_size
        initial_state = keras.tree.map_structure(lambda size: _zeros(g, layer.cell, batch, size), _as_list(sizes))
    else:
        initial_state = _as_list(initial_state)
    if mask is not None:
        mask = keras.tree.flatten(mask)[0]
    made, states = _steps(g, layer, sequences, initial_state, mask)
    return (made, *states) if layer.return_state else made


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _zeros(g: KerasGraph, cell: Any, batch: str, size: Any) -> Value:
    sizes = list(size) if isinstance(size, list | tuple) else [int(size)]
    dtype = cell.compute_dtype
    name = g.one("Expand", g.use(0, dtype), g.one("Concat", batch, g.int64(*sizes), axis=0))
    return Value(name, (None, *sizes), dtype)


def _steps(
    g: KerasGraph, layer: Any, sequences: Value, initial: Sequence[Any], mask: Value | None
) -> tuple[Value, list[Any]]:
    """The outputs of all steps, or the last one where the layer returns no sequences, and the states after it."""
    import keras

    swapped = [1, 0, *range(2, sequences.rank)]
    steps = g.transpose(sequences.name, swapped)
    counted = g.transpose(g.use(mask, "bool"), [1, 0]) if mask is not None else ""
    length = g.one("Squeeze", g.one("Shape", steps, start=0, end=1), g.int64(0))
    states = keras.tree.flatten(list(initial))
    cell, dtype = layer.cell, layer.cell.compute_dtype
    states = [Value(g.use(one, dtype), one.shape, dtype) for one in states]
    size = _output_size(cell)
    batch = g.one("Shape", sequences.name, start=0, end=1)
    carries_output = mask is not None or not layer.return_sequences
    carried = list(states)
    if carries_output:
        carried.append(_zeros(g, cell, batch, size))
    # The body: step number, condition, states, the output before.
    names = g.builder.open_body(2 + len(carried))
    try:
        inside = [Value(name, one.shape, one.dtype) for name, one in zip(names[2:], carried, strict=True)]
        number = names[0]
        if layer.go_backwards:
            number = g.one("Sub", g.one("Sub", length, g.constant(np.int64(1))), number)
        step = Value(
            g.one("Gather", steps, number, axis=0), (sequences.shape[0], *sequences.shape[2:]), sequences.dtype
        )
        before = keras.tree.pack_sequence_as(list(initial), inside[: len(states)])
        kwargs = {"training": False} if getattr(cell, "_call_has_training_arg", False) else {}
        with _without_dropout(cell):
            output, after = g.layer(cell, step, before, **kwargs)
        after = [one.name for one in keras.tree.flatten(after)]
        made = output.name
        if counted:
            counts = g.one("Unsqueeze", g.one("Gather", counted, number, axis=0), g.int64(1))
            after = [g.one("Where", counts, new, old.name) for new, old in zip(after, inside, strict=False)]
            skipped = g.use(0, dtype) if layer.zero_output_for_mask else inside[-1].name
            made = g.one("Where", counts, made, skipped)
        results = [(names[1], _BOOL, 0)]
        results += [(name, numpy_dtype(dtype), one.rank) for name, one in zip(after, states, strict=True)]
        # Carried to the next step, and kept of every step.
        results += [(made, numpy_dtype(dtype), 2)] * (carries_output + layer.return_sequences)
    except Exception:
        g.builder.drop_body()
        raise
    arguments = [(names[0], _INT64, 0), (names[1], _BOOL, 0)]
    arguments += [(one.name, numpy_dtype(one.dtype), one.rank) for one in inside]
    ended = g.builder.close_loop(
        [length, g.constant(np.bool_(True)), *(one.name for one in carried)], arguments, results
    )
    ends = [Value(name, one.shape, dtype) for name, one in zip(ended, states, strict=False)]
    batch_size, count = sequences.shape[:2]
    if layer.return_sequences:
        outputs = Value(g.transpose(ended[-1], [1, 0, 2]), (batch_size, count, size), dtype)
    else:
        outputs = Value(ended[-1], (batch_size, size), dtype)
    return outputs, keras.tree.pack_sequence_as(list(initial), ends)


@contextmanager
def _without_dropout(cell: Any) -> Iterator[None]:
    """Inside, a cell draws no masks, which it only uses in training."""
    inner = getattr(cell, "cells", [cell])
    kept = [(one, one.dropout, one.recurrent_dropout) for one in inner if hasattr(one, "recurrent_dropout")]
    try:
        for one, _, _ in kept:
            one.dropout = one.recurrent_dropout = 0
        yield
    finally:
        for one, dropout, recurrent in kept:
            one.dropout, one.recurrent_dropout = dropout, recurrent


def _output_size(cell: Any) -> int:
    size = getattr(cell, "output_size", None)
    size = _as_list(cell.state_size)[0] if size is None else size
    if not isinstance(size, int):
        raise NotLoweredError(f"the cell {type(cell).__name__}, whose output is no vector")
    return size


@lowers("Bidirectional", rules=LAYERS)
def _bidirectional(
    g: KerasGraph, layer: Any, sequences: Value, initial_state: Any = None, mask: Any = None, training: Any = None
) -> Any:
    states: tuple[Any, Any] = (None, None)
    if initial_state is not None:
        half = len(initial_state) // 2
        states = initial_state[:half], initial_state[half:]
    given = Value(sequences.name, sequences.shape, sequences.dtype, mask)
    both = [
        g.layer(one, given, **({} if state is None else {"initial_state": state}))
        for one, state in zip((layer.forward_layer, layer.backward_layer), states, strict=True)
    ]
    ahead, back = (one[0] if layer.return_state else one for one in both)
    ends = tuple(end for one in both for end in one[1:]) if layer.return_state else ()
    name = back.name
    if layer.return_sequences:
        limit = np.iinfo(np.int64).min
        name = g.one("Slice", name, g.int64(-1), g.int64(limit), g.int64(1), g.int64(-1))
    shape = ahead.shape
    if layer.merge_mode is None:
        return (Value(ahead.name, shape, ahead.dtype), Value(name, shape, ahead.dtype), *ends)
    if layer.merge_mode == "concat":
        merged = g.one("Concat", ahead.name, name, axis=-1)
        shape = (*shape[:-1], shape[-1] + back.shape[-1])
    elif layer.merge_mode == "mul":
        merged = g.one("Mul", ahead.name, name)
    else:
        merged = g.one("Add", ahead.name, name)
        if layer.merge_mode == "ave":
            merged = g.one("Div", merged, g.use(2, ahead.dtype))
    made = Value(merged, shape, ahead.dtype)
    return (made, *ends) if ends else made


@lowers("TimeDistributed", rules=LAYERS)
def _time_distributed(g: KerasGraph, layer: Any, x: Value, training: Any = None, mask: Any = None) -> Value:
    """The layer inside on all steps of all rows at once: it takes each by itself."""
    flat = _merged(g, x)
    inner = _merged(g, mask) if mask is not None and mask.rank > 2 else None
    made = g.layer(layer.layer, Value(flat.name, flat.shape, flat.dtype, inner))
    if not isinstance(made, Value):
        raise NotLoweredError(f"the layer {layer.name} (TimeDistributed over several outputs)")
    sizes = [g.one("Shape", x.name, start=0, end=2)]
    tail = made.shape[1:]
    if tail:
        known = [size for size in tail if size is not None]
        sizes.append(g.int64(*known) if len(known) == len(tail) else g.one("Shape", made.name, start=1))
    name = g.one("Reshape", made.name, g.one("Concat", *sizes, axis=0) if len(sizes) > 1 else sizes[0], allowzero=1)
    return Value(name, (*x.shape[:2], *tail), made.dtype)


def _merged(g: KerasGraph, x: Value) -> Value:
    tail = x.shape[2:]
    if None in tail:
        parts = [g.int64(-1), g.one("Shape", x.name, start=2)]
        return Value(g.one("Reshape", x.name, g.one("Concat", *parts, axis=0)), (None, *tail), x.dtype)
    return Value(resize(g, x.name, (), (None, *tail)), (None, *tail), x.dtype)
