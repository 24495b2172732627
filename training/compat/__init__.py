"""tf.compat: `from estimator_serving.training.compat import v1 as tf` for `import tensorflow.compat.v1 as tf`."""

from estimator_serving.training.compat import v1 as v1
