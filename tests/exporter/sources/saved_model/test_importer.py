"""SavedModels become servables: signatures, names, inputs; what is refused, and that nothing is written then."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import saved_graphs
from features import example
from saved_graphs import FLOAT, INT64, TEXT, add, call, constant, function, signature

from estimator_serving import ops
from estimator_serving.cli.main import main
from estimator_serving.exporter import SavedModelError, UnsupportedOps, import_saved_model
from estimator_serving.exporter.servable.weights import DETACHED_MIN_BYTES
from estimator_serving.exporter.sources.saved_model.importer import convert
from estimator_serving.exporter.sources.saved_model.reader import open_saved_model
from estimator_serving.wire import signatures
from estimator_serving.wire.examples import join_examples

CLASSIFY = "tensorflow/serving/classify"
X = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


@pytest.fixture
def meta_graph():
    """y = x + 1, z = 2 x; x is [batch, 2]."""
    made = saved_graphs.meta_graph()
    add(made, "x", "Placeholder", dtype=FLOAT)
    constant(made, "one", 1.0, np.float32)
    add(made, "y", "AddV2", "x one")
    add(made, "z", "AddV2", "x x")
    return made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "saved_model"


@pytest.fixture
def base(tmp_path):
    return tmp_path / "base"


def info(name, dtype=FLOAT, shape=(-1, 2)):
    return (name, dtype, shape)


def predict(meta_graph, key="serving_default", **outputs):
    """A signature that takes x; outputs are names of tensors by alias."""
    return signature(meta_graph, key, {"x": info("x:0")}, {alias: info(name) for alias, name in outputs.items()})


class Servable:
    """An imported servable."""

    def __init__(self, version):
        self.session = ops.session(Path(version) / "model.onnx")
        self.metadata = signatures.from_properties(self.session.get_modelmeta().custom_metadata_map)

    def answer(self, key="serving_default", **feeds):
        """Outputs by alias, for inputs by alias."""
        one = self.metadata.signatures[key]
        named = {one.inputs[alias].value_name: value for alias, value in feeds.items()}
        arrays = self.session.run([info.value_name for info in one.outputs.values()], named)
        return {alias: array.tolist() for alias, array in zip(one.outputs, arrays, strict=True)}


def imported(path, base, *meta_graphs, variables=None, assets=None, **options):
    saved_graphs.write(path, *meta_graphs, variables=variables, assets=assets)
    return Servable(import_saved_model(path, base, **options))


def refuse(path, base, meta_graph, match, error=SavedModelError, **options):
    saved_graphs.write(path, meta_graph)
    with pytest.raises(error, match=match):
        import_saved_model(path, base, **options)
    assert not base.exists() or not list(base.iterdir())


# ---- signatures -----------------------------------------------------------------------------------------------------


def test_a_signature_keeps_its_aliases_dtypes_shapes_and_method(path, base, meta_graph):
    signature(meta_graph, "serving_default", {"input": info("x:0")}, {"a": info("y:0"), "b": info("z:0")})
    servable = imported(path, base, meta_graph)
    assert servable.answer(input=X) == {"a": [[2.0, 3.0], [4.0, 5.0]], "b": [[2.0, 4.0], [6.0, 8.0]]}
    kept = signatures.signature_to_proto(servable.metadata.signatures["serving_default"])
    assert kept == meta_graph.signature_def["serving_default"]


def test_signatures_of_one_graph_share_its_inputs(path, base, meta_graph):
    predict(meta_graph, "first", y="y:0")
    predict(meta_graph, "second", y="y:0", z="z:0")
    servable = imported(path, base, meta_graph)
    assert [one.name for one in servable.session.get_inputs()] == ["x"]
    assert servable.answer("second", x=X)["z"] == (2 * X).tolist()


def test_only_the_signatures_that_were_asked_for(path, base, meta_graph):
    predict(meta_graph, "first", y="y:0")
    predict(meta_graph, "second", z="z:0")
    servable = imported(path, base, meta_graph, signatures=["second"])
    assert list(servable.metadata.signatures) == ["second"]
    assert [one.name for one in servable.session.get_outputs()] == ["z"]


def test_tensorflows_own_signatures_are_left_out(path, base, meta_graph):
    predict(meta_graph, y="y:0")
    signature(meta_graph, "__saved_model_init_op", {}, {"__saved_model_init_op": info("init:0")})
    signature(meta_graph, "train", {"x": info("x:0")}, {})
    assert list(imported(path, base, meta_graph).metadata.signatures) == ["serving_default"]


def test_no_signature_at_all(path, base, meta_graph):
    refuse(path, base, meta_graph, "The SavedModel has no signatures; export it with one, serving_default for example")


def test_a_signature_that_is_not_there(path, base, meta_graph):
    predict(meta_graph, "first", y="y:0")
    refuse(path, base, meta_graph, "has no signature 'other'; it has first", signatures=["first", "other"])


def test_the_graph_of_other_tags(path, base, meta_graph):
    other = saved_graphs.meta_graph("serve", "gpu")
    constant(other, "two", [2.0], np.float32)
    signature(other, "serving_default", {}, {"y": info("two:0", shape=(1,))})
    predict(meta_graph, y="y:0")
    assert imported(path, base, meta_graph, other, tags=["gpu", "serve"]).answer() == {"y": [2.0]}


def test_versions_below_a_name(path, base, meta_graph):
    predict(meta_graph, y="y:0")
    saved_graphs.write(path, meta_graph)
    version = Path(import_saved_model(path, base, name="model"))
    assert version.parent == base / "model"
    assert (version / "model.onnx").is_file()


# ---- names ----------------------------------------------------------------------------------------------------------


def test_an_output_that_is_an_input_gets_a_name_of_its_own(path, base, meta_graph):
    predict(meta_graph, same="x:0", y="y:0")
    servable = imported(path, base, meta_graph)
    assert servable.answer(x=X)["same"] == X.tolist()
    assert servable.metadata.signatures["serving_default"].outputs["same"].value_name == "serving_default/same"


def test_a_tensor_behind_other_fed_tensors_gets_a_name_of_its_own(path, base, meta_graph):
    """Signature `inner` feeds y itself, so that z of it is not the z of `whole`."""
    add(meta_graph, "w", "Mul", "y y")
    signature(meta_graph, "a", {"y": info("y:0")}, {"w": info("w:0")})
    predict(meta_graph, "b", w="w:0")
    servable = imported(path, base, meta_graph)
    assert servable.answer("a", y=X)["w"] == (X * X).tolist()
    assert servable.answer("b", x=X)["w"] == ((X + 1) * (X + 1)).tolist()


def test_a_tensor_may_be_an_output_here_and_an_input_there(path, base, meta_graph):
    add(meta_graph, "w", "Mul", "y y")
    predict(meta_graph, "a", y="y:0")
    signature(meta_graph, "b", {"y": info("y:0")}, {"w": info("w:0")})
    servable = imported(path, base, meta_graph)
    assert servable.answer("a", x=X)["y"] == (X + 1).tolist()
    assert servable.answer("b", y=X)["w"] == (X * X).tolist()


def test_a_new_name_that_is_taken_is_not_taken_again(path, base, meta_graph):
    """Signature b's alias `same` would be called b/same, as the tensor of signature a is."""
    add(meta_graph, "b/same", "AddV2", "x one")
    predict(meta_graph, "a", y="b/same:0")
    predict(meta_graph, "b", same="x:0")
    servable = imported(path, base, meta_graph)
    assert servable.answer("a", x=X)["y"] == (X + 1).tolist()
    assert servable.answer("b", x=X)["same"] == X.tolist()


