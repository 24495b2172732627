"""Text that is not UTF-8: hashed, crossed and looked up by its bytes, as TensorFlow does, from every source."""

import numpy as np
import pytest

from estimator_serving import ops, training
from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.transform import build_transform
from estimator_serving.wire.examples import encode_example, join_examples
from estimator_serving.wire.records import write_records

WORDS = [b"caf\xe9", b"plain", "café".encode(), b"\xff\xfe", b""]
SPEC = {"word": training.FixedLenFeature([1], "string"), "words": training.VarLenFeature("string")}


def columns():
    word = fc.categorical_column_with_hash_bucket("word", 1000)
    known = fc.categorical_column_with_vocabulary_list("word", ["plain", "café"], num_oov_buckets=100)
    return [word, known, fc.crossed_column(["word", "word"], 1000)]


def examples():
    return [encode_example({"word": word, "words": [word, b"x"]}) for word in WORDS]


def from_records(tmp_path):
    path = tmp_path / "rows.tfrecord"
    write_records(path, examples())
    (batch,) = training.Dataset.from_tfrecord(str(path), SPEC).batch(8)
    return batch


def from_arrays(tmp_path):
    (batch,) = training.Dataset.from_tensor_slices({"word": np.array(WORDS, object)}).batch(8)
    return batch


def from_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"word,n\n" + b"".join(word + b",1\n" for word in WORDS))
    (batch,) = training.Dataset.from_csv(str(path)).batch(8)
    return batch


@pytest.mark.parametrize("source", [from_records, from_arrays, from_csv])
def test_ids_are_those_of_the_bytes(source, tmp_path):
    raw = source(tmp_path)
    assert [word.encode(errors="surrogateescape") for word in np.ravel(raw["word"]).tolist()] == WORDS
    ids = build_transform(columns())(raw)
    whole = build_transform(columns())({"word": np.array(WORDS)[:, None]})
    for name, values in whole.items():
        np.testing.assert_array_equal(ids[name], values, err_msg=name)


def test_a_sequence_of_any_bytes_is_read(tmp_path):
    batch = from_records(tmp_path)
    assert batch["words/values"][0].tolist() == ["caf\udce9", "x"]


def test_training_evaluation_and_prediction_take_them(tmp_path):
    def input_fn():
        return training.Dataset.from_tensor_slices(({"word": np.array(WORDS)}, np.int64([0, 1, 0, 1, 0]))).batch(5)

    made = training.LinearClassifier([columns()[1], columns()[2]], str(tmp_path)).train(input_fn)
    assert set(made.evaluate(input_fn)) > {"accuracy"}
    assert len(list(made.predict(input_fn))) == len(WORDS)


def test_the_served_graph_gives_the_same_ids(tmp_path):
    column = fc.categorical_column_with_hash_bucket("word", 1000)

    def input_fn():
        return training.Dataset.from_tensor_slices(({"word": np.array(WORDS)}, np.float32([1, 2, 3, 4, 5]))).batch(5)

    made = training.LinearRegressor([column], str(tmp_path / "model"), optimizer=training.optimizers.SGD(0.3))
    made.train(input_fn, steps=1)
    receiver_fn = training.export.build_parsing_serving_input_receiver_fn(fc.make_parse_example_spec([column]))
    path = made.export_saved_model(tmp_path / "out", receiver_fn)
    values, row_splits = join_examples(examples())
    session = ops.session(f"{path}/model.onnx")
    fed = {session.get_inputs()[0].name: values, session.get_inputs()[1].name: row_splits}
    served = session.run(None, fed)[0]
    own = [row["predictions"] for row in made.predict(input_fn)]
    np.testing.assert_allclose(np.ravel(served), np.ravel(own), rtol=1e-6)
