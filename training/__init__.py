"""The Estimator API on PyTorch: TensorFlow's names, arguments, defaults and error texts.

A program written for tf.estimator imports these names instead and exchanges its tensor calls for torch's.
"""

import logging as _logging
import sys
from typing import Any

from estimator_serving.training import needs as _needs  # noqa: F401 - says which package is missing

# isort: split
from estimator_serving.training import openmp as _openmp  # noqa: F401 - before all that loads torch

# isort: split
from estimator_serving.training import (
    compat,
    contrib,
    data,
    distribute,
    estimator,
    experimental,
    export,
    feature_column,
    hooks,
    io,
    lookup,
    nn,
    optimizers,
    train,
)
from estimator_serving.training.canned import (
    BaselineClassifier,
    BaselineEstimator,
    BaselineRegressor,
    BoostedTreesClassifier,
    BoostedTreesEstimator,
    BoostedTreesRegressor,
    DNNClassifier,
    DNNEstimator,
    DNNLinearCombinedClassifier,
    DNNLinearCombinedEstimator,
    DNNLinearCombinedRegressor,
    DNNRegressor,
    KMeansClustering,
    LinearClassifier,
    LinearEstimator,
    LinearRegressor,
    RNNClassifier,
    RNNEstimator,
)
from estimator_serving.training.checkpoints.checkpoint import latest_checkpoint
from estimator_serving.training.checkpoints.fit import CheckpointFit
from estimator_serving.training.checkpoints.reader import (
    CheckpointReader,
    list_variables,
    load_checkpoint,
    load_into,
    load_variable,
)
from estimator_serving.training.checkpoints.warm_start import VocabInfo, WarmStartSettings
from estimator_serving.training.columns.features import Features
from estimator_serving.training.columns.parse_specs import classifier_parse_example_spec, regressor_parse_example_spec
from estimator_serving.training.data import inputs
from estimator_serving.training.data.dataset import Dataset
from estimator_serving.training.data.inputs import InputContext, numpy_input_fn, pandas_input_fn
from estimator_serving.training.data.tf_data import (
    TextLineDataset,
    TFRecordDataset,
    decode_csv,
    make_batched_features_dataset,
    make_csv_dataset,
    map_and_batch,
    parse_example,
    parse_single_example,
    shuffle_and_repeat,
)
from estimator_serving.training.errors import (
    CheckpointError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    FailedPreconditionError,
    InvalidArgumentError,
    NanLossDuringTrainingError,
    NotFoundError,
    PeerLostError,
    VariableMissingError,
    VariableShapeError,
)
from estimator_serving.training.estimator import Estimator, TrainedModel
from estimator_serving.training.exporters import BestExporter, Exporter, FinalExporter, LatestExporter
from estimator_serving.training.extenders import add_metrics
from estimator_serving.training.forward_features import forward_features
from estimator_serving.training.heads import (
    BinaryClassHead,
    Head,
    LogisticRegressionHead,
    MultiClassHead,
    MultiHead,
    MultiLabelHead,
    OneTargetHead,
    PoissonRegressionHead,
    RegressionHead,
)
from estimator_serving.training.hooks import (
    CheckpointSaverHook,
    CheckpointSaverListener,
    FeedFnHook,
    FinalOpsHook,
    GlobalStepWaiterHook,
    LoggingTensorHook,
    NanTensorHook,
    ProfilerHook,
    ProgressBarHook,
    SecondOrStepTimer,
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
    StepCounterHook,
    StopAtStepHook,
    SummarySaverHook,
)
from estimator_serving.training.hparams import HParams
from estimator_serving.training.keras_model import model_to_estimator
from estimator_serving.training.loop import figures
from estimator_serving.training.model_fn import (
    ClassificationOutput,
    EstimatorSpec,
    ExportOutput,
    ModeKeys,
    PredictOutput,
    RegressionOutput,
    StringPrediction,
)
from estimator_serving.training.namespaces import announce, namespace
from estimator_serving.training.nn import initializers, layers, losses, metrics, regularizers, summaries
from estimator_serving.training.nn.names import AUTO_REUSE
from estimator_serving.training.nn.variables import get_global_step, get_variable, module, variable_scope
from estimator_serving.training.optimizers.gradients import (
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    global_norm,
)
from estimator_serving.training.predictor import Predictor
from estimator_serving.training.replacements import REPLACEMENTS
from estimator_serving.training.run_config import RunConfig
from estimator_serving.training.train_and_evaluate import EvalSpec, TrainSpec, train_and_evaluate
from estimator_serving.training.tune import TrialRow, TuneResult, tune
from estimator_serving.wire.dtypes import bool_, float32, float64, int32, int64, string, uint8
from estimator_serving.wire.examples import (
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    SparseFeature,
    VarLenFeature,
)

