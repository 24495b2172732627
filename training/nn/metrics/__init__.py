"""Streaming metrics: the additive state of one batch, and what a sum of states means (TF 2.15).

Pure functions of tensors. A Metric of one batch plus a Metric of the next is the Metric of both; `result` reads it.
Sums are kept in float64, results are float32. A metric of your own is such a function: it returns a Metric whose state
adds up over batches and a `finish` that reads the sum. For example

    def average(values):
        state = torch.stack([values.double().sum(), torch.tensor(len(values)).double()])
        return Metric(state, lambda state: state[0] / state[1])

Labels, predictions and weights have one shape, except that one of them may lack a last dimension of 1 or have it in
addition ([B] beside [B, 1]). Weights may also have dimensions of 1 where predictions are wider, or be one number.
Shapes that do not fit raise ValueError. Without any weight a mean, a share or an area is 0.

Every function also takes TensorFlow's `name`, `metrics_collections` and `updates_collections`, which change nothing.
"""

import types

from estimator_serving.training.nn.metrics.base import Metric as Metric
from estimator_serving.training.nn.metrics.base import State as State
from estimator_serving.training.nn.metrics.base import Weights as Weights
from estimator_serving.training.nn.metrics.base import takes_names
from estimator_serving.training.nn.metrics.confusion import confusion_matrix as confusion_matrix
from estimator_serving.training.nn.metrics.confusion import mean_iou as mean_iou
from estimator_serving.training.nn.metrics.confusion import mean_per_class_accuracy as mean_per_class_accuracy
from estimator_serving.training.nn.metrics.confusion import precision_per_class as precision_per_class
from estimator_serving.training.nn.metrics.confusion import recall_per_class as recall_per_class
from estimator_serving.training.nn.metrics.counts import THRESHOLDS as THRESHOLDS
from estimator_serving.training.nn.metrics.counts import false_negatives as false_negatives
from estimator_serving.training.nn.metrics.counts import false_negatives_at_thresholds as false_negatives_at_thresholds
from estimator_serving.training.nn.metrics.counts import false_positives as false_positives
from estimator_serving.training.nn.metrics.counts import false_positives_at_thresholds as false_positives_at_thresholds
from estimator_serving.training.nn.metrics.counts import precision as precision
from estimator_serving.training.nn.metrics.counts import precision_at_thresholds as precision_at_thresholds
from estimator_serving.training.nn.metrics.counts import recall as recall
from estimator_serving.training.nn.metrics.counts import recall_at_thresholds as recall_at_thresholds
from estimator_serving.training.nn.metrics.counts import sensitivity_at_specificity as sensitivity_at_specificity
from estimator_serving.training.nn.metrics.counts import specificity_at_sensitivity as specificity_at_sensitivity
from estimator_serving.training.nn.metrics.counts import true_negatives as true_negatives
from estimator_serving.training.nn.metrics.counts import true_negatives_at_thresholds as true_negatives_at_thresholds
from estimator_serving.training.nn.metrics.counts import true_positives as true_positives
from estimator_serving.training.nn.metrics.counts import true_positives_at_thresholds as true_positives_at_thresholds
from estimator_serving.training.nn.metrics.curves import auc as auc
from estimator_serving.training.nn.metrics.curves import bucket_weights as bucket_weights
from estimator_serving.training.nn.metrics.curves import curve_points as curve_points
from estimator_serving.training.nn.metrics.means import accuracy as accuracy
from estimator_serving.training.nn.metrics.means import larger_class_share as larger_class_share
from estimator_serving.training.nn.metrics.means import mean as mean
from estimator_serving.training.nn.metrics.means import mean_absolute_error as mean_absolute_error
from estimator_serving.training.nn.metrics.means import mean_cosine_distance as mean_cosine_distance
from estimator_serving.training.nn.metrics.means import mean_relative_error as mean_relative_error
from estimator_serving.training.nn.metrics.means import mean_squared_error as mean_squared_error
from estimator_serving.training.nn.metrics.means import mean_tensor as mean_tensor
from estimator_serving.training.nn.metrics.means import percentage_below as percentage_below
from estimator_serving.training.nn.metrics.means import root_mean_squared_error as root_mean_squared_error
from estimator_serving.training.nn.metrics.ranking import average_precision_at_k as average_precision_at_k
from estimator_serving.training.nn.metrics.ranking import precision_at_k as precision_at_k
from estimator_serving.training.nn.metrics.ranking import precision_at_top_k as precision_at_top_k
from estimator_serving.training.nn.metrics.ranking import recall_at_k as recall_at_k
from estimator_serving.training.nn.metrics.ranking import recall_at_top_k as recall_at_top_k

for _name, _function in [*globals().items()]:
    if isinstance(_function, types.FunctionType) and _function.__annotations__.get("return") == "Metric":
        globals()[_name] = takes_names(_function)

sparse_average_precision_at_k = average_precision_at_k  # the older names of the two
sparse_precision_at_k = precision_at_k
