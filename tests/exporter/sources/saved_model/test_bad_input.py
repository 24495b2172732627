"""What cannot be imported: a sentence that says what is wrong and what to do, and nothing written."""

import shutil
import time
from contextlib import suppress

import numpy as np
import pytest
import saved_models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from estimator_serving import ops
from estimator_serving.cli.main import main
from estimator_serving.exporter import SavedModelError, UnsupportedOps, import_saved_model
from estimator_serving.exporter.sources.saved_model.graph import NODES_MAX, Graph
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.tensor_bundle import TensorBundleError

COMBINED = saved_models.GOLDENS / "tf215_combined_classifier" / "saved_model"
KERAS = saved_models.GOLDENS / "tf215_keras_functional_embedding" / "saved_model"


@pytest.fixture
def saved_model(tmp_path):
    return shutil.copytree(COMBINED, tmp_path / "saved_model")


@pytest.fixture
def base(tmp_path):
    return tmp_path / "base"


def read(directory):
    return tensorflow_pb.SavedModel.FromString((directory / "saved_model.pb").read_bytes())


def refuse(directory, base, error, match, **options):
    with pytest.raises(error, match=match):
        import_saved_model(directory, base, **options)
    assert not base.exists() or not list(base.iterdir())


def change(directory, edit):
    """Writes saved_model.pb again after `edit` changed its graph."""
    message = read(directory)
    edit(message.meta_graphs[0])
    (directory / "saved_model.pb").write_bytes(message.SerializeToString())


def test_no_directory(base, tmp_path):
    refuse(tmp_path / "nowhere", base, SavedModelError, "holds no saved_model.pb; give the directory of a SavedModel")


def test_a_directory_of_versions_names_the_newest(base, tmp_path):
    shutil.copytree(COMBINED, tmp_path / "models" / "17")
    refuse(tmp_path / "models", base, SavedModelError, r"It holds versions: give .*/models/17")


def test_a_cut_graph(saved_model, base):
    file = saved_model / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:-1000])
    refuse(saved_model, base, SavedModelError, "is not a SavedModel, or was cut")


def test_tags_that_are_not_there(saved_model, base):
    refuse(
        saved_model, base, SavedModelError, "no graph with the tags train; it has graphs with: serve", tags=["train"]
    )


def test_a_signature_that_is_not_there(saved_model, base):
    match = "no signature 'infer'; it has classification, predict, regression, serving_default"
    refuse(saved_model, base, SavedModelError, match, signatures=["infer"])


def test_a_schema_of_the_future(saved_model, base):
    message = read(saved_model)
    message.saved_model_schema_version = 2
    (saved_model / "saved_model.pb").write_bytes(message.SerializeToString())
    refuse(saved_model, base, SavedModelError, "has schema version 2")


def test_a_cut_shard(saved_model, base):
    file = saved_model / "variables" / "variables.data-00000-of-00001"
    file.write_bytes(file.read_bytes()[:100])
    refuse(saved_model, base, TensorBundleError, "variables.data-00000-of-00001")


def test_a_changed_shard(saved_model, base):
    file = saved_model / "variables" / "variables.data-00000-of-00001"
    content = bytearray(file.read_bytes())
    content[500] ^= 1
    file.write_bytes(bytes(content))
    refuse(saved_model, base, TensorBundleError, "checksum")


def test_no_variables(saved_model, base):
    shutil.rmtree(saved_model / "variables")
    refuse(saved_model, base, SavedModelError, "has no variables/variables.index")


def test_a_missing_asset(saved_model, base):
    (saved_model / "assets" / "vocab_city.txt").unlink()
    refuse(saved_model, base, SavedModelError, "asset .*vocab_city.txt is not there; copy the whole directory")


@pytest.mark.parametrize("name", ["../vocab_city.txt", "/etc/passwd", "..", "a/b", "a\\b", ""])
def test_an_asset_that_leaves_its_directory(saved_model, base, name):
    def edit(meta_graph):
        definitions = meta_graph.collection_def["saved_model_assets"].any_list.value
        for one in definitions:
            asset = tensorflow_pb.AssetFileDef.FromString(one.value)
            asset.filename = name
            one.value = asset.SerializeToString()

    change(saved_model, edit)
    refuse(saved_model, base, SavedModelError, "would lie outside assets/")


