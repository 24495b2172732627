"""Small networks of tf.layers' functions, written once for TensorFlow and for this project.

Each case takes a module of layers and the input; what the two sides have under other names comes in `other`.
"""

import numpy as np


def conv_net(layers, x, training, other):
    x = layers.conv2d(x, 4, 3, padding="same", activation=other.relu)
    x = layers.max_pooling2d(x, 2, 2)
    x = layers.conv2d(x, filters=3, kernel_size=(2, 3), strides=(2, 1), padding="same", use_bias=False)
    x = layers.batch_normalization(x, momentum=0.9, training=training)
    x = layers.flatten(x)
    return layers.dense(x, units=2)


def valid_padding(layers, x, training, other):
    x = layers.conv2d(x, 2, (3, 2), strides=2)
    return layers.average_pooling2d(x, 2, 1)


def dilated(layers, x, training, other):
    return layers.conv2d(x, 2, 3, dilation_rate=(1, 2), padding="same", activation=other.tanh)


def same_pooling(layers, x, training, other):
    return other.concat(
        [
            layers.max_pooling2d(x, (3, 2), (2, 3), padding="same"),
            layers.average_pooling2d(x, [3, 2], [2, 3], padding="SAME"),
        ]
    )


def batch_norms(layers, x, training, other):
    x = layers.batch_normalization(x, axis=1, momentum=0.8, training=training)
    x = layers.batch_normalization(layers.flatten(x), momentum=0.8, epsilon=0.1, center=False, training=training)
    return layers.batch_normalization(x, scale=False, training=training, name="last")


def names(layers, x, training, other):
    x = layers.flatten(x)
    a = layers.dense(x, 2, name="dense")
    b = layers.dense(x, 2)
    with other.variable_scope("scope", reuse=other.auto_reuse):
        c = layers.dense(x, 2) + layers.dense(x, 2)
    with other.variable_scope("scope", reuse=other.auto_reuse):
        d = layers.dense(x, 2)
        with other.variable_scope("inner"):
            d = d + layers.dense(x, 2)
    with other.variable_scope("dense_2"):
        e = layers.dense(x, 2, name="dense") + layers.dense(x, 2, name="dense", reuse=True)
    with other.variable_scope(None, default_name="dense"):
        f = layers.dense(x, 2)
    return a + b + c + d + e + f + layers.dense(x, 2)


def regularized(layers, x, training, other):
    x = layers.dense(layers.flatten(x), 3, kernel_regularizer=other.l2(0.1), activity_regularizer=other.l2(0.3))
    return layers.dense(x, 2, bias_regularizer=other.l1(0.2), kernel_regularizer=other.l1_l2(0.1, 0.2))


def sequences(layers, x, training, other):
    x = layers.conv1d(x, 4, 3, padding="same", activation=other.relu)
    x = layers.max_pooling1d(x, 3, 2, padding="same")
    x = layers.conv1d(x, filters=3, kernel_size=(2,), strides=2, use_bias=False)
    x = layers.conv1d(x, 2, 2, dilation_rate=(2,), padding="same")
    return layers.average_pooling1d(x, 2, 1)


def objects(layers, x, training, other):
    x = layers.Flatten()(layers.Conv1D(3, 2, activation=other.tanh)(x))
    shared = layers.Dense(x.shape[-1], name="shared")
    x = layers.BatchNormalization(momentum=0.8)(shared(shared(x)), training=training)
    x = layers.Dropout(0.5)(layers.dense(x, 3))
    return layers.Dense(2, use_bias=False)(x)


def rnn(cell):
    """A case: the cell over sequences of 3, 4 and 0 steps, its outputs and its last state side by side."""

    def case(layers, x, training, other):
        outputs, state = other.dynamic_rnn(cell(other.rnn_cell), x, other.integers([3, 4, 0]), dtype=other.float32)
        flat = [part for each in (state if isinstance(state, tuple) else [state]) for part in _parts(each)]
        return other.concat([layers.flatten(outputs), *flat])

    return case


def _parts(state):
    return [*state] if isinstance(state, tuple) else [state]


def both_ways(layers, x, training, other):
    cells = [other.rnn_cell.GRUCell(2), other.rnn_cell.BasicRNNCell(2)]
    outputs, _ = other.bidirectional_dynamic_rnn(*cells, x, other.integers([3, 4, 0]), dtype=other.float32)
    return other.concat([*outputs])


def stacked(cells):
    layered = [cells.BasicLSTMCell(3, forget_bias=0.5), cells.DropoutWrapper(cells.GRUCell(2), output_keep_prob=1.0)]
    return cells.MultiRNNCell(layered)


CASES = {
    "basic_rnn": (rnn(lambda cells: cells.BasicRNNCell(3)), (3, 4, 2)),
    "lstm": (rnn(lambda cells: cells.LSTMCell(3)), (3, 4, 2)),
    "gru": (rnn(lambda cells: cells.GRUCell(3, name="named")), (3, 4, 2)),
    "stacked": (rnn(stacked), (3, 4, 2)),
    "both_ways": (both_ways, (3, 4, 2)),
    "conv_net": (conv_net, (2, 6, 5, 3)),
    "valid_padding": (valid_padding, (2, 7, 6, 2)),
    "sequences": (sequences, (2, 9, 3)),
    "objects": (objects, (3, 4, 2)),
    "dilated": (dilated, (2, 5, 6, 1)),
    "same_pooling": (same_pooling, (2, 6, 5, 2)),
    "batch_norms": (batch_norms, (3, 2, 2, 2)),
    "names": (names, (2, 1, 2, 1)),
    "regularized": (regularized, (2, 1, 2, 2)),
}


def fixed_value(name, shape):
    """Any fixed numbers will do; not 0, and not alike. Variances must be positive."""
    values = np.sin(np.arange(int(np.prod(shape))) * 1.7 + sum(map(ord, name))) * 0.4
    return (np.abs(values) + 0.5 if name.endswith("variance") else values).reshape(shape).astype(np.float32)
