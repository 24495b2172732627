"""Variables by the keys that the graph restores them from, and tables by what fills them."""

import numpy as np
import pytest
import saved_graphs
from saved_graphs import FLOAT, INT64, TEXT, add, call, constant, function

from estimator_serving.exporter.sources.saved_model.errors import SavedModelError
from estimator_serving.exporter.sources.saved_model.graph import Graph, Ref
from estimator_serving.exporter.sources.saved_model.reader import SavedModel
from estimator_serving.exporter.sources.saved_model.resources import Resources
from estimator_serving.wire.tensor_bundle import TensorNotFoundError

WEIGHTS = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.fixture
def meta_graph():
    return saved_graphs.meta_graph()


@pytest.fixture
def resources(meta_graph, tmp_path):
    """A function that gives the resources of the graph beside these variables and assets."""

    def read(variables=None, **assets):
        saved_graphs.write(tmp_path / "saved_model", meta_graph, variables=variables, assets=assets)
        files = {name: tmp_path / "saved_model" / "assets" / name for name in assets}
        graph = Graph(meta_graph)
        return Resources(SavedModel(tmp_path / "saved_model", meta_graph, files), graph)

    return read


# ---- variables ------------------------------------------------------------------------------------------------------


def test_a_variable_is_what_its_restore_op_names(meta_graph, resources):
    add(meta_graph, "dense/kernel", "VarHandleOp")
    saved_graphs.restore(meta_graph, {"dense/kernel": "layer-1/kernel/.ATTRIBUTES/VARIABLE_VALUE"})
    found = resources({"layer-1/kernel/.ATTRIBUTES/VARIABLE_VALUE": WEIGHTS})
    assert found.variable("dense/kernel").tolist() == WEIGHTS.tolist()


def test_a_part_of_a_variable_is_its_slice(meta_graph, resources):
    for part in (0, 1):
        add(meta_graph, f"w/part_{part}", "VarHandleOp")
    saved_graphs.restore(meta_graph, {"w/part_0": "w 3 2 0,2:-", "w/part_1": "w 3 2 2,1:-"})
    found = resources({"w": WEIGHTS})
    assert found.variable("w/part_0").tolist() == [[0, 1], [2, 3]]
    assert found.variable("w/part_1").tolist() == [[4, 5]]


def test_a_restore_op_of_many_keys(meta_graph, resources):
    constant(meta_graph, "keys", [b"a", b"b"], object)
    constant(meta_graph, "slices", [b"", b""], object)
    add(meta_graph, "restored", "RestoreV2", "prefix keys slices")
    add(meta_graph, "identity", "Identity", "restored:1")
    add(meta_graph, "v", "VarHandleOp")
    add(meta_graph, "assign", "AssignVariableOp", "v identity")
    assert resources({"a": WEIGHTS, "b": WEIGHTS + 1}).variable("v").tolist() == (WEIGHTS + 1).tolist()


def test_a_variable_that_a_function_restores(meta_graph, resources):
    """As 2.x writes it: handles are captured by the function that restores them."""
    add(meta_graph, "v", "VarHandleOp")
    body = function(meta_graph, "traced_restore", "prefix handle", {"out": "prefix"})
    constant(body, "keys", [b"a"], object)
    constant(body, "slices", [b""], object)
    add(body, "restored", "RestoreV2", "prefix keys:output:0 slices:output:0")
    add(body, "identity", "Identity", "restored:tensors:0")
    add(body, "assign", "AssignVariableOp", "handle identity:output:0")
    constant(meta_graph, "prefix", b"", object)
    add(meta_graph, "call", "StatefulPartitionedCall", "prefix v", f=call("traced_restore"))
    assert resources({"a": WEIGHTS}).variable("v").tolist() == WEIGHTS.tolist()


def test_a_variable_that_is_only_initialized(meta_graph, resources):
    add(meta_graph, "v", "VarHandleOp")
    constant(meta_graph, "zeros", WEIGHTS)
    add(meta_graph, "assign", "AssignVariableOp", "v zeros")
    with pytest.raises(SavedModelError, match="The variable v gets no value from variables/; export the model again"):
        resources({"v": WEIGHTS}).variable("v")


