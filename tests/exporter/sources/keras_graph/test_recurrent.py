"""Recurrent layers: any number of steps, any mask, states, every kind of cell."""

import keras
import numpy as np
import pytest
from keras import layers
from keras_graphs import RANDOM, assert_agree, assert_lowered, session_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

KINDS = [layers.LSTM, layers.GRU, layers.SimpleRNN]


def with_gaps(rows):
    """Steps of zeros anywhere, and a row of nothing else."""
    rows[RANDOM.random(rows.shape[:2]) < 0.4] = 0
    rows[len(rows) // 2] = 0
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_masks(kind):
    layer = kind(4, return_sequences=True, zero_output_for_mask=True)
    both_ways = layers.Bidirectional(kind(3, return_sequences=True), merge_mode="ave")
    assert_lowered([layers.Masking(), kind(4, return_sequences=True), kind(2)], (None, 3), data=with_gaps)
    assert_lowered([layers.Masking(), layer, both_ways, kind(2, go_backwards=True)], (None, 3), data=with_gaps)


@pytest.mark.parametrize("kind", KINDS)
def test_states(kind):
    x = keras.Input((None, 3))
    outputs, *states = kind(4, return_sequences=True, return_state=True)(x)
    seen = layers.Bidirectional(kind(2, return_state=True))(x)
    model = keras.Model(x, [outputs, *states, *seen, kind(4)(x, initial_state=states)])
    session = session_of(model)
    for rows, steps in ((3, 5), (1, 1)):
        assert_agree(session, model, RANDOM.normal(size=(rows, steps, 3)).astype(np.float32))


def test_options_of_cells():
    assert_lowered([layers.LSTM(4, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False)], (None, 3))
    assert_lowered([layers.GRU(4, reset_after=False, dropout=0.2, recurrent_dropout=0.3)], (None, 3))
    assert_lowered([layers.SimpleRNN(4, dropout=0.2, unroll=True)], (4, 3))
    assert_lowered([layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])], (None, 3))


class Leaky(layers.Layer):
    """A cell that a user wrote."""

    state_size = 3

    def call(self, x, states):
        made = 0.9 * states[0] + 0.1 * x
        return made, [made]


def test_a_cell_that_a_user_wrote():
    assert_lowered([layers.RNN(Leaky(), return_sequences=True)], (None, 3))


def test_each_step_by_itself():
    inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3, activation="relu"), layers.Flatten()])
    assert_lowered([layers.TimeDistributed(inner), layers.LSTM(3)], (None, 8, 8, 1))
    assert_lowered(
        [layers.Masking(), layers.TimeDistributed(layers.Dense(2)), layers.LSTM(3)], (None, 3), data=with_gaps
    )


def test_no_rows():
    model = keras.Sequential([keras.Input((None, 3)), layers.Masking(), layers.Bidirectional(layers.LSTM(4))])
    (got,) = session_of(model).run(None, {"input 0": np.zeros((0, 5, 3), np.float32)})
    assert got.shape == (0, 8)
