"""The walk through a Keras model: its layers and operations in order, each by its rule.

Owns which rule an operation gets, what a layer does around its `call` (conversion of inputs, masks), and how a layer
without a rule is taken apart: its `call` runs on symbolic tensors, and the operations that it records are walked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import onnx

from estimator_serving.exporter.servable import weights
from estimator_serving.exporter.sources.keras_graph.rules import LAYERS, OPERATIONS
from estimator_serving.exporter.sources.keras_graph.values import NotLoweredError, Value, Writer, numpy_dtype


def to_graph(
    model: Any,
    inputs: Mapping[str, tuple[str, Sequence[int | None]]],
    arrange: Callable[[Mapping[str, Value]], Any],
    name_outputs: Callable[[Any], Mapping[str, Value]],
) -> onnx.ModelProto:
    """The ONNX graph of a model.

    Args:
        inputs: of the graph, by name: Keras's word for the element type, and the shape, None for sizes of any number.
        arrange: makes what the model is called with of the inputs by name.
        name_outputs: the outputs by name, from what the model gives.

    Raises NotLoweredError naming the first layer or operation that has no rule.
    """
    graph = KerasGraph()
    values = {}
    for name, (dtype, shape) in inputs.items():
        sizes = [size if size is not None else f"{name}.{axis}" for axis, size in enumerate(shape)]
        graph.builder.add_input(name, numpy_dtype(dtype), ["batch", *sizes[1:]])
        values[name] = Value(name, (None, *shape[1:]), dtype)
    with _untouched(model):
        made = name_outputs(graph.layer(model, arrange(values)))
    ends = {name: (value.name, numpy_dtype(value.dtype), ["batch", *value.shape[1:]]) for name, value in made.items()}
    built = graph.builder.model(ends)
    weights.attach(built, graph.builder.detached, 1 << 62, "")
    return built


class KerasGraph(Writer):
    """The graph under construction."""

    def trace(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a function of tensors gives for these values: the operations of Keras that it records, walked."""
        import keras

        bound: dict[int, Value] = {}
        kept: list[Any] = []

        def symbolic(value: Any) -> Any:
            if not isinstance(value, Value):
                return value
            made = keras.KerasTensor(value.shape, value.dtype)
            if value.mask is not None:
                made._keras_mask = symbolic(value.mask)
            bound[id(made)] = value
            kept.append(made)
            return made

        args, kwargs = keras.tree.map_structure(symbolic, (args, kwargs))
        owner = getattr(function, "__self__", function)
        try:
            with _recorded_activation(owner):
                made = _recordable(function)(*args, **kwargs)
        except NotLoweredError:
            raise
        except Exception as error:
            name = getattr(owner, "name", None)
            raise NotLoweredError(f"the layer {name} ({type(owner).__name__})" if name else f"{owner}") from error
        flat = keras.tree.flatten(made)
        tensors = [one for one in flat if isinstance(one, keras.KerasTensor)]
        walked = iter(self.walk(tensors, bound))
        return keras.tree.map_structure(
            lambda one: next(walked) if isinstance(one, keras.KerasTensor) else self._as_value(one), made
        )

    def walk(self, outputs: Sequence[Any], bound: dict[int, Value]) -> list[Value]:
        """The values of symbolic tensors, from those of others; what stands between is computed in order."""
        import keras

        stack = [one for one in reversed(outputs) if id(one) not in bound]
        while stack:
            wanted = stack[-1]
            if id(wanted) in bound:
                stack.pop()
                continue
            operation, index, _ = getattr(wanted, "_keras_history", (None, 0, 0))
            if operation is None:
                raise NotLoweredError(f"a tensor {wanted.name} that is not made from the inputs")
            node = operation._inbound_nodes[index]
            if missing := [one for one in node.input_tensors if id(one) not in bound]:
                stack += reversed(missing)
                continue
            args, kwargs = keras.tree.map_structure(
                lambda one: bound[id(one)] if isinstance(one, keras.KerasTensor) else one,
                (node.arguments.args, node.arguments.kwargs),
            )
            made = self.compute(operation, node.outputs, args, kwargs)
            bound.update((id(one), value) for one, value in zip(node.outputs, made, strict=True))
        return [bound[id(one)] for one in outputs]

    def compute(self, operation: Any, outputs: Sequence[Any], args: Any, kwargs: Any) -> list[Value]:
        """The values that one operation or layer gives; `outputs` are symbolic, with their shapes and dtypes."""
        import keras

        if isinstance(operation, keras.layers.Layer):
            made = keras.tree.flatten(self.layer(operation, *args, **kwargs))
            # The graph around a layer may know sizes that the layer does not.
            return [
                replace(
                    one, shape=tuple(a if a is not None else b for a, b in zip(one.shape, known.shape, strict=True))
                )
                for one, known in zip(made, outputs, strict=True)
            ]
        name = type(operation).__name__
        rule = OPERATIONS.get(name) if type(operation).__module__.startswith("keras.") else None
        if rule is None:
            raise NotLoweredError(f"the operation {name}")
        names = rule(self, operation, outputs[0] if len(outputs) == 1 else outputs, *args, **kwargs)
        names = [names] if isinstance(names, str) else names
        return [Value(one, tuple(known.shape), known.dtype) for one, known in zip(names, outputs, strict=True)]

    def layer(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """What a layer gives, with the masks of its outputs. The structure is that of the layer's outputs."""
        import keras

        args, kwargs = keras.tree.map_structure(lambda one: self._converted(layer, one), (args, kwargs))
        given = layer._call_signature.bind(*args, **kwargs)
        tensors = {
            name: argument
            for name, argument in given.arguments.items()
            if any(isinstance(one, Value) for one in keras.tree.flatten(argument))
        }
        first = next(iter(given.arguments.values()))
        masks = {f"{name}_mask": one for name, one in tensors.items()} if len(tensors) > 1 else {"mask": first}
        for name, owner in masks.items():
            if name in layer._call_signature.parameters and given.arguments.get(name) is None:
                kwargs[name] = keras.tree.map_structure(_mask_of, owner)
        previous = kwargs.get("mask")
        if previous is None:
            previous = keras.tree.map_structure(_mask_of, first)
        if "training" in layer._call_signature.parameters:
            kwargs["training"] = False
        if rule := self._rule(layer):
            made = rule(self, layer, *args, **kwargs)
        elif (inner := _functional_of(layer)) is not None:
            bound = {
                id(symbolic): self.fit(one, symbolic)
                for one, symbolic in zip(keras.tree.flatten(first), inner.inputs, strict=True)
            }
            made = keras.tree.pack_sequence_as(inner.output, self.walk(inner.outputs, bound))
        else:
            made = self.trace(layer.call, *args, **kwargs)
        made = self._masked(layer, made, first, previous)
        if isinstance(layer, keras.layers.MultiHeadAttention):
            # It takes the masks off the tensors that it reads, so that later layers do not see them.
            for one in keras.tree.flatten(tensors):
                one.mask = None
        return made

    def fit(self, value: Value, symbolic: Any) -> Value:
        """A value as a model's input takes it: its element type, and a last axis of one entry more or less."""
        name = self.use(value, symbolic.dtype)
        shape = value.shape
        if value.rank == len(symbolic.shape) + 1 and shape[-1] == 1:
            name, shape = self.one("Squeeze", name, self.int64(-1)), shape[:-1]
        elif value.rank == len(symbolic.shape) - 1 and symbolic.shape[-1] == 1:
            name, shape = self.one("Unsqueeze", name, self.int64(-1)), (*shape, 1)
        if len(shape) != len(symbolic.shape):
            raise NotLoweredError(f"the shape {shape} for the input {symbolic.name} {symbolic.shape}")
        known = tuple(a if a is not None else b for a, b in zip(shape, symbolic.shape, strict=True))
        return Value(name, known, symbolic.dtype, value.mask)

    def _rule(self, layer: Any) -> Callable[..., Any] | None:
        """The rule of a layer: its class's, or that of a class above it whose `call` it keeps."""
        for kind in type(layer).__mro__:
            if kind.__module__.startswith("keras.src.") and kind.__name__ in LAYERS:
                return LAYERS[kind.__name__] if type(layer).call is getattr(kind, "call", None) else None
        return None

    def _converted(self, layer: Any, value: Any) -> Any:
        """An argument in the layer's element type: Keras converts floats, and leaves whole numbers."""
        if not isinstance(value, Value) or not layer._convert_input_args or not value.dtype.startswith(("float", "b")):
            return value
        if not layer.autocast or value.dtype in ("bool", layer.input_dtype):
            return value
        return replace(value, name=self.use(value, layer.input_dtype), dtype=layer.input_dtype)

    def _masked(self, layer: Any, made: Any, first: Any, previous: Any) -> Any:
        """The outputs of a layer with their masks, as Layer.__call__ of Keras attaches them."""
        import keras

        flat = keras.tree.flatten(made)
        bare = [replace(one, mask=None) for one in flat]
        has_mask = any(one is not None for one in keras.tree.flatten(previous))
        if layer.supports_masking and (has_mask or type(layer).compute_mask is not keras.layers.Layer.compute_mask):
            if all(one.mask is not None for one in flat):
                return made
            masks = self.trace(layer.compute_mask, first, previous)
            masks = [None] * len(bare) if masks is None else keras.tree.flatten(masks)
            bare = [replace(one, mask=mask) for one, mask in zip(bare, masks, strict=False)]
        return keras.tree.pack_sequence_as(made, bare)

    def _as_value(self, one: Any) -> Any:
        if one is None or isinstance(one, bool | int | float | str):
            return one
        array = self.array(one)
        return Value(self.constant(array), array.shape, str(array.dtype))


@contextmanager
def _untouched(model: Any) -> Iterator[None]:
    """Inside, layers are called; afterwards Keras remembers no such call, and saves the model as before."""
    layers = list(model._flatten_layers())
    before = [(layer, list(layer._inbound_nodes), list(layer._outbound_nodes)) for layer in layers]
    try:
        yield
    finally:
        for layer, inbound, outbound in before:
            layer._inbound_nodes[:] = inbound
            layer._outbound_nodes[:] = outbound


def _recordable(function: Any) -> Any:
    """A function, or for an activation that refuses symbolic tensors the same one in operations that take them."""
    import keras

    if function is keras.activations.mish:
        return lambda x: x * keras.ops.tanh(keras.ops.softplus(x))
    return keras.ops.hard_silu if function is keras.activations.hard_silu else function


@contextmanager
def _recorded_activation(layer: Any) -> Iterator[None]:
    """Inside, a layer's activation can be called on symbolic tensors."""
    activation = getattr(layer, "activation", None)
    if (other := _recordable(activation)) is activation:
        yield
        return
    layer.activation = other
    try:
        yield
    finally:
        layer.activation = activation


def _mask_of(value: Any) -> Value | None:
    return value.mask if isinstance(value, Value) else None


def _functional_of(model: Any) -> Any:
    """The Functional model that says what a model computes, None for one that says it in its own `call`."""
    from keras.src.models.functional import Functional
    from keras.src.models.sequential import Sequential

    if isinstance(model, Sequential) and type(model).call is Sequential.call:
        return model._functional
    return model if isinstance(model, Functional) and type(model).call is Functional.call else None
