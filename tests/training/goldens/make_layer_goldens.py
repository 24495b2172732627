"""What tf.compat.v1.layers gives for the networks of tests/support/layer_cases.py.

    python tests/training/goldens/make_layer_goldens.py [directory]      in an environment with tensorflow 2.15

Writes layers.json into the directory (by default beside this file): per case the variables' names and shapes, and in
training and outside it the outputs, the gradients of half their squares' sum, the regularization loss, and the moving
values after the update. Weights and inputs are layer_cases.fixed_value's on both sides.
"""

import json
import os
import sys
import types
import warnings
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "support"))
warnings.filterwarnings("ignore")


def main():
    import tensorflow as tf
    from layer_cases import CASES, fixed_value

    v1 = tf.compat.v1
    v1.disable_eager_execution()
    v1.disable_control_flow_v2()  # else there are no gradients through dynamic_rnn
    regularizers = tf.keras.regularizers
    other = types.SimpleNamespace(
        relu=tf.nn.relu,
        tanh=tf.nn.tanh,
        concat=lambda parts: tf.concat(parts, -1),
        variable_scope=v1.variable_scope,
        auto_reuse=v1.AUTO_REUSE,
        l1=regularizers.l1,
        l2=regularizers.l2,
        l1_l2=regularizers.l1_l2,
        rnn_cell=v1.nn.rnn_cell,
        dynamic_rnn=v1.nn.dynamic_rnn,
        bidirectional_dynamic_rnn=v1.nn.bidirectional_dynamic_rnn,
        integers=tf.constant,
        float32=tf.float32,
    )

    def run(case, shape, training):
        with tf.Graph().as_default(), v1.Session() as session:
            x = tf.constant(fixed_value("inputs", shape))
            y = case(v1.layers, x, training, other)
            variables = v1.global_variables()
            for variable in variables:
                session.run(variable.assign(fixed_value(variable.op.name, variable.shape)))
            trained = v1.trainable_variables()
            loss = tf.reduce_sum(y * y) / 2
            gradients = dict(zip([v.op.name for v in trained], tf.gradients(loss, trained), strict=True))
            outputs, regularization, gradients = session.run((y, v1.losses.get_regularization_loss(), gradients))
            if training:
                session.run(v1.get_collection(v1.GraphKeys.UPDATE_OPS))
            moving = {v.op.name: session.run(v).tolist() for v in variables if v not in trained}
            return {
                "variables": {v.op.name: v.shape.as_list() for v in variables},
                "outputs": outputs.tolist(),
                "regularization": float(regularization),
                "gradients": {name: value.tolist() for name, value in gradients.items()},
                "moving": moving,
            }

    goldens = {
        f"{name}/{'training' if training else 'inference'}": run(case, shape, training)
        for name, (case, shape) in CASES.items()
        for training in (True, False)
    }
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    (directory / "layers.json").write_text(json.dumps(goldens))


if __name__ == "__main__":
    main()
