"""tf.feature_column's names: the column constructors, and the layers that a model_fn reads columns with."""

from estimator_serving.training.columns.bucketized import bucketized_column
from estimator_serving.training.columns.crossed import crossed_column
from estimator_serving.training.columns.embedding import embedding_column, shared_embedding_columns, shared_embeddings
from estimator_serving.training.columns.hash_bucket import categorical_column_with_hash_bucket
from estimator_serving.training.columns.identity import categorical_column_with_identity
from estimator_serving.training.columns.indicator import indicator_column
from estimator_serving.training.columns.layers import input_layer, linear_model, sequence_input_layer
from estimator_serving.training.columns.numeric import numeric_column
from estimator_serving.training.columns.parse_specs import make_parse_example_spec
from estimator_serving.training.columns.sequence import (
    sequence_categorical_column_with_hash_bucket,
    sequence_categorical_column_with_identity,
    sequence_categorical_column_with_vocabulary_file,
    sequence_categorical_column_with_vocabulary_list,
    sequence_numeric_column,
)
from estimator_serving.training.columns.vocabulary import (
    categorical_column_with_vocabulary_file,
    categorical_column_with_vocabulary_list,
)
from estimator_serving.training.columns.weighted import weighted_categorical_column

__all__ = [
    "bucketized_column",
    "categorical_column_with_hash_bucket",
    "categorical_column_with_identity",
    "categorical_column_with_vocabulary_file",
    "categorical_column_with_vocabulary_list",
    "crossed_column",
    "embedding_column",
    "indicator_column",
    "input_layer",
    "linear_model",
    "make_parse_example_spec",
    "numeric_column",
    "sequence_categorical_column_with_hash_bucket",
    "sequence_categorical_column_with_identity",
    "sequence_categorical_column_with_vocabulary_file",
    "sequence_categorical_column_with_vocabulary_list",
    "sequence_input_layer",
    "sequence_numeric_column",
    "shared_embedding_columns",
    "shared_embeddings",
    "weighted_categorical_column",
]
