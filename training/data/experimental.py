"""tf.data.experimental's names."""

from estimator_serving.training.data.pipeline import AUTOTUNE as AUTOTUNE
from estimator_serving.training.data.tf_data import make_batched_features_dataset as make_batched_features_dataset
from estimator_serving.training.data.tf_data import make_csv_dataset as make_csv_dataset
from estimator_serving.training.data.tf_data import map_and_batch as map_and_batch
from estimator_serving.training.data.tf_data import shuffle_and_repeat as shuffle_and_repeat