def test_a_variable_whose_key_is_missing(meta_graph, resources):
    add(meta_graph, "v", "VarHandleOp")
    saved_graphs.restore(meta_graph, {"v": "other"})
    with pytest.raises(TensorNotFoundError, match="other"):
        resources({"v": WEIGHTS}).variable("v")


@pytest.mark.parametrize(
    ("keys", "slices", "output", "text"),
    [
        ([b"a"], [b""], 1, "restored names nothing to restore as tensor 1; the file is damaged"),
        ([b"a", b"b"], [b""], 1, "restored names nothing to restore as tensor 1"),
        ([b"\xff"], [b""], 0, "restored names nothing to restore as tensor 0"),
        ([b"a"], [1], 0, "restored names nothing to restore as tensor 0"),
    ],
    ids=["output", "slices", "UTF-8", "numbers"],
)
def test_a_restore_op_that_is_damaged(meta_graph, resources, keys, slices, output, text):
    constant(meta_graph, "keys", np.array(keys, object))
    constant(meta_graph, "slices", slices, object if isinstance(slices[0], bytes) else np.int64)
    add(meta_graph, "restored", "RestoreV2", "prefix keys slices")
    add(meta_graph, "assign", "AssignVariableOp", f"v restored:{output}")
    with pytest.raises(SavedModelError, match=text):
        resources()


def test_keys_that_are_computed(meta_graph, resources):
    constant(meta_graph, "slices", [b""], object)
    add(meta_graph, "keys", "StringJoin", "slices slices")
    add(meta_graph, "restored", "RestoreV2", "prefix keys slices")
    add(meta_graph, "assign", "AssignVariableOp", "v restored")
    with pytest.raises(SavedModelError, match="keys names what is restored and is no constant; the file is damaged"):
        resources()


# ---- origins --------------------------------------------------------------------------------------------------------


def test_the_origin_of_a_handle_is_behind_identities_and_calls(meta_graph, resources):
    add(meta_graph, "v", "VarHandleOp")
    add(meta_graph, "same", "Identity", "v")
    function(meta_graph, "f", "a", {"out": "a"})
    add(meta_graph, "call", "PartitionedCall", "same", f=call("f"))
    assert resources().origin(Ref("call", 0)) == Ref("v", 0)


def test_origins_that_go_round(meta_graph, resources):
    add(meta_graph, "a", "Identity", "b")
    add(meta_graph, "b", "Identity", "a")
    with pytest.raises(SavedModelError, match="The references at . go round in a circle; the file is damaged"):
        resources().origin(Ref("a", 0))


# ---- tables ---------------------------------------------------------------------------------------------------------


def lines(**columns):
    """The attributes of an op that fills a table from a file."""
    return {"key_index": -2, "value_index": -1, "vocab_size": -1, "delimiter": "\t"} | columns


@pytest.fixture
def from_file(meta_graph, resources):
    """A function that gives keys and values of a table that is filled from a file of this content."""

    def read(content, key_dtype=TEXT, value_dtype=INT64, **columns):
        add(meta_graph, "table", "HashTableV2", key_dtype=key_dtype, value_dtype=value_dtype)
        constant(meta_graph, "file", b"", object)
        add(meta_graph, "init", "InitializeTableFromTextFileV2", "table file", **lines(**columns))
        table = resources(file=content).table("table", None)
        return table.keys.tolist(), table.values.tolist()

    return read


# What TensorFlow's own tables hold for these files.
@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\rc\n d\te ", [b"a", b"b\rc", b" d\te "]),
        (b"gr\xc3\xbcn\n\xff\n", [b"gr\xc3\xbcn", b"\xff"]),
    ],
    ids=["lines", "no end", "white space", "bytes"],
)
def test_lines_of_a_file_and_their_numbers(from_file, content, keys):
    assert from_file(content) == (keys, list(range(len(keys))))


def test_line_numbers_as_keys_with_an_offset(from_file):
    found = from_file(b"a\nb", INT64, TEXT, key_index=-1, value_index=-2, offset=5)
    assert found == ([5, 6], [b"a", b"b"])


