"""Operations of keras.ops on arrays."""

import keras
import pytest
from keras import ops
from keras_graphs import RANDOM, assert_agree, session_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

OPERATIONS = {
    "arithmetic": lambda a, b: [
        (a - b) * 2 / (ops.abs(b) + 1),
        -a,
        ops.power(ops.abs(a), b),
        ops.maximum(a, 0.5),
        a % 0.7,
    ],
    "functions": lambda a, b: [ops.exp(a), ops.log(ops.abs(a) + 1), ops.sqrt(ops.square(b)), ops.erf(a), ops.sign(b)],
    "logarithms": lambda a, b: [
        ops.log1p(ops.abs(a)),
        ops.log2(ops.abs(b) + 1),
        ops.expm1(a),
        ops.rsqrt(ops.abs(a) + 1),
    ],
    "comparisons": lambda a, b: [a > b, a <= 0.0, ops.not_equal(a, b), ops.logical_and(a > 0, b > 0), ops.isnan(a)],
    "choices": lambda a, b: [
        ops.where(a > b, a, 0.0),
        ops.clip(a, -0.5, 0.5),
        ops.argmax(a, axis=-1),
        ops.any(a > 1, -1),
    ],
    "reductions": lambda a, b: [ops.mean(a, axis=(1, 2)), ops.sum(b, -1, keepdims=True), ops.std(a, 1), ops.max(b, 2)],
    "more reductions": lambda a, b: [
        ops.logsumexp(a, axis=-1),
        ops.var(b, axis=1),
        ops.prod(a, axis=-1),
        ops.all(b > 0, 1),
    ],
    "shapes": lambda a, b: [
        ops.reshape(a, (-1, 12)),
        ops.transpose(a, (0, 2, 1)),
        ops.expand_dims(a, 1),
        ops.swapaxes(b, 1, 2),
    ],
    "joins": lambda a, b: [
        ops.concatenate([a, b], 1),
        ops.stack([a, b], -1),
        *ops.split(a, 2, axis=-1),
        ops.moveaxis(a, 1, 2),
    ],
    "places": lambda a, b: [a[:, 0], a[:, -1, 1:3], a[..., None], ops.take(a, [2, 0], axis=1), ops.flip(b, 1)],
    "repeated": lambda a, b: [ops.tile(b, (1, 2, 1)), ops.repeat(a, 2, axis=1), ops.pad(a, ((0, 0), (1, 2), (0, 1)))],
    "products": lambda a, b: [ops.matmul(a, ops.transpose(b, (0, 2, 1))), ops.einsum("abc,abd->acd", a, b)],
    "others": lambda a, b: [
        ops.cumsum(a, axis=1),
        ops.zeros_like(a),
        ops.cast(a, "int32"),
        ops.one_hot(ops.argmax(b, 2), 4),
    ],
    "the best": lambda a, b: [ops.top_k(a, 2)[0], ops.cast(ops.top_k(b, 2)[1], "int32")],
}


@pytest.mark.parametrize("kind", OPERATIONS)
def test_operations(kind):
    a, b = keras.Input((3, 4)), keras.Input((3, 4))
    model = keras.Model([a, b], OPERATIONS[kind](a, b))
    assert_agree(session_of(model), model, *RANDOM.normal(size=(2, 5, 3, 4)).astype("float32"))
