"""Tables between words and ids; hashed ids are those of TensorFlow's golden vocabulary columns."""

import numpy as np
import pytest
import torch

from estimator_serving.training import lookup
from estimator_serving.training.model_fn import StringPrediction
from estimator_serving.training.nn.variables import VariableStore

WORDS = ["omar", "stringer", "marlo"]


def test_places_in_a_list():
    table = lookup.index_table_from_tensor(WORDS)
    assert table.lookup(np.array([["marlo", "x"], ["", "omar"]])).tolist() == [[2, -1], [-1, 0]]
    assert lookup.index_table_from_tensor(WORDS, default_value=7).lookup([b"x", b"omar"]).tolist() == [7, 0]


def test_words_out_of_the_vocabulary_are_hashed_as_tensorflow_does():
    table = lookup.index_table_from_tensor(WORDS, num_oov_buckets=100)
    assert table.lookup(["skywalker", "heisenberg", "marlo"]).tolist() == [33, 62, 2]
    assert table.size == 103
    assert lookup.index_table_from_tensor([30, 35, 11, 23, 22], num_oov_buckets=60).lookup([100]).tolist() == [20]


def test_lines_of_a_file(tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    table = lookup.index_table_from_file(tmp_path / "words.txt", vocab_size=2)
    assert table.lookup(["stringer", "marlo"]).tolist() == [1, -1]
    back = lookup.index_to_string_table_from_file(tmp_path / "words.txt")
    assert back.lookup(np.array([[2], [9]])).tolist() == [["marlo"], ["UNK"]]


def test_a_table_that_is_made_again_keeps_its_graph_until_the_file_changes(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("a\nb\n")
    first, again = (lookup.index_table_from_file(file, num_oov_buckets=1) for _ in range(2))
    assert again.transform is first.transform
    file.write_text("c\na\nb\n")
    assert lookup.index_table_from_file(file, num_oov_buckets=1).lookup(["a"]).tolist() == [1]


def test_inside_a_model_fn_ids_are_tensors_and_words_predictions():
    with VariableStore().activate(training=True):
        ids = lookup.index_table_from_tensor(WORDS).lookup(np.array(["marlo", "omar"], object))
    assert torch.equal(ids, torch.tensor([2, 0]))
    words = lookup.index_to_string_table_from_tensor(WORDS).lookup(torch.tensor([1, -1]))
    assert isinstance(words, StringPrediction)
    assert words.numpy().tolist() == [b"stringer", b"UNK"]


def test_a_hash_table_of_any_keys_and_values(tmp_path):
    pairs = lookup.KeyValueTensorInitializer(["a", "b"], np.float32([0.5, 2.0]))
    assert lookup.StaticHashTable(pairs, -1.0).lookup(np.array([["b"], ["c"]])).tolist() == [[2.0], [-1.0]]
    (tmp_path / "table.tsv").write_text("7\tseven\u2028\r\n8\teight\n", newline="")
    read = lookup.TextFileInitializer(tmp_path / "table.tsv", "int64", 0, "string", 1)
    assert lookup.StaticHashTable(read, "?").lookup([7, 8, 9]).tolist() == ["seven\u2028", "eight", "?"]


def test_a_vocabulary_table_takes_places_as_values():
    table = lookup.StaticVocabularyTable(lookup.KeyValueTensorInitializer(["b", "a"], [1, 0]), 1)
    assert table.lookup(["a", "b", "x"]).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="takes the ids 0, 1"):
        lookup.StaticVocabularyTable(lookup.KeyValueTensorInitializer(["a"], [5]), 1)
    with pytest.raises(ValueError, match="leave hasher_spec out"):
        lookup.index_table_from_tensor(WORDS, 1, hasher_spec="strong")
