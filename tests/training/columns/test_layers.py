"""input_layer and linear_model: TF 2.15's numbers and variable names."""

import numpy as np
import pytest
import torch

from estimator_serving.training import feature_column as fc
from estimator_serving.training.checkpoints.checkpoint import write_checkpoint
from estimator_serving.training.columns.features import Features, TransformRecorder
from estimator_serving.training.nn.variables import VariableStore, variable_scope

TABLE = [[1.0, 2.0], [3.0, 5.0], [7.0, 11.0]]
NAMES = fc.categorical_column_with_vocabulary_list("name", ["omar", "stringer", "marlo"])
# r0 = {omar, marlo}, r1 = {stringer}, r2 = {}, r3 = {out of vocabulary}
ROWS = {"name": np.array([["omar", "marlo"], ["stringer", ""], ["", ""], ["skywalker", ""]], dtype=object)}


def table(shape, generator):
    return torch.tensor(TABLE)


def call(layer, raw, *args, store=None, **kwargs):
    with (store or VariableStore()).activate(training=True):
        return layer(Features(raw, TransformRecorder()), *args, **kwargs)


@pytest.mark.parametrize(
    ("combiner", "max_norm", "expected"),
    [
        ("mean", None, [[4, 6.5], [3, 5], [0, 0], [0, 0]]),
        ("sqrtn", None, [[5.65685, 9.19239], [3, 5], [0, 0], [0, 0]]),
        ("sum", None, [[8, 13], [3, 5], [0, 0], [0, 0]]),
        ("mean", 1.0, [[0.492045, 0.869044], [0.514496, 0.857493], [0, 0], [0, 0]]),
    ],
)
def test_embeddings(combiner, max_norm, expected):
    column = fc.embedding_column(NAMES, 2, combiner=combiner, initializer=table, max_norm=max_norm)
    found = call(fc.input_layer, ROWS, [column])
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)


def test_only_looked_up_rows_have_a_gradient():
    store = VariableStore()
    column = fc.embedding_column(NAMES, 2, combiner="sum", initializer=table)
    call(fc.input_layer, ROWS, [column], store=store)[:2, 0].sum().backward()
    gradient = store.trainable_variables["input_layer/name_embedding/embedding_weights"].grad
    assert gradient.to_dense().tolist() == [[1, 0], [1, 0], [1, 0]]
    assert gradient.is_sparse


def test_input_layer_is_sorted_by_name():
    raw = {"b": np.array([1.0, 2]), "B": np.array([[3.0], [4]]), "a": np.array(["y", "x"], dtype=object)}
    a = fc.indicator_column(fc.categorical_column_with_vocabulary_list("a", ["x", "y"]))
    found = call(fc.input_layer, raw, [fc.numeric_column("b"), a, fc.numeric_column("B")])
    assert found.dtype == torch.float32
    assert found.tolist() == [[3, 0, 1, 1], [4, 1, 0, 2]]


@pytest.mark.parametrize("rows", [0, 1])
def test_small_batches(rows):
    raw = {"name": ROWS["name"][:rows], "x": np.ones(rows)}
    columns = [fc.embedding_column(NAMES, 2), fc.numeric_column("x"), fc.indicator_column(NAMES)]
    assert call(fc.input_layer, raw, columns).shape == (rows, 6)
    assert call(fc.linear_model, raw, [*columns, NAMES], units=3).shape == (rows, 3)


def test_variables_have_tensorflows_names():
    store = VariableStore()
    column = fc.embedding_column(fc.categorical_column_with_hash_bucket("a:b", 3), 2)
    with store.activate(training=True):
        features = Features({"a:b": np.array(["x"], dtype=object), **ROWS}, TransformRecorder())
        fc.input_layer({"a:b": features["a:b"]}, [column])
        fc.input_layer({"a:b": features["a:b"]}, [column])
        fc.linear_model({"a:b": features["a:b"]}, [column], units=4)
    assert {name: tuple(value.shape) for name, value in store.trainable_variables.items()} == {
        "input_layer/a_b_embedding/embedding_weights": (3, 2),
        "input_layer_1/a_b_embedding/embedding_weights": (3, 2),
        "linear_model/a_b_embedding/embedding_weights": (3, 2),
        "linear_model/a_b_embedding/weights": (2, 4),
        "linear_model/bias_weights": (4,),
    }


def test_an_embedding_that_is_not_trained():
    store = VariableStore()
    call(fc.input_layer, ROWS, [fc.embedding_column(NAMES, 2, initializer=table, trainable=False)], store=store)
    assert not store.trainable_variables
    assert store.get("input_layer/name_embedding/embedding_weights").tolist() == TABLE


LINEAR_RAW = {"x": np.array([[1.0, 20.0], [15.0, 5.0]]), **{key: rows[:2] for key, rows in ROWS.items()}}
PAIR = fc.numeric_column("x", shape=2)


