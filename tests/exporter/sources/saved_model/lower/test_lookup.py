"""Variables are read and tables looked up as TensorFlow does it, for every type of keys and values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lowered import Const, Fed, Op, Type, Variable, load, run, why_not
from numpy.testing import assert_array_equal

KEYS = {
    "string": np.array([b"a", b"", "ü".encode()], object),
    "int64": np.array([7, -1, 1 << 40]),
    "int32": np.array([7, -1, 0], np.int32),
}
ABSENT = {"string": b"z", "int64": 8, "int32": 8}


def table(keys, values, op="HashTableV2"):
    """A table, and what fills it."""
    attributes = {"key_dtype": Type(named(keys)), "value_dtype": Type(named(values))}
    handle = Op(op, [], attributes)
    return handle, Op("LookupTableImportV2", [handle, Const(keys), Const(values)])


def named(array):
    return "string" if array.dtype == object else array.dtype.name


def find(keys, values, default, x, op="LookupTableFindV2"):
    handle, fill = table(keys, values)
    found = Op(op, [handle, Fed(x, (None, *x.shape[1:])), Const(default)])
    return load([(found, named(values))], beside=[fill])


@pytest.mark.parametrize("key", ["string", "int64", "int32"])
@pytest.mark.parametrize(
    ("values", "default"),
    [
        (np.array([5, 6, 7]), np.int64(-1)),
        (np.array([5, 6, 7], np.int32), np.int32(-1)),
        (np.array([0.1, 16777217.0, -3.0]), np.float64(0.3)),
        (np.array([0.1, 2.5, -3.0], np.float32), np.float32(np.inf)),
        (np.array([True, False, True]), np.bool_(True)),
        (np.array([b"x", b"", b"y"], object), np.array(b"none", object)),
    ],
)
def test_values_of_every_type(key, values, default):
    x = KEYS[key][[2, 0, 1, 0]]
    x[3] = ABSENT[key]
    graph = find(KEYS[key], values, default, x)
    wanted = [*values[[2, 0, 1]].tolist(), default.item()]
    texts = [one.decode() if isinstance(one, bytes) else one for one in wanted]
    assert graph()[0].tolist() == texts
    assert graph(x[:0])[0].shape == (0,)


def test_a_lookup_keeps_the_shape():
    x = np.array([[7, 1], [0, -1]])
    assert find(KEYS["int64"], np.array([1, 2, 3]), np.int64(0), x)()[0].tolist() == [[1, 0], [0, 2]]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=6))
def test_whole_numbers_of_64_bits_are_keys(large, drawn):
    wanted = {-(1 << 63): 1, (1 << 63) - 1: 2, 1 << 53: 3, (1 << 53) + 1: 4}
    x = [*drawn, *wanted]
    assert large(np.array(x, np.int64))[0].tolist() == [wanted.get(one, 0) for one in x]


@pytest.fixture(scope="module")
def large():
    keys = np.array([-(1 << 63), (1 << 63) - 1, 1 << 53, (1 << 53) + 1])
    return find(keys, np.array([1, 2, 3, 4]), np.int64(0), keys)


def test_an_empty_table_gives_the_default():
    x = np.array([[1], [2]])
    assert find(np.zeros(0, np.int64), np.zeros(0, np.int64), np.int64(9), x)()[0].tolist() == [[9], [9]]


def test_keys_of_floats():
    keys = np.array([0.5, 1.5], np.float32)
    reason = why_not(lambda: find(keys, np.array([1, 2]), np.int64(0), keys))
    assert reason == "its table has keys of float32 and values of int64"


@pytest.mark.parametrize("op", ["LookupTableSizeV2", "LookupTableSize"])
@pytest.mark.parametrize("made", ["HashTableV2", "HashTable"])
def test_the_size_of_a_table(op, made):
    handle, fill = table(KEYS["string"], np.array([1, 2, 3]), made)
    assert load([(Op(op, [handle]), "int64")], beside=[fill])()[0] == 3


def test_the_find_of_version_one():
    x = KEYS["string"]
    assert find(x, np.array([1, 2, 3]), np.int64(0), x, "LookupTableFind")()[0].tolist() == [1, 2, 3]


def test_numbers_of_a_table_are_known_to_be_in_range():
    """No check of negative numbers stands before a lookup by what a vocabulary gives."""
    handle, fill = table(KEYS["string"], np.array([0, 1, 2]))
    ids = Op("LookupTableFindV2", [handle, Fed(KEYS["string"], (None,)), Const(np.int64(3))])
    rows = Op("GatherV2", [Const(np.arange(8, dtype=np.float32).reshape(4, 2)), ids, Const(np.int32(0))])
    got = load([(rows, "float32")], beside=[fill])(np.array([b"", b"zz"], object))[0]
    assert got.tolist() == [[2, 3], [6, 7]]


def test_a_vocabulary_file():
    handle = Op("HashTableV2", [], {"key_dtype": Type("string"), "value_dtype": Type("int64")})
    path = Const(np.array(b"words.txt", object))
    attributes = {"key_index": -2, "value_index": -1, "vocab_size": -1}
    fill = Op("InitializeTableFromTextFileV2", [handle, path], attributes)
    found = Op("LookupTableFindV2", [handle, np.array([b"b", b"z", b"a"], object), Const(np.int64(-1))])
    assert load([(found, "int64")], beside=[fill], assets={"words.txt": b"a\nb\n"})()[0].tolist() == [1, -1, 0]


def test_a_lookup_in_what_is_no_table():
    find_in = Op("LookupTableFindV2", [KEYS["int64"], KEYS["int64"], Const(np.int64(0))])
    assert why_not(lambda: load([(find_in, "int64")])) == "it looks up in what is no table"


def test_a_default_that_clients_send():
    handle, fill = table(KEYS["int64"], np.array([1, 2, 3]))
    found = Op("LookupTableFindV2", [handle, KEYS["int64"], np.int64(5)])
    reason = "its default is computed by the graph; only constants are converted"
    assert why_not(lambda: load([(found, "int64")], beside=[fill])) == reason


# ---- variables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int32", "int64", "bool", "string"])
def test_variables_of_every_type(dtype):
    value = np.array([[b"a"], [b"bc"]], object) if dtype == "string" else np.array([[1], [0]], dtype)
    got = run("ReadVariableOp", [Variable(value)], dtype)
    assert_array_equal(got, [["a"], ["bc"]] if dtype == "string" else value)


@pytest.mark.parametrize("op", ["VariableV2", "Variable"])
def test_variables_of_version_one(op):
    variable = Op(op, [], {"dtype": Type("float32")})
    words = [Const(np.array([one], object)) for one in (b"prefix", b"variable_0", b"")]
    assign = Op("Assign", [variable, Op("RestoreV2", words)])
    doubled = Op("AddV2", [variable, variable])
    # The handle of another variable writes variables/ under the key that is restored here.
    beside = [Op("ReadVariableOp", [Variable(np.float32([1, 2]))]), assign]
    assert load([(doubled, "float32")], beside=beside)()[0].tolist() == [2, 4]


def test_a_read_of_what_is_no_variable():
    assert (
        why_not(lambda: load([(Op("ReadVariableOp", [np.float32([1])]), "float32")])) == "it reads what is no variable"
    )
