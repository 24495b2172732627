"""RNNClassifier and RNNEstimator: TF's names and numbers, training, and servables with any number of steps."""

import numpy as np
import pytest

from estimator_serving.exporter import build_parsing_serving_input_receiver_fn
from estimator_serving.training import Dataset, RegressionHead, RunConfig, feature_column, nn
from estimator_serving.training.experimental import RNNClassifier, RNNEstimator

WORDS = np.array([["a", "b", ""], ["c", "", ""], ["a", "a", "c"], ["", "", ""]])
X, LABELS = np.float32([[1.0], [2.0], [3.0], [4.0]]), np.array([0, 1, 2, 1])


def columns():
    ids = feature_column.sequence_categorical_column_with_vocabulary_list("w", ["a", "b", "c"])
    return [feature_column.embedding_column(ids, 2)], [feature_column.numeric_column("x")]


def rows(passes=1, labels=LABELS):
    return lambda: Dataset.from_tensor_slices(({"w": WORDS, "x": X}, labels)).repeat(passes).batch(4)


def classifier(directory, **arguments):
    given = {"units": [3, 2], "cell_type": "gru", "optimizer": "Adam", **arguments}
    return RNNClassifier(*columns(), n_classes=3, config=RunConfig(str(directory), tf_random_seed=2), **given)


NAMES = {
    "simple_rnn": {"bias": (4,), "kernel": (3, 4), "recurrent_kernel": (4, 4)},
    "lstm": {"bias": (16,), "kernel": (3, 16), "recurrent_kernel": (4, 16)},
    "gru": {"bias": (2, 12), "kernel": (3, 12), "recurrent_kernel": (4, 12)},
}


@pytest.mark.parametrize("cell", NAMES)
def test_variables_have_tensorflows_names_and_shapes(cell, tmp_path):
    estimator = classifier(tmp_path, units=[4], cell_type=cell).train(rows())
    prefix = f"rnn_model/rnn/{cell}_cell/"
    found = {name: estimator.get_variable_value(name).shape for name in estimator.get_variable_names()}
    assert {name.removeprefix(prefix): shape for name, shape in found.items() if name.startswith(prefix)} == NAMES[cell]
    assert found["sequence_features/w_embedding/embedding_weights"] == (3, 2)
    assert found["rnn_model/logits/kernel"] == (4, 3)


def test_layers_are_stacked_and_learn_the_order(tmp_path):
    estimator = classifier(tmp_path).train(rows(60))
    assert "rnn_model/rnn/stacked_rnn_cells/gru_cell_1/kernel" in estimator.get_variable_names()
    assert estimator.evaluate(rows())["accuracy"] == 1.0


def test_a_servable_takes_any_number_of_steps(tmp_path):
    estimator = classifier(tmp_path / "model", units=4, cell_type="lstm").train(rows())
    spec = feature_column.make_parse_example_spec([column for part in columns() for column in part])
    receiver_fn = build_parsing_serving_input_receiver_fn(spec)
    # The export compares the graph with the estimator on rows of different lengths, an empty one among them.
    assert estimator.export_saved_model(tmp_path / "servable", receiver_fn)


def test_a_head_and_cells_of_the_users_choice(tmp_path):
    def cells():
        return nn.rnn_cell.MultiRNNCell([nn.rnn_cell.BasicLSTMCell(3), nn.rnn_cell.BasicRNNCell(2)])

    estimator = RNNEstimator(RegressionHead(), *columns(), rnn_cell_fn=cells, model_dir=str(tmp_path))
    estimator.train(rows(2, X[:, 0]))
    assert "rnn_model/rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel" in estimator.get_variable_names()
    assert np.isfinite(estimator.evaluate(rows(1, X[:, 0]))["loss"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"return_sequences": True}, "return_sequences=True is not here"),
        ({"cell_type": "qrnn"}, "Supported strings are: .'simple_rnn', 'lstm', 'gru'"),
        ({"units": None}, "Give units"),
        ({"rnn_cell_fn": lambda: None}, "units and cell_type must not be specified when using rnn_cell_fn"),
    ],
)
def test_misuse(arguments, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        classifier(tmp_path, **arguments)
