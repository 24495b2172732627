"""Recurrent layers: tf.nn.rnn_cell's cells, dynamic_rnn, and the recurrences that all of them are made of.

    cell = rnn_cell.MultiRNNCell([rnn_cell.BasicLSTMCell(32), rnn_cell.GRUCell(16)])
    outputs, state = dynamic_rnn(cell, steps, sequence_length)

Owns the arithmetic, TensorFlow's names of the variables (`rnn/gru_cell/gates/kernel`, …), and the graph: an exported
recurrence is one ONNX operator, which takes any number of steps. Does not know columns or estimators. Make cells inside
model_fn, as TensorFlow's programs do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from estimator_serving.training.nn import layers
from estimator_serving.training.nn.initializers import Initializer, glorot_uniform, ones, zeros
from estimator_serving.training.nn.names import Reuse
from estimator_serving.training.nn.variables import unique_name, variable_scope

Activation = Callable[[Tensor], Tensor]
State = Any
"""A tensor f32 [B, units], an LSTMStateTuple of two, or a tuple of such states for layers one above the other."""

_ONNX_ACTIVATIONS: dict[Any, str] = {torch.tanh: "Tanh", torch.relu: "Relu", torch.sigmoid: "Sigmoid"}


class LSTMStateTuple(NamedTuple):
    """What an LSTM keeps from step to step: `c` and `h`, f32 [B, units]."""

    c: Tensor
    h: Tensor


@dataclass(frozen=True, eq=False)
class Recurrence:
    """One layer's weights, with the gates in ONNX's order: LSTM i, o, f, c; GRU z, r, h.

    Attributes:
        kind: RNN, LSTM or GRU.
        kernel: f32 [inputs, gates · units].
        recurrent: f32 [units, gates · units].
        bias: f32 [gates · units].
        activation: of the candidate, and of an LSTM's output.
        recurrent_bias: f32 [gates · units] if a GRU's reset gate acts behind the product (Keras' reset_after), else
            None.
    """

    kind: str
    kernel: Tensor
    recurrent: Tensor
    bias: Tensor
    activation: Activation
    recurrent_bias: Tensor | None = None

    @property
    def units(self) -> int:
        return self.recurrent.shape[0]

    def step(self, projected: Tensor, state: State) -> State:
        """The next state; `projected` f32 [B, gates · units] is the inputs times the kernel, with the bias."""
        if self.kind == "RNN":
            return self.activation(projected + state @ self.recurrent)
        if self.kind == "LSTM":
            taken, given, kept, candidate = (projected + state.h @ self.recurrent).chunk(4, -1)
            c = torch.sigmoid(kept) * state.c + torch.sigmoid(taken) * self.activation(candidate)
            return LSTMStateTuple(c, torch.sigmoid(given) * self.activation(c))
        n = 2 * self.units
        gates, candidate = projected[:, :n], projected[:, n:]
        if self.recurrent_bias is None:
            kept, reset = torch.sigmoid(gates + state @ self.recurrent[:, :n]).chunk(2, -1)
            candidate = candidate + (reset * state) @ self.recurrent[:, n:]
        else:
            more = torch.addmm(self.recurrent_bias, state, self.recurrent)
            kept, reset = torch.sigmoid(gates + more[:, :n]).chunk(2, -1)
            candidate = candidate + reset * more[:, n:]
        return kept * state + (1 - kept) * self.activation(candidate)

    def zero_state(self, inputs: Tensor) -> State:
        """The state before the first step, f32 [B, units], for inputs [B, …]."""
        zero = inputs.new_zeros((inputs.shape[0], self.units))
        return LSTMStateTuple(zero, zero) if self.kind == "LSTM" else zero

    def unroll(self, inputs: Tensor, lengths: Tensor | None, state: State) -> tuple[Tensor, State]:
        """All steps: f32 [B, steps, n] -> the outputs f32 [B, steps, units], and the state after each row's last step.

        `lengths` int64 [B]: the outputs behind a row's last step are 0.
        """
        if torch.compiler.is_exporting() and self.activation in _ONNX_ACTIVATIONS:
            return self._as_operator(inputs, lengths, state)
        projected = inputs @ self.kernel + self.bias
        return unroll_steps(self.step, projected, lengths, state)

    def _as_operator(self, inputs: Tensor, lengths: Tensor | None, state: State) -> tuple[Tensor, State]:
        batch, steps = inputs.shape[:2]
        is_lstm = self.kind == "LSTM"
        recurrent_bias = torch.zeros_like(self.bias) if self.recurrent_bias is None else self.recurrent_bias
        attributes: dict[str, Any] = {"hidden_size": self.units}
        name = _ONNX_ACTIVATIONS[self.activation]
        attributes["activations"] = {"RNN": [name], "LSTM": ["Sigmoid", name, name], "GRU": ["Sigmoid", name]}[
            self.kind
        ]
        if self.kind == "GRU":
            attributes["linear_before_reset"] = int(self.recurrent_bias is not None)
        given = [
            inputs.transpose(0, 1),
            self.kernel.t().unsqueeze(0),
            self.recurrent.t().unsqueeze(0),
            torch.cat([self.bias, recurrent_bias]).unsqueeze(0),
            None if lengths is None else lengths.to(torch.int32),
            *(part.unsqueeze(0) for part in ((state.h, state.c) if is_lstm else (state,))),
        ]
        last = [1, batch, self.units]
        shapes = [[steps, 1, batch, self.units], last, *([last] if is_lstm else [])]
        made = torch.onnx.ops.symbolic_multi_out(
            self.kind, given, attributes, dtypes=[torch.float32] * len(shapes), shapes=shapes, version=14
        )
        outputs = made[0].squeeze(1).transpose(0, 1)
        finals = [part.squeeze(0) for part in made[1:]]
        return outputs, LSTMStateTuple(finals[1], finals[0]) if is_lstm else finals[0]


def unroll_steps(
    step: Callable[[Tensor, State], State], inputs: Tensor, lengths: Tensor | None, state: State
) -> tuple[Tensor, State]:
    """One step after the other over inputs [B, steps, n]: the outputs [B, steps, units] and the last state."""
    outputs: list[Tensor] = []
    for i, each in enumerate(inputs.unbind(1)):
        following = step(each, state)
        output = following.h if isinstance(following, LSTMStateTuple) else following
        if lengths is None:
            state = following
        else:
            goes_on = (lengths > i).unsqueeze(-1)
            output = output * goes_on
            if isinstance(following, LSTMStateTuple):
                kept = (torch.where(goes_on, new, old) for new, old in zip(following, state, strict=True))
                state = LSTMStateTuple(*kept)
            else:
                state = torch.where(goes_on, following, state)
        outputs.append(output)
    if not outputs:
        width = state.h if isinstance(state, LSTMStateTuple) else state
        return inputs.new_zeros((*inputs.shape[:2], width.shape[-1])), state
    return torch.stack(outputs, 1), state


# -- cells ------------------------------------------------------------------------------------------------------------


class RNNCell:
    """A recurrent layer: `recurrence(width)` makes its variables for inputs of that width.

    `cell(inputs, state)` takes one step: f32 [B, n] -> (f32 [B, units], the next state). Called again, it shares the
    variables of its first call.
    """

    base_name = "rnn_cell"

    def __init__(self, num_units: int, activation: Activation | str | None, reuse: Reuse, name: str | None) -> None:
        self.units = num_units
        self.activation = layers.as_activation(torch.tanh if activation is None else activation)
        self._reuse = reuse
        self._name = name
        self._made: Recurrence | None = None

    @property
    def output_size(self) -> int:
        return self.units

    def recurrence(self, width: int) -> Recurrence:
        """The layer's weights in the scope of the cell, which is the current one."""
        raise NotImplementedError

    def zero_state(self, batch_size: int, dtype: Any = None) -> State:
        return torch.zeros(batch_size, self.units)

    def __call__(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        made = self._weights(inputs)
        state = made.step(inputs @ made.kernel + made.bias, state)
        return (state.h if isinstance(state, LSTMStateTuple) else state), state

    def unroll(self, inputs: Tensor, lengths: Tensor | None, state: State = None) -> tuple[Tensor, State]:
        """All steps; see Recurrence.unroll. Without a state the first is 0."""
        made = self._weights(inputs)
        return made.unroll(inputs, lengths, made.zero_state(inputs) if state is None else state)

    def _weights(self, inputs: Tensor) -> Recurrence:
        if self._made is None:
            with variable_scope(self._name or unique_name(self.base_name), reuse=self._reuse):
                self._made = self.recurrence(inputs.shape[-1])
        return self._made


def weight(name: str, shape: Sequence[int], initializer: Initializer | None = None) -> Tensor:
    """A variable of a cell. Raises ValueError if another layer has it already and does not share it."""
    return layers.make_weight(name, tuple(shape), initializer or glorot_uniform, True, None)


class BasicRNNCell(RNNCell):
    """h = tanh([x, h] · kernel + bias). Variables `basic_rnn_cell/{kernel [n + units, units], bias}`."""

    base_name = "basic_rnn_cell"

    def __init__(
        self,
        num_units: int,
        activation: Activation | str | None = None,
        reuse: Reuse = None,
        name: str | None = None,
    ) -> None:
        super().__init__(num_units, activation, reuse, name)

    def recurrence(self, width: int) -> Recurrence:
        kernel, bias = weight("kernel", (width + self.units, self.units)), weight("bias", (self.units,), zeros)
        return Recurrence("RNN", kernel[:width], kernel[width:], bias, self.activation)


class BasicLSTMCell(RNNCell):
    """An LSTM without peepholes; `forget_bias` is added to the forget gate.

    Variables `basic_lstm_cell/{kernel [n + units, 4 · units], bias}`, with the gates i, c, f, o.
    """

    base_name = "basic_lstm_cell"

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Activation | str | None = None,
        reuse: Reuse = None,
        name: str | None = None,
        *,
        initializer: Initializer | None = None,
    ) -> None:
        if not state_is_tuple:
            raise ValueError("The state of an LSTM is an LSTMStateTuple here: leave state_is_tuple True.")
        super().__init__(num_units, activation, reuse, name)
        self._forget_bias = forget_bias
        self._initializer = initializer

    def zero_state(self, batch_size: int, dtype: Any = None) -> LSTMStateTuple:
        return LSTMStateTuple(torch.zeros(batch_size, self.units), torch.zeros(batch_size, self.units))

    def recurrence(self, width: int) -> Recurrence:
        kernel = weight("kernel", (width + self.units, 4 * self.units), self._initializer)
        bias = weight("bias", (4 * self.units,), zeros)
        taken, candidate, kept, given = kernel.chunk(4, -1)
        rows = torch.cat([taken, given, kept, candidate], -1)
        taken, candidate, kept, given = bias.chunk(4)
        bias = torch.cat([taken, given, kept + self._forget_bias, candidate])
        return Recurrence("LSTM", rows[:width], rows[width:], bias, self.activation)


