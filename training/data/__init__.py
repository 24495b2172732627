"""Input: data sets, files, input functions, and the batches that a loop reads from them; with tf.data's names.

Knows columns, because batches pass through their transform before the step. Does not know estimators.
"""

from estimator_serving.training.data import experimental as experimental
from estimator_serving.training.data.dataset import Dataset as Dataset
from estimator_serving.training.data.pipeline import AUTOTUNE as AUTOTUNE
from estimator_serving.training.data.tf_data import TextLineDataset as TextLineDataset
from estimator_serving.training.data.tf_data import TFRecordDataset as TFRecordDataset