@pytest.mark.parametrize(
    ("column", "combiner", "weights", "expected"),
    [
        (PAIR, "sum", [[1.0], [10.0]], [201, 65]),
        (NAMES, "sum", [[1.0], [2.0], [4.0]], [5, 2]),
        (NAMES, "mean", [[1.0], [2.0], [4.0]], [2.5, 2]),
        (NAMES, "sqrtn", [[1.0], [2.0], [4.0]], [5 / 2**0.5, 2]),
        (fc.indicator_column(NAMES), "mean", [[1.0], [2.0], [4.0]], [5, 2]),
        # one id a dimension: x0 in bucket 0 | 1, x1 in bucket 2+1 | 2+0
        (fc.bucketized_column(PAIR, [10]), "sum", [[1.0], [2.0], [4.0], [8.0]], [9, 6]),
        (fc.bucketized_column(PAIR, [10]), "mean", [[1.0], [2.0], [4.0], [8.0]], [4.5, 3]),
    ],
)
def test_linear_model(column, combiner, weights, expected):
    store = VariableStore()
    assert call(fc.linear_model, LINEAR_RAW, [column], sparse_combiner=combiner, store=store).tolist() == [[0], [0]]
    with torch.no_grad():
        store.get(f"linear_model/{column.name}/weights").copy_(torch.tensor(weights))
        store.get("linear_model/bias_weights").fill_(100)
        found = call(fc.linear_model, LINEAR_RAW, [column], sparse_combiner=combiner, store=store)
    np.testing.assert_allclose(found[:, 0].numpy(), np.array(expected) + 100, rtol=1e-6)


def test_dense_columns_of_a_linear_model_add_up():
    """Each with its own weights, though one product takes them all."""
    columns = [fc.indicator_column(NAMES), NAMES, PAIR, fc.numeric_column("z")]
    raw = {**LINEAR_RAW, "z": np.array([0.5, -0.5])}
    weights = {"name_indicator": [[1, 2], [3, 4], [5, 6]], "x": [[1, 0], [0, 1]], "z": [[2, -4]], "name": [[0, 0]] * 3}
    store = VariableStore()
    call(fc.linear_model, raw, columns, units=2, store=store)
    with torch.no_grad():
        for name, values in weights.items():
            store.get(f"linear_model/{name}/weights").copy_(torch.tensor(values))
        found = call(fc.linear_model, raw, columns, units=2, store=store)
        indicator = call(fc.input_layer, raw, [columns[0]]) @ torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    np.testing.assert_allclose(found, indicator.numpy() + np.array([[2, 18], [14, 7]]), rtol=1e-6)


def test_one_text_hashed_into_two_numbers_of_buckets():
    small, large = (fc.categorical_column_with_hash_bucket("name", size) for size in (3, 50))
    found = call(fc.linear_model, ROWS, [small, fc.embedding_column(large, 2)])
    assert found.shape == (4, 1)


@pytest.mark.parametrize(
    ("layer", "columns", "kwargs", "text"),
    [
        (
            fc.input_layer,
            [NAMES],
            {},
            "Items of feature_columns must be a DenseColumn. You can wrap a categorical column with",
        ),
        (fc.input_layer, [], {}, "feature_columns must not be empty."),
        (fc.input_layer, [PAIR, PAIR], {}, "Duplicate feature column name found for columns"),
        (
            fc.linear_model,
            [NAMES],
            {"sparse_combiner": "max"},
            "combiner must be one of 'mean', 'sqrtn' or 'sum', got max",
        ),
        (fc.linear_model, [fc.numeric_column("y")], {}, "Feature y is not in features dictionary."),
    ],
)
def test_refusals(layer, columns, kwargs, text):
    with pytest.raises(ValueError, match=text):
        call(layer, ROWS, columns, **kwargs)


class Network(torch.nn.Module):
    def __init__(self, store, columns, recorder):
        super().__init__()
        self.store, self.columns, self.recorder = store, columns, recorder

    def forward(self, outputs):
        with self.store.activate(training=False):
            features = Features.traced(outputs, {}, self.recorder)
            return fc.input_layer(features, self.columns), fc.linear_model(features, [NAMES])


def test_layers_are_traced_for_any_batch_and_width():
    columns = [fc.embedding_column(NAMES, 2, initializer=table, max_norm=1.0), fc.indicator_column(NAMES)]
    store, recorder = VariableStore(), TransformRecorder()
    with torch.no_grad(), store.activate(training=False):
        features = Features(ROWS, recorder)
        expected = fc.input_layer(features, columns), fc.linear_model(features, [NAMES])
        outputs = features.transformed([*columns, NAMES])
        batch, width = torch.export.Dim("batch"), torch.export.Dim("width")
        shapes = {"name/ids": {0: batch, 1: width}, "name_indicator/dense": {0: batch}}
        network = Network(store, columns, recorder)
        program = torch.export.export(network, (outputs,), dynamic_shapes=(shapes,), strict=False)
    for found, want in zip(program.module()(outputs), expected, strict=True):
        torch.testing.assert_close(found, want)
    narrow = {"name/ids": torch.tensor([[2]]), "name_indicator/dense": torch.ones(1, 3)}
    assert program.module()(narrow)[0].shape == (1, 5)