class LSTMCell(BasicLSTMCell):
    """As BasicLSTMCell, under the name `lstm_cell`. Peepholes and projections are refused."""

    base_name = "lstm_cell"

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        cell_clip: float | None = None,
        initializer: Initializer | None = None,
        num_proj: int | None = None,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Activation | str | None = None,
        reuse: Reuse = None,
        name: str | None = None,
    ) -> None:
        if use_peepholes or cell_clip is not None or num_proj is not None:
            raise ValueError(
                "LSTMCell has no peepholes, no cell_clip and no projection here: leave use_peepholes, cell_clip and "
                "num_proj out, or write the layer as a torch module and use it with module(name, factory)."
            )
        super().__init__(num_units, forget_bias, state_is_tuple, activation, reuse, name, initializer=initializer)


class GRUCell(RNNCell):
    """A GRU whose reset gate acts before the product, as TensorFlow 1's.

    Variables `gru_cell/gates/{kernel [n + units, 2 · units], bias}`, the gates r and u with biases that start at 1, and
    `gru_cell/candidate/{kernel [n + units, units], bias}`.
    """

    base_name = "gru_cell"

    def __init__(
        self,
        num_units: int,
        activation: Activation | str | None = None,
        reuse: Reuse = None,
        kernel_initializer: Initializer | None = None,
        bias_initializer: Initializer | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(num_units, activation, reuse, name)
        self._kernel_initializer = kernel_initializer
        self._bias_initializer = bias_initializer

    def recurrence(self, width: int) -> Recurrence:
        rows = width + self.units
        with variable_scope("gates"):
            reset, kept = weight("kernel", (rows, 2 * self.units), self._kernel_initializer).chunk(2, -1)
            reset_bias, kept_bias = weight("bias", (2 * self.units,), self._bias_initializer or ones).chunk(2)
        with variable_scope("candidate"):
            candidate = weight("kernel", (rows, self.units), self._kernel_initializer)
            candidate_bias = weight("bias", (self.units,), self._bias_initializer or zeros)
        kernel = torch.cat([kept, reset, candidate], -1)
        bias = torch.cat([kept_bias, reset_bias, candidate_bias])
        return Recurrence("GRU", kernel[:width], kernel[width:], bias, self.activation)


class MultiRNNCell:
    """Layers one above the other. Their variables are `multi_rnn_cell/cell_<number>/…`; the state is a tuple."""

    scope = "multi_rnn_cell"
    numbered = "cell_"
    """The scope of each layer, with its number; without one the layers count their own names."""

    def __init__(self, cells: Sequence[Any], state_is_tuple: bool = True) -> None:
        if not cells:
            raise ValueError("Must specify at least one cell for MultiRNNCell.")
        if not state_is_tuple:
            raise ValueError("The state of a MultiRNNCell is a tuple here: leave state_is_tuple True.")
        self.cells = tuple(cells)

    @property
    def output_size(self) -> int:
        return int(self.cells[-1].output_size)

    def zero_state(self, batch_size: int, dtype: Any = None) -> tuple[State, ...]:
        return tuple(cell.zero_state(batch_size, dtype) for cell in self.cells)

    def __call__(self, inputs: Tensor, state: Sequence[State]) -> tuple[Tensor, tuple[State, ...]]:
        return self._through(inputs, lambda cell, values, before: cell(values, before), state)

    def unroll(
        self, inputs: Tensor, lengths: Tensor | None, state: Sequence[State] | None = None
    ) -> tuple[Tensor, tuple[State, ...]]:
        """All steps of the first layer, then of the next; see Recurrence.unroll."""
        given = [None] * len(self.cells) if state is None else state
        return self._through(inputs, lambda cell, values, before: cell.unroll(values, lengths, before), given)

    def _through(
        self, values: Tensor, call: Callable[[Any, Tensor, State], tuple[Tensor, State]], states: Sequence[State]
    ) -> tuple[Tensor, tuple[State, ...]]:
        after: list[State] = []
        with variable_scope(self.scope):
            for i, (cell, before) in enumerate(zip(self.cells, states, strict=True)):
                with variable_scope(f"{self.numbered}{i}") if self.numbered else nullcontext():
                    values, state = call(cell, values, before)
                after.append(state)
        return values, tuple(after)


class DropoutWrapper:
    """A cell whose inputs and outputs drop entries; each stays with the given probability. Give 1.0 to drop nothing."""

    def __init__(
        self,
        cell: Any,
        input_keep_prob: float = 1.0,
        output_keep_prob: float = 1.0,
        state_keep_prob: float = 1.0,
        seed: int | None = None,
    ) -> None:
        if state_keep_prob != 1.0:
            raise ValueError("Dropout of the state is not here: leave state_keep_prob 1.0.")
        self.cell = cell
        self._rates = (1.0 - input_keep_prob, 1.0 - output_keep_prob)
        self._seed = seed

    @property
    def output_size(self) -> int:
        return int(self.cell.output_size)

    def zero_state(self, batch_size: int, dtype: Any = None) -> State:
        return self.cell.zero_state(batch_size, dtype)

    def __call__(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, state = self.cell(self._dropped(inputs, 0), state)
        return self._dropped(outputs, 1), state

    def unroll(self, inputs: Tensor, lengths: Tensor | None, state: State = None) -> tuple[Tensor, State]:
        """All steps; see Recurrence.unroll."""
        outputs, state = self.cell.unroll(self._dropped(inputs, 0), lengths, state)
        return self._dropped(outputs, 1), state

    def _dropped(self, values: Tensor, place: int) -> Tensor:
        return layers.dropout(values, self._rates[place], seed=self._seed, training=True)


# -- over all steps ---------------------------------------------------------------------------------------------------


def dynamic_rnn(
    cell: Any,
    inputs: Tensor,
    sequence_length: Tensor | None = None,
    initial_state: State = None,
    dtype: Any = None,  # noqa: ARG001  all states are float32
    time_major: bool = False,
    scope: str | None = None,
) -> tuple[Tensor, State]:
    """A cell over all steps: f32 [B, steps, n] -> the outputs f32 [B, steps, units] and the state after the last step.

    `sequence_length` int64 [B]: outputs behind a row's last step are 0, and its state is that of its last step.
    `time_major` inputs and outputs are [steps, B, …]. Variables are in the scope `rnn`, or `scope`.
    """
    inputs = inputs.transpose(0, 1) if time_major else inputs
    with variable_scope(scope or "rnn"):
        outputs, state = cell.unroll(inputs, sequence_length, initial_state)
    return outputs.transpose(0, 1) if time_major else outputs, state


def bidirectional_dynamic_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Tensor,
    sequence_length: Tensor | None = None,
    initial_state_fw: State = None,
    initial_state_bw: State = None,
    dtype: Any = None,
    time_major: bool = False,
    scope: str | None = None,
) -> tuple[tuple[Tensor, Tensor], tuple[State, State]]:
    """Two cells, one over the steps and one over the reversed steps of each row: (outputs, outputs), (state, state).

    As dynamic_rnn; the scopes are `bidirectional_rnn/fw` and `bidirectional_rnn/bw`.
    """
    inputs = inputs.transpose(0, 1) if time_major else inputs
    with variable_scope(scope or "bidirectional_rnn"):
        forward, last = dynamic_rnn(cell_fw, inputs, sequence_length, initial_state_fw, dtype, scope="fw")
        turned = _reversed(inputs, sequence_length)
        backward, first = dynamic_rnn(cell_bw, turned, sequence_length, initial_state_bw, dtype, scope="bw")
        backward = _reversed(backward, sequence_length)
    if time_major:
        forward, backward = forward.transpose(0, 1), backward.transpose(0, 1)
    return (forward, backward), (last, first)


def _reversed(values: Tensor, lengths: Tensor | None) -> Tensor:
    """Each row's own steps from the last to the first; those behind them stay."""
    if lengths is None:
        return values.flip(1)
    steps = torch.arange(values.shape[1]).unsqueeze(0)
    ends = lengths.unsqueeze(-1)
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    return values.gather(1, order.unsqueeze(-1).expand(values.shape))
