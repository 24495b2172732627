"""Specs with a label and a weight, as TF 2.15's estimator makes them; refusals stand in test_column_goldens."""

import pytest

from estimator_serving import training
from estimator_serving.training import FixedLenFeature, VarLenFeature, feature_column

COLUMNS = [feature_column.categorical_column_with_hash_bucket("k", 5)]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (training.classifier_parse_example_spec(COLUMNS, "y"), {"y": FixedLenFeature((1,), "int64")}),
        (
            training.classifier_parse_example_spec(COLUMNS, "y", label_dtype="string", label_default="no"),
            {"y": FixedLenFeature((1,), "string", "no")},
        ),
        (
            training.classifier_parse_example_spec(COLUMNS, "y", weight_column="w"),
            {"y": FixedLenFeature((1,), "int64"), "w": FixedLenFeature((1,), "float32")},
        ),
        (training.regressor_parse_example_spec(COLUMNS, "y"), {"y": FixedLenFeature((1,), "float32")}),
        (
            training.regressor_parse_example_spec(
                COLUMNS,
                "y",
                label_dimension=2,
                label_default=[1.0, 2.0],
                weight_column=feature_column.numeric_column("w", default_value=1.0),
            ),
            {"y": FixedLenFeature((2,), "float32", (1.0, 2.0)), "w": FixedLenFeature((1,), "float32", (1.0,))},
        ),
    ],
)
def test_label_and_weight_stand_beside_the_columns(made, expected):
    assert made == {"k": VarLenFeature("string"), **expected}
