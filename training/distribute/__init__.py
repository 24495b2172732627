"""More than one process: the place of this one in a cluster, and how the processes of one training work together.

The names of tf.distribute that a program passes to RunConfig stand here.
"""

from estimator_serving.training.distribute.strategies import (
    CentralStorageStrategy,
    MirroredStrategy,
    MultiWorkerMirroredStrategy,
    ParameterServerStrategy,
    experimental,
)

__all__ = [
    "CentralStorageStrategy",
    "MirroredStrategy",
    "MultiWorkerMirroredStrategy",
    "ParameterServerStrategy",
    "experimental",
]