def test_later_outputs_of_a_node_are_told_apart(path, base, meta_graph):
    add(meta_graph, "pair", "IdentityN", "y z")
    predict(meta_graph, first="pair:0", second="pair:1")
    assert imported(path, base, meta_graph).answer(x=X) == {"first": (X + 1).tolist(), "second": (2 * X).tolist()}


# ---- inputs ---------------------------------------------------------------------------------------------------------


def test_inputs_that_only_some_signatures_have_may_be_left_out(path, base, meta_graph):
    add(meta_graph, "text", "Placeholder", dtype=TEXT)
    add(meta_graph, "low", "StringLower", "text")
    predict(meta_graph, "numbers", y="y:0")
    signature(meta_graph, "texts", {"t": info("text:0", TEXT, (-1,))}, {"low": info("low:0", TEXT, (-1,))})
    servable = imported(path, base, meta_graph)
    assert servable.answer("texts", t=np.array(["A", "b"], object)) == {"low": ["a", "b"]}
    assert servable.answer("numbers", x=X) == {"y": (X + 1).tolist()}


def test_an_input_that_nothing_reads(path, base, meta_graph):
    add(meta_graph, "unused", "Placeholder", dtype=INT64)
    inputs = {"x": info("x:0"), "unused": info("unused:0", INT64, (-1,))}
    signature(meta_graph, "serving_default", inputs, {"y": info("y:0")})
    servable = imported(path, base, meta_graph)
    assert servable.answer(x=X, unused=np.array([1, 2])) == {"y": (X + 1).tolist()}