def test_functions_that_call_each_other(tmp_path, base):
    saved_model = shutil.copytree(KERAS, tmp_path / "keras")

    def edit(meta_graph):
        (call,) = (node for node in meta_graph.graph_def.node if node.name == "StatefulPartitionedCall")
        (body,) = (
            one for one in meta_graph.graph_def.library.function if one.signature.name == call.attr["f"].func.name
        )
        for node in body.node_def:
            if node.op == "StatefulPartitionedCall":
                node.attr["f"].func.name = body.signature.name

    change(saved_model, edit)
    refuse(saved_model, base, SavedModelError, "call each other without end")


def test_functions_that_double_each_other():
    meta_graph = tensorflow_pb.MetaGraphDef()
    for level in range(40):
        function = meta_graph.graph_def.library.function.add()
        function.signature.name = f"level{level}"
        for name in ("a", "b"):
            node = function.node_def.add(name=name, op="PartitionedCall" if level < 39 else "NoOp")
            node.attr["f"].func.name = f"level{level + 1}"
    call = meta_graph.graph_def.node.add(name="call", op="PartitionedCall")
    call.attr["f"].func.name = "level0"
    with pytest.raises(SavedModelError, match=f"more than {NODES_MAX} nodes once its functions are inlined"):
        Graph(meta_graph)


def chain(meta_graph, length):
    """A signature whose output is the input plus 1, `length` times."""
    graph = meta_graph.graph_def
    one = graph.node.add(name="one", op="Const")
    one.attr["value"].tensor.CopyFrom(tensorflow_pb.TensorProto(dtype=1, float_val=[1.0]))
    one.attr["value"].tensor.tensor_shape.SetInParent()
    graph.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    before = "x"
    for index in range(length):
        node = graph.node.add(name=f"add{index}", op="AddV2")
        node.input.extend([before, "one"])
        before = node.name
    signature = meta_graph.signature_def["long"]
    for name, infos, alias in (("x:0", signature.inputs, "x"), (f"{before}:0", signature.outputs, "y")):
        infos[alias].name, infos[alias].dtype = name, 1
        infos[alias].tensor_shape.dim.add(size=-1)
    signature.method_name = "tensorflow/serving/predict"


def test_a_graph_of_many_nodes_is_read_in_time(saved_model, base):
    change(saved_model, lambda meta_graph: chain(meta_graph, 10_000))
    started = time.monotonic()
    assert import_saved_model(saved_model, base, signatures=["long"])
    assert time.monotonic() - started < 60


def test_a_graph_of_too_many_nodes_is_refused_in_time(saved_model, base):
    change(saved_model, lambda meta_graph: chain(meta_graph, 100_000))
    started = time.monotonic()
    refuse(saved_model, base, SavedModelError, "computes more than 50000 nodes", signatures=["long"])
    assert time.monotonic() - started < 60


def test_a_constant_of_endless_size(saved_model, base):
    def edit(meta_graph):
        chain(meta_graph, 1)
        (one,) = (node for node in meta_graph.graph_def.node if node.name == "one")
        one.attr["value"].tensor.tensor_shape.dim.add(size=1 << 60)

    change(saved_model, edit)
    refuse(saved_model, base, SavedModelError, "no constant can have", signatures=["long"])


def test_a_fill_of_endless_size(saved_model, base):
    def edit(meta_graph):
        chain(meta_graph, 1)
        graph = meta_graph.graph_def
        shape = graph.node.add(name="shape", op="Const")
        shape.attr["value"].tensor.CopyFrom(tensorflow_pb.TensorProto(dtype=9, int64_val=[1 << 60]))
        shape.attr["value"].tensor.tensor_shape.dim.add(size=1)
        graph.node.add(name="fill", op="Fill").input.extend(["shape", "one"])
        (add,) = (node for node in graph.node if node.name == "add0")
        add.input[1] = "fill"

    change(saved_model, edit)
    refuse(
        saved_model,
        base,
        UnsupportedOps,
        r"Fill .*makes a tensor of shape \[1152921504606846976\]",
        signatures=["long"],
    )


