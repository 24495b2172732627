"""The walk: layers of a user's own, models inside models, and what has no rule."""

import keras
import numpy as np
import pytest
import torch
from keras import layers
from keras_graphs import RANDOM, assert_agree, assert_lowered, session_of

from estimator_serving.exporter.sources.keras_graph.values import NotLoweredError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Scaled(layers.Layer):
    """A layer that a user wrote, with a layer inside."""

    def build(self, shape):
        self.inner = layers.Dense(2)
        self.inner.build(shape)
        self.scale = self.add_weight(shape=(2,), initializer="ones")

    def call(self, x):
        return keras.ops.tanh(self.inner(x)) * self.scale + x[..., :1]


class Steps(keras.Model):
    """A model that a user wrote, which goes through steps."""

    def __init__(self):
        super().__init__()
        self.mask, self.read, self.out = layers.Masking(), layers.GRU(3), layers.Dense(2)

    def call(self, x, training=None):
        return self.out(self.read(self.mask(x), training=training))


def test_layers_and_models_of_ones_own():
    assert_lowered([Scaled(), layers.Lambda(lambda x: keras.ops.square(x) + 1)], (4,))
    assert_lowered([Steps()], (None, 3))


def test_models_inside_models_share_weights():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu")])
    x, y = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([x, y], [layers.Dense(1)(inner(x)) + inner(y), layers.Dot(1)([inner(x), inner(y)])])
    session = session_of(model)
    assert_agree(session, model, *RANDOM.normal(size=(2, 5, 4)).astype(np.float32))


@pytest.mark.parametrize("merge", [layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum])
def test_merging_layers(merge):
    x, y = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([x, y], merge()([layers.Dense(3)(x), layers.Dense(3)(y)]))
    assert_agree(session_of(model), model, *RANDOM.normal(size=(2, 5, 4)).astype(np.float32))


def test_whole_numbers_become_what_the_layer_takes():
    assert_lowered([layers.Dense(2)], (4,), "int32")


def test_what_has_no_rule_is_named():
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: torch.tanh(x), name="odd")])
    with pytest.raises(NotLoweredError, match=r"the layer odd \(Lambda\)"):
        session_of(model)