@pytest.mark.parametrize(
    ("content", "dtypes", "columns", "table"),
    [
        (b"k\t 3 \nl\t-1", (TEXT, INT64), {"key_index": 0, "value_index": 1}, ([b"k", b"l"], [3, -1])),
        (b"7,x\n8,y,z", (INT64, TEXT), {"key_index": 0, "value_index": 1, "delimiter": ","}, ([7, 8], [b"x", b"y"])),
        (b"k\t1e2\nj\tinf", (TEXT, FLOAT), {"key_index": 0, "value_index": 1}, ([b"k", b"j"], [100.0, np.inf])),
        (b"a\tb\nc", (TEXT, INT64), {"key_index": 0}, ([b"a", b"c"], [0, 1])),
        (b"k\t1\nk\t1\nl\t2", (TEXT, INT64), {"key_index": 0, "value_index": 1}, ([b"k", b"l"], [1, 2])),
    ],
    ids=["int64", "delimiter", "float", "ragged", "repeated"],
)
def test_columns_of_a_file(from_file, content, dtypes, columns, table):
    assert from_file(content, *dtypes, **columns) == table


def test_a_vocabulary_may_be_cut_short(from_file):
    assert from_file(b"a\nb\nc\n", vocab_size=2) == ([b"a", b"b"], [0, 1])


@pytest.mark.parametrize(
    ("content", "columns", "text"),
    [
        (b"a\n", {"vocab_size": 2}, "The vocabulary of table has 1 lines, and the graph reads 2; copy the whole file"),
        (b"a\nb\tc", {"key_index": 1}, "A line of the vocabulary of init has no column 1"),
        (b"k\tx1", {"key_index": 0, "value_index": 1}, "Column 1 of the vocabulary of init has b'x1', which is no int"),
        (b"k\t99999999999999999999", {"key_index": 0, "value_index": 1}, "which is no int64"),
        (b"k\t1\nk\t2", {"key_index": 0, "value_index": 1}, "The table table has two values for the key b'k'"),
    ],
    ids=["short", "column", "text", "large", "repeated"],
)
def test_a_file_that_does_not_fit(from_file, content, columns, text):
    with pytest.raises(SavedModelError, match=text):
        from_file(content, **columns)


def test_a_file_that_is_no_asset(meta_graph, resources):
    add(meta_graph, "table", "HashTableV2", key_dtype=TEXT, value_dtype=INT64)
    add(meta_graph, "init", "InitializeTableFromTextFileV2", "table elsewhere", **lines())
    with pytest.raises(SavedModelError, match="The vocabulary file of init is none of the SavedModel's assets"):
        resources().table("table", None)


@pytest.fixture
def from_constants(meta_graph, resources):
    """A function that gives the table filled with these keys and values."""

    def read(keys, values, op="LookupTableImportV2"):
        add(meta_graph, "table", "HashTableV2")
        add(meta_graph, "same", "Identity", "table")
        add(meta_graph, "init", op, "same keys values")
        given = {"keys": np.array(keys, object), "values": np.array(values)}
        return resources().table("table", lambda ref: given[ref.node])

    return read


@pytest.mark.parametrize("op", ["LookupTableImportV2", "LookupTableImport", "InitializeTableV2", "InitializeTable"])
def test_a_table_of_constants(from_constants, op):
    table = from_constants([[b"a"], [b"b"]], [[5], [6]], op)
    assert (table.keys.tolist(), table.values.tolist()) == ([b"a", b"b"], [5, 6])


def test_equal_entries_of_a_table_are_one(from_constants):
    table = from_constants([b"b", b"a", b"b"], [1, 2, 1])
    assert (table.keys.tolist(), table.values.tolist()) == ([b"b", b"a"], [1, 2])


@pytest.mark.parametrize(
    ("keys", "values", "text"),
    [
        ([b"a"], [1, 2], "The table table has 1 keys and 2 values"),
        ([b"a", b"a"], [1, 2], "The table table has two values for the key b'a'"),
    ],
)
def test_a_table_of_constants_that_do_not_fit(from_constants, keys, values, text):
    with pytest.raises(SavedModelError, match=text):
        from_constants(keys, values)


def test_a_table_that_nothing_fills(meta_graph, resources):
    add(meta_graph, "table", "HashTableV2")
    with pytest.raises(SavedModelError, match="Nothing in the graph fills the table table; export the model again"):
        resources().table("table", None)
