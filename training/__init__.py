"""The Estimator API on PyTorch: TensorFlow's names, arguments, defaults and error texts.

A program written for tf.estimator imports these names instead and exchanges its tensor calls for torch's.
"""

import sys

from estimator_serving.training import distribute, experimental, export, feature_column, hooks, optimizers
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
    LinearClassifier,
    LinearEstimator,
    LinearRegressor,
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
from estimator_serving.training.nn import initializers, layers, losses, metrics, regularizers, summaries
from estimator_serving.training.nn.names import AUTO_REUSE
from estimator_serving.training.nn.variables import get_global_step, get_variable, module, variable_scope
from estimator_serving.training.optimizers import v1 as train
from estimator_serving.training.predictor import Predictor
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
    "LinearClassifier",
    "LinearEstimator",
    "LinearRegressor",
    "ModeKeys",
    "Predictor",
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
    "decode_csv",
    "feature_column",
    "inputs",
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
    "get_global_step",
    "get_variable",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "figures",
    "module",
    "optimizers",
    "regularizers",
    "summaries",
    "train",
    "variable_scope",
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

# Programs import these as submodules of training, for example `from estimator_serving.training.layers import dense`,
# whichever room holds them.
for _name in ("figures", "initializers", "inputs", "layers", "losses", "metrics", "regularizers", "summaries", "train"):
    sys.modules[f"{__name__}.{_name}"] = globals()[_name]
