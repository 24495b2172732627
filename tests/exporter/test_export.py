"""Whole exports: every kind of estimator, run by plain onnxruntime, against estimator.predict; and what is refused."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from exports import assert_near, batch_of, rows_of, signature_table
from small_estimators import KINDS, ROWS, every_column, every_linear_column, make_estimator, sequence_columns

from estimator_serving import ops, training
from estimator_serving.exporter import ExportMismatch, build_parsing_serving_input_receiver_fn
from estimator_serving.exporter.export import name_assets
from estimator_serving.training import FixedLenFeature, VarLenFeature, feature_column
from estimator_serving.wire.examples import encode_example, join_examples
from estimator_serving.wire.signatures import from_properties

SPEC = feature_column.make_parse_example_spec([*every_column(), *every_linear_column(), *sequence_columns()])
RECEIVER_FN = build_parsing_serving_input_receiver_fn(SPEC)


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """A function from kind to the path of its model.onnx."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = trained(kind).export_saved_model(tmp_path_factory.mktemp("servable"), RECEIVER_FN)
        return f"{made[kind]}/model.onnx"

    return get


# What dense input drops and an Example leaves out.
BLANKS = {"deck": -1, "deck_weight": 0.0}


def example(row):
    values = {key: column.tolist()[row] for key, column in ROWS.items()}
    return encode_example({key: value for key, value in values.items() if value != BLANKS.get(key)})


EXAMPLES = [example(row) for row in range(6)]


def feeds(serialized):
    values, row_splits = join_examples(serialized)
    return {"input_example_tensor/values": values, "input_example_tensor/row_splits": row_splits}


def plain_session(path):
    """onnxruntime with the op library registered, and nothing else of this project."""
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(ops.library_path())
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_gives_what_predict_gives(trained, exported, kind):
    # In dense input '' is dropped; in an Example it is a value that no vocabulary knows. Both add nothing here.
    session = plain_session(exported(kind))
    signature = from_properties(session.get_modelmeta().custom_metadata_map).signatures
    outputs = signature.get("predict", signature["serving_default"]).outputs
    expected = batch_of(trained(kind), rows_of(1000))
    assert set(outputs) == set(expected)
    serialized = EXAMPLES * 167
    for rows in (0, 1, 6, 1000):
        names = [info.value_name for info in outputs.values()]
        for alias, got in zip(outputs, session.run(names, feeds(serialized[:rows])), strict=True):
            assert_near(got, expected[alias][:rows], alias)


@pytest.mark.parametrize("kind", KINDS)
def test_signatures_are_tensorflows(exported, kind):
    """As saved_model_cli shows them for TF 2.15's estimators."""
    signatures = from_properties(plain_session(exported(kind)).get_modelmeta().custom_metadata_map).signatures
    table = {}
    for key, signature in signatures.items():
        ((alias, info),) = signature.inputs.items()
        assert (info.name, info.dtype.name, info.shape) == ("input_example_tensor:0", "string", (-1,))
        table[key] = (signature.method_name.removeprefix("tensorflow/serving/"), alias, set(signature.outputs))
    assert table == {key: expected.of_examples for key, expected in signature_table(kind).items()}


@pytest.mark.parametrize(
    ("alias", "dtype", "shape"),
    [
        ("logits", "float", (-1, 1)),
        ("logistic", "float", (-1, 1)),
        ("probabilities", "float", (-1, 2)),
        ("class_ids", "int64", (-1, 1)),
        ("classes", "string", (-1, 1)),
        ("all_class_ids", "int32", (-1, 2)),
        ("all_classes", "string", (-1, 2)),
    ],
)
def test_predict_outputs_of_a_binary_head(exported, alias, dtype, shape):
    """Dtypes and shapes of TF 2.15's BinaryClassHead."""
    metadata = from_properties(plain_session(exported("dnn binary")).get_modelmeta().custom_metadata_map)
    info = metadata.signatures["predict"].outputs[alias]
    assert (info.dtype.name, info.shape) == (dtype, shape)
    assert metadata.feature_spec == SPEC


def test_classify_gives_every_class_in_order(exported):
    session = plain_session(exported("dnn multiclass"))
    signature = from_properties(session.get_modelmeta().custom_metadata_map).signatures["serving_default"]
    (classes,) = session.run([signature.outputs["classes"].value_name], feeds(EXAMPLES[:2]))
    assert classes.tolist() == [["no", "yes", "é"]] * 2


@pytest.mark.usefixtures("traced_anew")
def test_the_same_estimator_gives_the_same_bytes(trained, exported, tmp_path):
    again = trained("dnn binary").export_saved_model(tmp_path, RECEIVER_FN)
    with open(exported("dnn binary"), "rb") as first, open(f"{again}/model.onnx", "rb") as second:
        assert first.read() == second.read()


def test_the_file_names_no_source(exported):
    with open(exported("dnn binary"), "rb") as file:
        content = file.read()
    assert b".py" not in content
    assert b"/home" not in content
    assert __file__.rsplit("/", 3)[0].encode() not in content


def test_a_dense_string_feature_reads_like_a_varlen_one(trained, tmp_path):
    spec = {**SPEC, "class": FixedLenFeature([2], str, ["", ""]), "port": FixedLenFeature([], str)}
    path = trained("dnn binary").export_saved_model(tmp_path, build_parsing_serving_input_receiver_fn(spec))
    session = plain_session(f"{path}/model.onnx")
    one = {"age": 22.0, "fare": 7.25, "port": "S"}
    rows = [encode_example(one | {"class": words}) for words in (["3rd", ""], ["", "3rd"], ["", ""])]
    (logits,) = session.run(["logits"], feeds(rows))
    assert logits[0] == logits[1] != logits[2]


