"""Keras 2 models with LSTM, GRU and SimpleRNN layers whose number of steps only a request tells, each asked at several
lengths: full, of one step, and longer. Registers them with make_models.
"""

from __future__ import annotations

import numpy as np
from make_models import MODELS, integers, keras, layers, numbers

LENGTHS = (1, 7, 33)


def open_length(function):
    """One case for each length of a model that `function` makes; it gives the model and length -> arrays."""
    for length in LENGTHS:

        def make(length=length):
            made, arrays = function()
            return made, arrays(length)

        MODELS[f"{function.__name__}_of_{length}"] = make
    return function


def sequences(size):
    x = keras.Input((None, size), name="x")
    return x, lambda length: {"x": numbers(length, size)}


def tokens(bound):
    ids = keras.Input((None,), dtype="int64", name="ids")

    def arrays(length):
        # Rows end in padding; the last row is nothing else, and padding stands between tokens, too.
        drawn = integers(bound, length, low=1)
        kept = np.random.default_rng(4).integers(0, length + 1, size=len(drawn))
        drawn[np.arange(length)[None, :] >= kept[:, None]] = 0
        drawn[1, ::2] = 0
        drawn[-1] = 0
        return {"ids": drawn}

    return ids, arrays


@open_length
def open_lstm():
    x, arrays = sequences(4)
    return keras.Model(x, layers.Dense(2)(layers.LSTM(5)(x))), arrays


@open_length
def open_lstm_sequences():
    x, arrays = sequences(3)
    y, hidden, cell = layers.LSTM(5, return_sequences=True, return_state=True)(x)
    return keras.Model(x, {"y": y, "hidden": hidden, "cell": cell}), arrays


@open_length
def open_lstm_masked():
    ids, arrays = tokens(9)
    e = layers.Embedding(9, 4, mask_zero=True)(ids)
    y = layers.LSTM(5, return_sequences=True)(e)
    return keras.Model(ids, layers.LSTM(3, activation="sigmoid")(y)), arrays


@open_length
def open_lstm_backwards():
    x, arrays = sequences(3)
    return keras.Model(x, layers.LSTM(4, go_backwards=True, return_sequences=True, time_major=False)(x)), arrays


@open_length
def open_lstm_zero_output():
    ids, arrays = tokens(7)
    e = layers.Embedding(7, 3, mask_zero=True)(ids)
    cell = layers.LSTMCell(4)
    return keras.Model(ids, layers.RNN(cell, return_sequences=True, zero_output_for_mask=True)(e)), arrays


@open_length
def open_gru():
    x, arrays = sequences(4)
    y = layers.GRU(5, return_sequences=True)(x)
    return keras.Model(x, layers.GRU(3, reset_after=False)(y)), arrays


@open_length
def open_gru_masked():
    ids, arrays = tokens(9)
    e = layers.Embedding(9, 4, mask_zero=True)(ids)
    return keras.Model(ids, layers.GRU(5, go_backwards=True)(e)), arrays


@open_length
def open_bidirectional():
    ids, arrays = tokens(9)
    e = layers.Embedding(9, 3, mask_zero=True)(ids)
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(e)
    y = layers.Bidirectional(layers.GRU(3), merge_mode="sum")(y)
    return keras.Model(ids, layers.Dense(2, "softmax")(y)), arrays


@open_length
def open_stacked_cells():
    x, arrays = sequences(3)
    cells = [layers.LSTMCell(4), layers.GRUCell(3)]
    return keras.Model(x, layers.RNN(cells, return_sequences=True)(layers.SimpleRNN(3, return_sequences=True)(x))), (
        arrays
    )


@open_length
def open_stateful_attention():
    x, arrays = sequences(4)
    y = layers.LSTM(4, return_sequences=True)(x)
    y = layers.Attention()([y, y])
    return keras.Model(x, layers.GlobalMaxPool1D()(y)), arrays