def test_every_op_that_is_not_converted_is_named(saved_model, base):
    def edit(meta_graph):
        chain(meta_graph, 3)
        for node in meta_graph.graph_def.node:
            if node.name in ("add0", "add2"):
                node.op = "Mystery"

    change(saved_model, edit)
    refuse(saved_model, base, UnsupportedOps, r"Mystery \(2 times, first at add2\).*blocks long", signatures=["long"])
    version = import_saved_model(saved_model, base, skip_unsupported=True)
    assert saved_models.compare(COMBINED.parent, version).equal


def test_state_that_changes_while_a_request_is_answered(saved_model, base):
    def edit(meta_graph):
        chain(meta_graph, 1)
        count = meta_graph.graph_def.node.add(name="count", op="AssignAddVariableOp")
        count.input.extend(["global_step", "one"])
        (add,) = (node for node in meta_graph.graph_def.node if node.name == "add0")
        add.input.append("^count")

    change(saved_model, edit)
    refuse(saved_model, base, UnsupportedOps, "AssignAddVariableOp .*changes a variable", signatures=["long"])


def with_assertion(meta_graph, op):
    """The chain of one step, which waits for an assertion about what `op` makes of its input and 1."""
    chain(meta_graph, 1)
    nodes = meta_graph.graph_def.node
    text = nodes.add(name="text", op="Const").attr["value"].tensor
    text.CopyFrom(tensorflow_pb.TensorProto(dtype=7, string_val=[b"x is too large"]))
    text.tensor_shape.SetInParent()
    nodes.add(name="holds", op=op).input.extend(["x", "one"])
    nodes.add(name="check", op="Assert").input.extend(["holds", "text", "x"])
    (add,) = (node for node in nodes if node.name == "add0")
    add.input.append("^check")


def test_a_failed_assertion_refuses_the_request(saved_model, base):
    change(saved_model, lambda meta_graph: with_assertion(meta_graph, "LessEqual"))
    session = ops.session(f"{import_saved_model(saved_model, base, signatures=['long'])}/model.onnx")
    assert session.run(None, {"x": np.float32([0, 1])})[0].tolist() == [1, 2]
    with pytest.raises(Exception, match=r"assertion failed: \[x is too large\]"):
        session.run(None, {"x": np.float32([0, 2])})


def test_assertions_that_nothing_checks_are_told(saved_model, base, caplog):
    change(saved_model, lambda meta_graph: with_assertion(meta_graph, "Mystery"))
    assert import_saved_model(saved_model, base, signatures=["long"])
    assert "1 assertions of the graph are not checked (check first)" in caplog.text


def test_an_op_that_reads_what_it_never_gets_is_refused(saved_model, base):
    def edit(meta_graph):
        chain(meta_graph, 1)
        nodes = meta_graph.graph_def.node
        nodes.add(name="handle", op="VarHandleOp")
        nodes.add(name="text", op="AsString").input.append("handle")
        (add,) = (node for node in nodes if node.name == "add0")
        add.input[1] = "text"

    change(saved_model, edit)
    refuse(saved_model, base, UnsupportedOps, "AsString .*cannot be converted as it stands", signatures=["long"])


def test_the_command_says_it_and_ends_with_1(tmp_path, capsys):
    assert main(["import", str(tmp_path), str(tmp_path / "base")]) == 1
    assert "holds no saved_model.pb" in capsys.readouterr().err


def test_the_command_imports_one_signature_below_a_name(tmp_path, capsys):
    assert main(["import", str(COMBINED), str(tmp_path), "--signature", "predict", "--name", "titanic"]) == 0
    assert capsys.readouterr().out.startswith(str(tmp_path / "titanic"))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_refused_or_read(data, tmp_path_factory):
    """Any byte may differ: the import ends with a sentence, or gives a servable."""
    directory = shutil.copytree(KERAS, tmp_path_factory.mktemp("damaged") / "saved_model")
    file = data.draw(st.sampled_from(["saved_model.pb", "variables/variables.index"]))
    content = bytearray((directory / file).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (directory / file).write_bytes(bytes(content))
    with suppress(SavedModelError, TensorBundleError):
        assert import_saved_model(directory, directory.parent / "base")