__all__ = [
    # estimators and what describes a model
    "BaselineClassifier",
    "BaselineEstimator",
    "BaselineRegressor",
    "BoostedTreesClassifier",
    "BoostedTreesEstimator",
    "BoostedTreesRegressor",
    "DNNClassifier",
    "DNNEstimator",
    "DNNLinearCombinedClassifier",
    "DNNLinearCombinedEstimator",
    "DNNLinearCombinedRegressor",
    "DNNRegressor",
    "Estimator",
    "EstimatorSpec",
    "KMeansClustering",
    "LinearClassifier",
    "LinearEstimator",
    "LinearRegressor",
    "ModeKeys",
    "Predictor",
    "RNNClassifier",
    "RNNEstimator",
    "RunConfig",
    "TrainedModel",
    "VocabInfo",
    "WarmStartSettings",
    "add_metrics",
    "forward_features",
    "model_to_estimator",
    # several processes, and training, evaluating and exporting in turns
    "distribute",
    "BestExporter",
    "EvalSpec",
    "Exporter",
    "FinalExporter",
    "LatestExporter",
    "TrainSpec",
    "TrialRow",
    "TuneResult",
    "train_and_evaluate",
    "tune",
    # heads and export outputs
    "BinaryClassHead",
    "ClassificationOutput",
    "ExportOutput",
    "Head",
    "LogisticRegressionHead",
    "MultiClassHead",
    "MultiHead",
    "MultiLabelHead",
    "OneTargetHead",
    "PoissonRegressionHead",
    "PredictOutput",
    "RegressionHead",
    "RegressionOutput",
    "StringPrediction",
    # input
    "Dataset",
    "Features",
    "FixedLenFeature",
    "InputContext",
    "FixedLenSequenceFeature",
    "RaggedFeature",
    "SparseFeature",
    "TFRecordDataset",
    "TextLineDataset",
    "VarLenFeature",
    "classifier_parse_example_spec",
    "data",
    "decode_csv",
    "feature_column",
    "inputs",
    "io",
    "lookup",
    "make_batched_features_dataset",
    "make_csv_dataset",
    "map_and_batch",
    "numpy_input_fn",
    "pandas_input_fn",
    "parse_example",
    "parse_single_example",
    "regressor_parse_example_spec",
    "shuffle_and_repeat",
    # inside a model_fn
    "AUTO_REUSE",
    "HParams",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "get_global_step",
    "get_variable",
    "global_norm",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "figures",
    "module",
    "nn",
    "optimizers",
    "regularizers",
    "summaries",
    "summary",
    "train",
    "variable_scope",
    # modules of TensorFlow 1
    "compat",
    "contrib",
    "estimator",
    "logging",
    # hooks
    "CheckpointSaverHook",
    "CheckpointSaverListener",
    "FeedFnHook",
    "FinalOpsHook",
    "GlobalStepWaiterHook",
    "LoggingTensorHook",
    "NanTensorHook",
    "ProfilerHook",
    "ProgressBarHook",
    "SecondOrStepTimer",
    "SessionRunArgs",
    "SessionRunContext",
    "SessionRunHook",
    "SessionRunValues",
    "StepCounterHook",
    "StopAtStepHook",
    "SummarySaverHook",
    "experimental",
    "export",
    "hooks",
    # checkpoints
    "CheckpointFit",
    "CheckpointReader",
    "latest_checkpoint",
    "list_variables",
    "load_checkpoint",
    "load_into",
    "load_variable",
    # errors
    "CheckpointError",
    "CheckpointMismatchError",
    "CheckpointNotFoundError",
    "CorruptCheckpointError",
    "FailedPreconditionError",
    "InvalidArgumentError",
    "NanLossDuringTrainingError",
    "NotFoundError",
    "PeerLostError",
    "VariableMissingError",
    "VariableShapeError",
    # types of features
    "bool_",
    "float32",
    "float64",
    "int32",
    "int64",
    "string",
    "uint8",
]

summary = summaries

