"""Activations, convolutions, pooling, normalization, attention."""

import keras
import pytest
from keras import layers
from keras_graphs import RANDOM, assert_agree, assert_lowered, session_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ACTIVATIONS = [
    "elu",
    "selu",
    "gelu",
    "silu",
    "softplus",
    "softsign",
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "hard_silu",
    "relu",
    "relu6",
    "leaky_relu",
    "exponential",
    "mish",
    "log_softmax",
    "softmax",
    "celu",
    "glu",
    "hard_tanh",
    "log_sigmoid",
]


def test_activations():
    for name in ACTIVATIONS:
        assert_lowered([layers.Dense(4, name), layers.Activation(name)], (4,))
    for layer in (layers.ReLU(2, 0.1, 0.2), layers.LeakyReLU(), layers.ELU(), layers.PReLU(), layers.Softmax()):
        assert_lowered([layer], (4,))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2])
def test_images(padding, strides):
    how = {"strides": strides, "padding": padding}
    for layer in (
        layers.Conv2D(4, 3, activation="relu", **how),
        layers.Conv2D(6, 3, groups=3, **how),
        layers.DepthwiseConv2D(3, depth_multiplier=2, **how),
        layers.SeparableConv2D(4, 3, padding=padding),
        layers.Conv2DTranspose(4, 3, **how),
        layers.MaxPooling2D(3, **how),
        layers.AveragePooling2D(2, **how),
    ):
        assert_lowered([layer, layers.BatchNormalization(scale=False), layers.GlobalAveragePooling2D()], (9, 8, 3))


def test_other_ways_of_convolution():
    assert_lowered([layers.Conv1D(4, 3, padding="causal", dilation_rate=2)], (None, 3))
    assert_lowered([layers.Conv1D(4, 2, padding="same", strides=2), layers.GlobalMaxPooling1D()], (None, 3))
    assert_lowered([layers.Conv3D(4, 3, padding="same", strides=2), layers.MaxPooling3D(2)], (5, 6, 7, 2))
    assert_lowered([layers.Conv2D(4, 3, padding="same", data_format="channels_first")], (3, 9, 8))
    assert_lowered([layers.UpSampling2D(2), layers.UpSampling2D(2, interpolation="bilinear")], (4, 5, 2))


@pytest.mark.parametrize(
    "layer",
    [layers.LayerNormalization, layers.RMSNormalization, layers.UnitNormalization, layers.BatchNormalization],
)
def test_normalization(layer):
    assert_lowered([layer()], (3, 4))


@pytest.mark.filterwarnings("ignore::UserWarning")  # a call of Attention in Keras warns
def test_attention_of_any_number_of_steps():
    words = keras.Input((None,), dtype="int32")
    x = layers.Embedding(5, 8, mask_zero=True)(words)
    made = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    model = keras.Model(words, [made, layers.Attention()([x, x])])
    session = session_of(model)
    for steps in (6, 1):
        assert_agree(session, model, RANDOM.integers(0, 5, (3, steps)).astype("int32"))


def test_attention_to_what_came_before():
    x = keras.Input((6, 8))
    model = keras.Model(x, layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True))
    assert_agree(session_of(model), model, RANDOM.normal(size=(3, 6, 8)).astype("float32"))