def test_classify_takes_examples_even_where_it_reads_nothing_of_them(path, base, meta_graph):
    add(meta_graph, "examples", "Placeholder", dtype=TEXT)
    constant(meta_graph, "scores", [[0.5, 0.25]], np.float32)
    inputs = {"inputs": info("examples:0", TEXT, (-1,))}
    signature(meta_graph, "serving_default", inputs, {"scores": info("scores:0")}, CLASSIFY)
    servable = imported(path, base, meta_graph)
    values, row_splits = join_examples([example(a=[1])])
    feeds = {"examples/values": values, "examples/row_splits": row_splits}
    assert servable.session.run(None, feeds)[0].tolist() == [[0.5, 0.25]]


def test_an_input_of_open_rank_is_refused(path, base, meta_graph):
    signature(meta_graph, "serving_default", {"x": info("x:0", shape=None)}, {"y": info("y:0")})
    refuse(path, base, meta_graph, "Placeholder .*not even its rank is known", UnsupportedOps)


def test_a_placeholder_that_nobody_feeds_is_refused(path, base, meta_graph):
    signature(meta_graph, "serving_default", {}, {"y": info("y:0")})
    refuse(path, base, meta_graph, "its value is none of the signature's inputs", UnsupportedOps)


def test_a_signature_of_a_sparse_tensor_is_refused(path, base, meta_graph):
    made = predict(meta_graph, y="y:0")
    made.inputs["x"].ClearField("name")
    made.inputs["x"].coo_sparse.values_tensor_name = "x:0"
    refuse(path, base, meta_graph, "a signature gives or takes a sparse tensor", UnsupportedOps)


def test_a_signature_of_another_dtype_than_the_graphs_is_refused(path, base, meta_graph):
    signature(meta_graph, "serving_default", {"x": info("x:0")}, {"y": info("y:0", INT64)})
    refuse(path, base, meta_graph, "it gives float32, and the signature says int64", UnsupportedOps)


def test_a_signature_of_a_resource_is_refused(path, base, meta_graph):
    predict(meta_graph, y="y:0").outputs["y"].dtype = 20
    refuse(path, base, meta_graph, "DataType 20 is not supported", UnsupportedOps)


@pytest.mark.parametrize("name", ["nowhere:0", "y:one", ""])
def test_a_signature_of_a_tensor_that_is_not_there(path, base, meta_graph, name):
    predict(meta_graph, y=name)
    refuse(path, base, meta_graph, "the file is damaged")


# ---- what is not converted ------------------------------------------------------------------------------------------


def test_every_op_behind_a_signature_is_named_at_once(path, base, meta_graph):
    add(meta_graph, "strange", "Mystery", "x")
    add(meta_graph, "stranger", "Abyss", "strange")
    predict(meta_graph, "bad", y="stranger:0")
    predict(meta_graph, "good", y="y:0")
    refuse(path, base, meta_graph, r"(?s)Abyss \(once, at stranger\).*Mystery.*--skip-unsupported", UnsupportedOps)


def test_the_other_signatures_are_imported_where_that_was_asked_for(path, base, meta_graph):
    add(meta_graph, "strange", "Mystery", "x")
    predict(meta_graph, "bad", y="strange:0")
    predict(meta_graph, "good", y="y:0")
    saved_graphs.write(path, meta_graph)
    skipped = convert(open_saved_model(path, ["serve"]), skip_unsupported=True).skipped
    assert {key: [one.op for one in refusals] for key, refusals in skipped.items()} == {"bad": ["Mystery"]}
    servable = Servable(import_saved_model(path, base, skip_unsupported=True))
    assert list(servable.metadata.signatures) == ["good"]