# Programs import these as submodules of training, for example `from estimator_serving.training.layers import dense`,
# whichever room holds them.
for _name in (
    "figures",
    "initializers",
    "inputs",
    "layers",
    "losses",
    "metrics",
    "regularizers",
    "summaries",
    "summary",
):
    sys.modules[f"{__name__}.{_name}"] = globals()[_name]

# -- TensorFlow's modules, for programs that say `from estimator_serving import training as tf` ------------------------

_logger = _logging.getLogger("estimator_serving.training")
logging = namespace(
    "logging",
    {
        **{name: getattr(_logging, name) for name in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")},
        **{name: getattr(_logger, name) for name in ("debug", "info", "warning", "error", "fatal", "log")},
        "set_verbosity": _logger.setLevel,
        "get_verbosity": _logger.getEffectiveLevel,
        "warn": _logger.warning,
    },
)

# tf.estimator is the module of the class Estimator here; it finds its other names among training's.
_OF_ESTIMATOR = """
    BaselineClassifier BaselineEstimator BaselineRegressor BestExporter BinaryClassHead BoostedTreesClassifier
    BoostedTreesEstimator BoostedTreesRegressor CheckpointSaverHook CheckpointSaverListener DNNClassifier DNNEstimator
    DNNLinearCombinedClassifier DNNLinearCombinedEstimator DNNLinearCombinedRegressor DNNRegressor Estimator
    EstimatorSpec EvalSpec Exporter FeedFnHook FinalExporter FinalOpsHook GlobalStepWaiterHook Head LatestExporter
    LinearClassifier LinearEstimator LinearRegressor LoggingTensorHook LogisticRegressionHead ModeKeys MultiClassHead
    MultiHead MultiLabelHead NanLossDuringTrainingError NanTensorHook PoissonRegressionHead ProfilerHook RegressionHead
    RunConfig SecondOrStepTimer SessionRunArgs SessionRunContext SessionRunHook SessionRunValues StepCounterHook
    StopAtStepHook SummarySaverHook TrainSpec VocabInfo WarmStartSettings add_metrics classifier_parse_example_spec
    experimental export inputs regressor_parse_example_spec train_and_evaluate
"""
_of_estimator = {name: globals()[name] for name in _OF_ESTIMATOR.split()}
announce(estimator, "estimator", _of_estimator)

_of_nn = {
    **layers.ACTIVATIONS,
    "bidirectional_dynamic_rnn": nn.rnn.bidirectional_dynamic_rnn,
    "dynamic_rnn": nn.rnn.dynamic_rnn,
}
vars(nn)["rnn_cell"] = namespace("nn.rnn_cell", contrib.CELLS)
# tf.zeros_initializer() and its siblings are called to give an initializer.
_of_training = {
    "constant_initializer": initializers.constant,
    "glorot_normal_initializer": lambda: initializers.glorot_normal,
    "glorot_uniform_initializer": lambda: initializers.glorot_uniform,
    "ones_initializer": lambda: initializers.ones,
    "orthogonal_initializer": initializers.orthogonal,
    "random_normal_initializer": initializers.random_normal,
    "random_uniform_initializer": initializers.random_uniform,
    "truncated_normal_initializer": initializers.truncated_normal,
    "variance_scaling_initializer": initializers.variance_scaling,
    "zeros_initializer": lambda: initializers.zeros,
}

_THIS = sys.modules[__name__]
for _module, _path, _also in (
    (_THIS, "", _of_training),
    (data, "data", {}),
    (data.experimental, "data.experimental", {}),
    (experimental, "estimator.experimental", {}),
    (export, "estimator.export", {}),
    (feature_column, "feature_column", {}),
    (initializers, "initializers", {}),
    (io, "io", {}),
    (layers, "layers", {}),
    (lookup, "lookup", {}),
    (losses, "losses", {}),
    (metrics, "metrics", {}),
    (nn, "nn", _of_nn),
    (summaries, "summary", {}),
    (train, "train", {}),
):
    announce(_module, _path, _also)


def _find(path: str) -> Any:
    """The module that stands for tf.<path>: made here if all that is known of it is what is not in it."""
    above, _, name = path.rpartition(".")
    parent = _find(above) if above else _THIS
    if not hasattr(parent, name):
        vars(parent)[name] = namespace(path, {})
    return getattr(parent, name)


for _path in REPLACEMENTS:
    if _path and _path != "data.Dataset":
        _find(_path)

vars(compat.v1)["estimator"] = namespace(
    "compat.v1.estimator", {**_of_estimator, **compat.v1.ESTIMATORS, "tpu": _find("estimator.tpu")}
)