@pytest.mark.parametrize("combiner", ["mean", "sqrtn", "sum"])
def test_width_does_not_matter(combiner):
    column = fc.embedding_column(NAMES, 2, combiner=combiner, initializer=table, max_norm=4.0)
    narrow = {"name": np.array(["marlo", "", "skywalker"], dtype=object)}
    wide = {"name": np.array([["marlo", ""], ["", ""], ["skywalker", ""]], dtype=object)}
    assert torch.equal(call(fc.input_layer, narrow, [column]), call(fc.input_layer, wide, [column]))


WEIGHTS = {"w": np.array([[2.0, 3.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], np.float32)}


@pytest.mark.parametrize(
    ("combiner", "safe", "expected"),
    [
        ("mean", True, [[4.6, 7.4], [0, 0], [0, 0], [0, 0]]),
        ("sqrtn", True, [[6.37905, 10.26195], [0, 0], [0, 0], [0, 0]]),
        ("sum", True, [[23, 37], [-3, -5], [0, 0], [0, 0]]),
        ("mean", False, [[4.6, 7.4], [3, 5], [0, 0], [0, 0]]),
    ],
)
def test_weighted_embeddings(combiner, safe, expected):
    weighted = fc.weighted_categorical_column(NAMES, "w")
    column = fc.embedding_column(weighted, 2, combiner=combiner, initializer=table, use_safe_embedding_lookup=safe)
    found = call(fc.input_layer, ROWS | WEIGHTS, [column])
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)


def test_an_id_with_a_weight_of_zero_has_no_gradient():
    raw = {"name/values": ROWS["name"][:2], "name/lengths": np.array([2, 1])}
    raw |= {"w/values": np.float32([[1, 0], [2, 0]]), "w/lengths": np.array([2, 1])}
    store = VariableStore()
    column = fc.embedding_column(fc.weighted_categorical_column(NAMES, "w"), 2, initializer=table)
    call(fc.input_layer, raw, [column], store=store).sum().backward()
    gradient = store.trainable_variables["input_layer/name_weighted_by_w_embedding/embedding_weights"].grad
    assert gradient.to_dense().tolist() == [[1, 1], [1, 1], [0, 0]]


OTHER = fc.categorical_column_with_vocabulary_list("other", ["omar", "stringer", "marlo"])


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (fc.shared_embeddings, ["name_other_shared_embedding"]),
        (fc.shared_embedding_columns, ["dnn/input_layer/name_other_shared_embedding/embedding_weights"]),
    ],
)
def test_shared_embeddings_have_one_table(make, names):
    store = VariableStore()
    columns = make([OTHER, NAMES], 2, initializer=table)
    assert [column.name for column in columns] == ["other_shared_embedding", "name_shared_embedding"]
    with store.activate(training=True), variable_scope("dnn"):
        features = Features(ROWS | {"other": ROWS["name"][::-1]}, TransformRecorder())
        found = fc.input_layer(features, columns)
    assert found.tolist() == [[4, 6.5, 0, 0], [3, 5, 0, 0], [0, 0, 3, 5], [0, 0, 4, 6.5]]
    assert list(store.trainable_variables) == names


def test_a_shared_table_can_be_named():
    store = VariableStore()
    columns = fc.shared_embeddings([NAMES, OTHER], 2, shared_embedding_collection_name="people", trainable=False)
    call(fc.input_layer, ROWS | {"other": ROWS["name"]}, columns, store=store)
    assert store.get("people").shape == (3, 2)
    assert not store.trainable_variables


def test_an_embedding_begins_with_a_checkpoints_table(tmp_path):
    write_checkpoint(str(tmp_path / "model.ckpt-1"), {"old/table": torch.tensor(TABLE)}, None, [])
    path = str(tmp_path / "model.ckpt-1")
    column = fc.embedding_column(NAMES, 2, ckpt_to_load_from=path, tensor_name_in_ckpt="old/table")
    assert call(fc.input_layer, ROWS, [column])[1].tolist() == [3, 5]
    absent = fc.embedding_column(NAMES, 2, ckpt_to_load_from=path, tensor_name_in_ckpt="table")
    with pytest.raises(ValueError, match=r"Tensor table is not found in .* which holds \['old/table'\]"):
        call(fc.input_layer, ROWS, [absent])
    wide = fc.embedding_column(NAMES, 3, ckpt_to_load_from=path, tensor_name_in_ckpt="old/table")
    with pytest.raises(ValueError, match=r"Shape of variable old/table .* is \(3, 2\) and the embedding has \(3, 3\)"):
        call(fc.input_layer, ROWS, [wide])


def test_a_sequence_is_categorical_for_a_linear_model():
    """TF 2.15 refuses it in embedding and indicator alone."""
    sequence = fc.sequence_categorical_column_with_vocabulary_list("name", ["omar", "stringer", "marlo"])
    assert call(fc.linear_model, ROWS, [sequence], units=2).shape == (4, 2)
    with pytest.raises(ValueError, match="In embedding_column: name_embedding. categorical_column must not be of type"):
        call(fc.linear_model, ROWS, [fc.embedding_column(sequence, 2)])