def test_the_command_leaves_out_what_it_is_told_to(path, base, meta_graph, capsys):
    add(meta_graph, "strange", "Mystery", "x")
    predict(meta_graph, "bad", y="strange:0")
    predict(meta_graph, "good", y="y:0")
    saved_graphs.write(path, meta_graph)
    assert main(["import", str(path), str(base)]) == 1
    assert "--skip-unsupported to import the others (good)" in capsys.readouterr().err
    assert main(["import", str(path), str(base), "--skip-unsupported"]) == 0
    assert Servable(capsys.readouterr().out.strip()).answer("good", x=X) == {"y": (X + 1).tolist()}


def test_nothing_is_imported_where_every_signature_is_blocked(path, base, meta_graph):
    add(meta_graph, "strange", "Mystery", "x")
    predict(meta_graph, y="strange:0")
    refuse(path, base, meta_graph, "No signature is left to import", UnsupportedOps, skip_unsupported=True)


def counting(meta_graph, where):
    """A variable that is counted up before the output of a call, in its body, or in a body that this calls."""
    add(meta_graph, "count", "VarHandleOp")
    body = function(meta_graph, "body", "a v", {"out": "same:output:0"})
    constant(body, "unit", 1.0, np.float32)
    if where == "inner":
        inner = function(meta_graph, "inner", "v unit", {"out": "unit"})
        add(inner, "up", "AssignAddVariableOp", "v unit")
        inner.control_ret["up"] = "up"
        add(body, "up", "StatefulPartitionedCall", "v unit:output:0", f=call("inner"))
    else:
        add(body, "up", "AssignAddVariableOp", "v unit:output:0")
    add(body, "same", "Identity", "a ^up" if where == "control" else "a")
    body.control_ret["up"] = "up"
    add(meta_graph, "call", "StatefulPartitionedCall", "y count", f=call("body"))
    predict(meta_graph, y="call:0")


@pytest.mark.parametrize("where", ["control", "effect", "inner"])
def test_a_variable_that_changes_while_a_request_is_answered(path, base, meta_graph, where):
    counting(meta_graph, where)
    refuse(path, base, meta_graph, "AssignAddVariableOp .*changes a variable or a table", UnsupportedOps)


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_variable_that_changes_in_a_branch(path, base, meta_graph, is_taken):
    """Batch normalization keeps its branch of training in the graph, and does not take it."""
    add(meta_graph, "count", "VarHandleOp")
    changing = function(meta_graph, "changing", "a v", {"out": "a"})
    constant(changing, "unit", 1.0, np.float32)
    add(changing, "up", "AssignAddVariableOp", "v unit:output:0")
    changing.control_ret["up"] = "up"
    function(meta_graph, "plain", "a v", {"out": "a"})
    constant(meta_graph, "training", is_taken)
    branches = {"then_branch": call("changing"), "else_branch": call("plain")}
    add(meta_graph, "choice", "If", "training y count", **branches)
    predict(meta_graph, y="choice:0")
    if is_taken:
        refuse(path, base, meta_graph, "AssignAddVariableOp .*changes a variable or a table", UnsupportedOps)
    else:
        assert imported(path, base, meta_graph).answer(x=X) == {"y": (X + 1).tolist()}


# ---- files ----------------------------------------------------------------------------------------------------------


