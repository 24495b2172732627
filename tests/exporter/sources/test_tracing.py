"""A trained model under torch.export: what the exporter does with TrainedModel."""

import io

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import layers

WORDS = ["a", "b", "c"]
ROWS = {
    "x": np.linspace(-2, 2, 12, dtype=np.float32),
    "c": np.array(["a", "b", "c", "a", "", "zz"] * 2, object),
}
LABELS = np.array([0, 1, 2] * 4)


def columns():
    category = fc.categorical_column_with_vocabulary_list("c", WORDS)
    return [fc.numeric_column("x"), fc.indicator_column(category), fc.embedding_column(category, 2)]


def custom_model_fn(features, labels, mode):
    net = fc.input_layer(features, columns())
    net = layers.dense(net, 4, torch.relu)
    net = layers.batch_normalization(net, training=mode == training.ModeKeys.TRAIN)
    net = training.module("gate", lambda: nn.Linear(4, 4))(net) * features["x"].reshape(-1, 1)
    head = training.MultiClassHead(3)
    logits = layers.dense(net, 3)
    return head.create_estimator_spec(features, mode, logits, labels, training.optimizers.Adam(0.01))


class Network(nn.Module):
    """Tensors in, the numeric predictions out."""

    def __init__(self, model, names, direct):
        super().__init__()
        self.store = model.store
        self.model = model
        self.names = names
        self.direct = direct

    def forward(self, *tensors):
        split = len(self.names)
        outputs = dict(zip(self.names, tensors[:split], strict=True))
        direct = dict(zip(self.direct, tensors[split:], strict=True))
        features = training.Features.traced(outputs, direct, self.model.recorder())
        predictions = self.model.call(features).predictions
        return predictions["logits"], predictions["probabilities"], predictions["classes"].ids


def input_fn():
    return training.Dataset.from_tensor_slices((ROWS, LABELS)).repeat(5).batch(4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_model_fn_with_a_module_exports_to_onnx_with_a_dynamic_batch(tmp_path):
    direct = ["x"]
    estimator = training.Estimator(custom_model_fn, tmp_path).train(input_fn)
    model = estimator.load()
    recorder = model.recorder()
    eager = model.call(training.Features(ROWS, recorder)).predictions
    assert recorder.read_keys == set(direct)

    names = list(model.transform.output_names)
    arrays = model.transform(ROWS)
    tensors = [torch.as_tensor(arrays[name]) for name in names] + [torch.from_numpy(ROWS[key]) for key in direct]
    batch = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        Network(model, names, direct).eval(),
        tuple(tensors),
        dynamo=True,
        dynamic_shapes=(tuple({0: batch} for _ in tensors),),
        verbose=False,
    )
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    for rows in (1, 7):
        feed = {i.name: t[:rows].numpy() for i, t in zip(session.get_inputs(), tensors, strict=True)}
        logits, probabilities, ids = session.run(None, feed)
        np.testing.assert_allclose(logits, eager["logits"][:rows], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(probabilities, eager["probabilities"][:rows], rtol=1e-5, atol=1e-6)
        assert (ids == eager["classes"].ids[:rows].numpy()).all()
