"""tf.train's names: optimizers and learning rates of TensorFlow 1, hooks, checkpoints, and the messages of Examples."""

from estimator_serving.training.checkpoints.checkpoint import latest_checkpoint as latest_checkpoint
from estimator_serving.training.checkpoints.reader import CheckpointReader as CheckpointReader
from estimator_serving.training.checkpoints.reader import list_variables as list_variables
from estimator_serving.training.checkpoints.reader import load_checkpoint as load_checkpoint
from estimator_serving.training.checkpoints.reader import load_variable as load_variable
from estimator_serving.training.checkpoints.warm_start import VocabInfo as VocabInfo
from estimator_serving.training.errors import NanLossDuringTrainingError as NanLossDuringTrainingError
from estimator_serving.training.hooks import CheckpointSaverHook as CheckpointSaverHook
from estimator_serving.training.hooks import CheckpointSaverListener as CheckpointSaverListener
from estimator_serving.training.hooks import FeedFnHook as FeedFnHook
from estimator_serving.training.hooks import FinalOpsHook as FinalOpsHook
from estimator_serving.training.hooks import GlobalStepWaiterHook as GlobalStepWaiterHook
from estimator_serving.training.hooks import LoggingTensorHook as LoggingTensorHook
from estimator_serving.training.hooks import NanTensorHook as NanTensorHook
from estimator_serving.training.hooks import ProfilerHook as ProfilerHook
from estimator_serving.training.hooks import SecondOrStepTimer as SecondOrStepTimer
from estimator_serving.training.hooks import SessionRunArgs as SessionRunArgs
from estimator_serving.training.hooks import SessionRunContext as SessionRunContext
from estimator_serving.training.hooks import SessionRunHook as SessionRunHook
from estimator_serving.training.hooks import SessionRunValues as SessionRunValues
from estimator_serving.training.hooks import StepCounterHook as StepCounterHook
from estimator_serving.training.hooks import StopAtStepHook as StopAtStepHook
from estimator_serving.training.hooks import SummarySaverHook as SummarySaverHook
from estimator_serving.training.nn.variables import get_global_step as get_global_step
from estimator_serving.training.optimizers.base import Optimizer as Optimizer
from estimator_serving.training.optimizers.v1 import AdagradOptimizer as AdagradOptimizer
from estimator_serving.training.optimizers.v1 import AdamOptimizer as AdamOptimizer
from estimator_serving.training.optimizers.v1 import FtrlOptimizer as FtrlOptimizer
from estimator_serving.training.optimizers.v1 import GradientDescentOptimizer as GradientDescentOptimizer
from estimator_serving.training.optimizers.v1 import MomentumOptimizer as MomentumOptimizer
from estimator_serving.training.optimizers.v1 import RMSPropOptimizer as RMSPropOptimizer
from estimator_serving.training.optimizers.v1 import cosine_decay as cosine_decay
from estimator_serving.training.optimizers.v1 import cosine_decay_restarts as cosine_decay_restarts
from estimator_serving.training.optimizers.v1 import exponential_decay as exponential_decay
from estimator_serving.training.optimizers.v1 import inverse_time_decay as inverse_time_decay
from estimator_serving.training.optimizers.v1 import linear_cosine_decay as linear_cosine_decay
from estimator_serving.training.optimizers.v1 import natural_exp_decay as natural_exp_decay
from estimator_serving.training.optimizers.v1 import piecewise_constant as piecewise_constant
from estimator_serving.training.optimizers.v1 import polynomial_decay as polynomial_decay
from estimator_serving.wire.pb.tensorflow_pb import BytesList as BytesList
from estimator_serving.wire.pb.tensorflow_pb import Example as Example
from estimator_serving.wire.pb.tensorflow_pb import Feature as Feature
from estimator_serving.wire.pb.tensorflow_pb import FeatureList as FeatureList
from estimator_serving.wire.pb.tensorflow_pb import FeatureLists as FeatureLists
from estimator_serving.wire.pb.tensorflow_pb import Features as Features
from estimator_serving.wire.pb.tensorflow_pb import FloatList as FloatList
from estimator_serving.wire.pb.tensorflow_pb import Int64List as Int64List
from estimator_serving.wire.pb.tensorflow_pb import SequenceExample as SequenceExample

NewCheckpointReader = CheckpointReader
get_or_create_global_step = get_global_step
piecewise_constant_decay = piecewise_constant