def test_large_variables_lie_in_a_file_of_their_own(path, base, meta_graph):
    large = np.arange(DETACHED_MIN_BYTES // 2, dtype=np.float32).reshape(2, -1)
    add(meta_graph, "v", "VarHandleOp")
    add(meta_graph, "read", "ReadVariableOp", "v")
    add(meta_graph, "wide", "MatMul", "x read")
    saved_graphs.restore(meta_graph, {"v": "key"})
    width = large.shape[1]
    signature(meta_graph, "serving_default", {"x": info("x:0")}, {"y": info("wide:0", shape=(-1, width))})
    servable = imported(path, base, meta_graph, variables={"key": large})
    np.testing.assert_allclose(servable.answer(x=X)["y"], X @ large, rtol=1e-6)


def test_a_variable_that_a_function_captures(path, base, meta_graph):
    """As 2.x writes signatures: a function within a function reads the variable whose handle it is given."""
    add(meta_graph, "v", "VarHandleOp")
    inner = function(meta_graph, "inner", "a handle", {"out": "sum:z:0"})
    add(inner, "read", "ReadVariableOp", "handle", dtype=FLOAT)
    add(inner, "sum", "AddV2", "a read:value:0")
    outer = function(meta_graph, "outer", "a handle", {"out": "call:out:0"})
    add(outer, "call", "PartitionedCall", "a handle", f=call("inner"))
    add(meta_graph, "call", "StatefulPartitionedCall", "x v", f=call("outer"))
    saved_graphs.restore(meta_graph, {"v": "v/.ATTRIBUTES/VARIABLE_VALUE"})
    predict(meta_graph, y="call:0")
    variables = {"v/.ATTRIBUTES/VARIABLE_VALUE": np.array([10.0, 20.0], np.float32)}
    assert imported(path, base, meta_graph, variables=variables).answer(x=X) == {"y": [[11.0, 22.0], [13.0, 24.0]]}


def test_parts_of_a_variable_are_joined(path, base, meta_graph):
    for part in (0, 1):
        add(meta_graph, f"w/part_{part}", "VarHandleOp")
        add(meta_graph, f"read_{part}", "ReadVariableOp", f"w/part_{part}")
    constant(meta_graph, "axis", 0, np.int32)
    add(meta_graph, "w", "ConcatV2", "read_0 read_1 axis")
    add(meta_graph, "product", "MatMul", "x w")
    saved_graphs.restore(meta_graph, {"w/part_0": "w 2 2 0,1:-", "w/part_1": "w 2 2 1,1:-"})
    predict(meta_graph, y="product:0")
    variables = {"w": np.array([[1.0, 2.0], [10.0, 20.0]], np.float32)}
    assert imported(path, base, meta_graph, variables=variables).answer(x=X) == {"y": [[21.0, 42.0], [43.0, 86.0]]}


def test_variables_that_are_missing_write_nothing(path, base, meta_graph):
    add(meta_graph, "v", "VariableV2")
    add(meta_graph, "sum", "AddV2", "x v")
    predict(meta_graph, y="sum:0")
    refuse(path, base, meta_graph, "The variable v gets no value from variables/")


def test_tables_are_part_of_the_graph(path, base, meta_graph):
    add(meta_graph, "table", "HashTableV2", key_dtype=TEXT, value_dtype=INT64)
    constant(meta_graph, "file", b"", object)
    columns = {"key_index": -2, "value_index": -1, "vocab_size": -1, "delimiter": "\t"}
    add(meta_graph, "init", "InitializeTableFromTextFileV2", "table file", **columns)
    meta_graph.asset_file_def.add(filename="words.txt").tensor_info.name = "file:0"
    add(meta_graph, "words", "Placeholder", dtype=TEXT)
    constant(meta_graph, "missing", -1, np.int64)
    add(meta_graph, "ids", "LookupTableFindV2", "table words missing")
    signature(meta_graph, "serving_default", {"w": info("words:0", TEXT, (-1,))}, {"ids": info("ids:0", INT64, (-1,))})
    servable = imported(path, base, meta_graph, assets={"words.txt": "a\nü\n".encode()})
    assert servable.answer(w=np.array(["ü", "b", "a", ""], object)) == {"ids": [1, -1, 0, -1]}


def test_the_graph_is_one_that_onnx_accepts(path, base, meta_graph):
    predict(meta_graph, y="y:0", z="z:0")
    saved_graphs.write(path, meta_graph)
    model = onnx.load(Path(import_saved_model(path, base)) / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [one.name for one in model.graph.output] == ["y", "z"]


def test_what_onnx_runtime_cannot_run_is_refused(path, base, meta_graph):
    """Complex numbers have no kernels."""
    constant(meta_graph, "i", [1j], np.complex64)
    add(meta_graph, "sum", "AddV2", "i x")
    predict(meta_graph, y="sum:0")
    signature(meta_graph, "serving_default", {"x": info("x:0")}, {"y": info("sum:0", np.dtype(np.complex64))})
    refuse(path, base, meta_graph, "ONNX Runtime cannot run the converted graph .*; nothing was written")
