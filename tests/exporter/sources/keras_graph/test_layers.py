"""Layers whose `call` leaves keras.ops."""

import numpy as np
import pytest
from keras import layers
from keras_graphs import RANDOM, assert_lowered

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def normalization(**options):
    layer = layers.Normalization(**options)
    layer.adapt(RANDOM.normal(3, 2, (50, 4)).astype(np.float32))
    return layer


def test_preprocessing():
    assert_lowered([layers.Rescaling(1 / 255, -0.5), layers.Resizing(4, 5)], (6, 8, 3), "uint8")
    assert_lowered([normalization(), normalization(invert=True)], (4,))
    assert_lowered([layers.CategoryEncoding(num_tokens=5, output_mode="multi_hot")], (3,), "int32")
    assert_lowered([layers.CategoryEncoding(num_tokens=5, output_mode="one_hot")], (1,), "int32")
    assert_lowered([layers.Discretization([-0.5, 0.0, 1.0])], (3,))


def test_what_does_nothing_outside_training():
    augmented = [layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1), layers.RandomContrast(0.2)]
    assert_lowered(
        [*augmented, layers.GaussianNoise(1.0), layers.Dropout(0.5), layers.SpatialDropout2D(0.5)], (6, 6, 3)
    )


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2)])
def test_shapes(shape):
    assert_lowered([layers.Flatten(), layers.RepeatVector(2), layers.Reshape((-1, 6)), layers.Permute((2, 1))], shape)


def test_embedding():
    assert_lowered([layers.Embedding(5, 3), layers.GlobalAveragePooling1D()], (None,), "int64")
    assert_lowered([layers.Embedding(5, 3, mask_zero=True), layers.GlobalAveragePooling1D()], (None,), "int32")