@pytest.mark.parametrize(
    "spec",
    [{"class": VarLenFeature(str)}, {"port": FixedLenFeature([], str, ""), "ignored": VarLenFeature(int)}],
    ids=["lists", "text"],
)
def test_a_baseline_takes_its_rows_from_any_feature(trained, tmp_path, spec):
    path = trained("baseline").export_saved_model(tmp_path, build_parsing_serving_input_receiver_fn(spec))
    session = plain_session(f"{path}/model.onnx")
    shapes = [session.run(["logits"], feeds([encode_example({})] * rows))[0].shape for rows in (0, 1, 5)]
    assert shapes == [(0, 3), (1, 3), (5, 3)]


def test_an_untrained_estimator_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Couldn't find trained model at .*Call train first"):
        make_estimator("dnn binary", tmp_path / "model").export_saved_model(tmp_path / "base", RECEIVER_FN)
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({k: v for k, v in SPEC.items() if k != "age"}, "Feature age is not in features dictionary"),
        ({**SPEC, "age": VarLenFeature(float)}, "numeric column 'age' needs a FixedLenFeature"),
        ({**SPEC, "age": FixedLenFeature([1], str)}, "numeric column 'age' needs numbers"),
        ({**SPEC, "class": VarLenFeature(int)}, "key: class, column dtype: string, receiver dtype: int64"),
    ],
)
def test_a_receiver_that_does_not_fit_is_refused(trained, tmp_path, spec, text):
    with pytest.raises(ValueError, match=text):
        trained("dnn binary").export_saved_model(tmp_path / "base", build_parsing_serving_input_receiver_fn(spec))
    assert not (tmp_path / "base").exists()


def test_no_receiver_is_refused(trained, tmp_path):
    with pytest.raises(ValueError, match=r"An input_receiver_fn must be defined\."):
        trained("dnn binary").export_saved_model(tmp_path / "base", None)


def test_a_feature_spec_is_no_receiver(trained, tmp_path):
    with pytest.raises(TypeError, match=r"got dict. Pass build_parsing_serving_input_receiver_fn\(feature_spec\)"):
        trained("dnn binary").export_saved_model(tmp_path / "base", SPEC)


@pytest.mark.usefixtures("traced_anew")
def test_a_mismatch_writes_nothing(trained, tmp_path, monkeypatch):
    """A network that remembers gives other numbers when it is traced than when it was asked."""
    calls = []
    from estimator_serving.exporter import network

    honest = network.Network.forward

    def forward(self, *inputs):
        calls.append(1)
        first, *rest = honest(self, *inputs)
        return (first + 1.0, *rest)

    monkeypatch.setattr(network.Network, "forward", forward)
    with pytest.raises(ExportMismatch, match="output 'predictions', at .*Nothing was written"):
        trained("linear poisson").export_saved_model(tmp_path / "base", RECEIVER_FN)
    assert calls
    assert not (tmp_path / "base").exists()


def test_the_parser_configuration_is_tensorflows_json(exported):
    properties = plain_session(exported("dnn binary")).get_modelmeta().custom_metadata_map
    features = json.loads(properties["example_parser_configuration"])["feature_map"]
    assert features["class"] == {"var_len_feature": {"dtype": "DT_STRING"}}
    assert features["fare"]["fixed_len_feature"]["default_value"]["float_val"] == [7.0]


@pytest.mark.usefixtures("traced_anew")
def test_an_export_logs_nothing_of_the_libraries_inside(trained, tmp_path, caplog):
    with caplog.at_level("INFO"):
        trained("baseline").export_saved_model(tmp_path, RECEIVER_FN)
    assert [record.name for record in caplog.records if not record.name.startswith("estimator_serving")] == []


def test_assets_of_one_name_get_two():
    named = name_assets(["/a/words.txt", "/b/words.txt", "/b/ports.txt"])
    assert [str(one) for one in named.values()] == ["/a/words.txt", "/b/words.txt", "/b/ports.txt"]
    assert list(named) == ["words.txt", "words_1.txt", "ports.txt"]


@pytest.mark.parametrize("mode", ["serve", "predict", None])
def test_a_mode_that_is_none_is_refused(trained, tmp_path, mode):
    """ModeKeys.PREDICT is "infer"."""
    with pytest.raises(ValueError, match=r"No valid modes for exporting found\. Got dict_keys\(.*Map ModeKeys"):
        trained("dnn binary").export_saved_model(tmp_path / "base", RECEIVER_FN, experimental_mode=mode)
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("is_named", [True, False])
def test_a_model_fn_may_ask_whether_features_are_a_dict(is_named, tmp_path):
    def model_fn(features, labels, mode):
        if isinstance(features, dict):
            features = features["x"]
        assert features.dtype == torch.float32
        net = training.layers.dense(features.reshape(-1, 2), 1)
        if mode == training.ModeKeys.PREDICT:
            return training.EstimatorSpec(mode, predictions={"y": net})
        loss = (net[:, 0] - labels).square().mean()
        return training.EstimatorSpec(mode, loss=loss, train_op=training.optimizers.SGD(0.1).minimize(loss))

    rows = np.ones((4, 2), np.float32)
    data = ({"x": rows} if is_named else rows), np.ones(4, np.float32)
    made = training.Estimator(model_fn, str(tmp_path / "model")).train(lambda: data, steps=1)
    spec = {"x": training.FixedLenFeature([2], "float32")}
    receiver_fn = training.export.build_parsing_serving_input_receiver_fn(spec)
    assert Path(made.export_saved_model(tmp_path / "out", receiver_fn)).is_dir()
