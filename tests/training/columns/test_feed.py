"""What is fed: TF 2.15's checks of raw features."""

import numpy as np
import pytest

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.transform import build_transform

vocabulary = fc.categorical_column_with_vocabulary_list


def text(rows):
    return np.array(rows, dtype=object)


def pair(key, values, lengths):
    """A feature as ParseExample gives it."""
    return {f"{key}/values": np.asarray(values), f"{key}/lengths": np.asarray(lengths)}


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ({"x": np.ones(2)}, "Feature k is not in features dictionary. It has: x."),
        ({"k": text(["a"])}, "Feature x is not in features dictionary. It has: k."),
        ({"x": np.ones(2), "k": text(["a"])},
         r"Batch size \(first dimension\) of each feature must be same. Batch size of columns \(k, x\): \(1, 2\)"),
        ({"x": np.float32(3), "k": text(["a"])}, r"Feature \(key: x\) cannot have rank 0. Given: .*; did you forget"),
        ({"x": np.ones(1), "k": np.ones(1)},
         "column_name: k input_tensor dtype must be string or integer. dtype: <dtype: 'float64'>."),
        ({"x": np.ones(1), "k": np.array([3])},
         "Column dtype and SparseTensors dtype must be compatible. key: k, column dtype: <dtype: 'string'>, "
         "tensor dtype: <dtype: 'int64'>"),
        ({"x": text(["a"]), "k": text(["a"])}, "Feature x holds text where numeric_column"),
        ({"x": np.ones((1, 3)), "k": text(["a"])},
         r"Feature x has the shape \[1, 3\]; numeric_column\('x', shape=\(1,\)"),
        ({"x": np.ones(1), "k": text([None])}, "Feature k holds None .* where text was expected"),
        ({"x": np.ones(1), "k": text([b"\xff\0"])}, "Feature k holds the bytes .* with a NUL"),
        ({**pair("x", [[1.0]], [1]), "k": text(["a"])},
         "The corresponding Tensor of numerical column must be a Tensor. SparseTensor is not supported. key: x"),
    ],
)  # fmt: skip
def test_features_that_do_not_fit(raw, error):
    with pytest.raises(ValueError, match=error):
        build_transform([fc.numeric_column("x"), fc.indicator_column(vocabulary("k", ["a"]))])(raw)
