"""The recorded SavedModels: every signature gives TensorFlow's answers, under TensorFlow's names."""

import json
import shutil
from pathlib import Path

import pytest
import saved_models

from estimator_serving import ops
from estimator_serving.exporter import import_saved_model
from estimator_serving.wire import signatures
from estimator_serving.wire.pb import serving_pb, tensorflow_pb
from estimator_serving.wire.records import read_records

CASES = sorted(path.name for path in saved_models.GOLDENS.iterdir())


@pytest.mark.parametrize("name", CASES)
def test_every_signature_gives_tensorflows_answers(name, tmp_path):
    case = saved_models.GOLDENS / name
    compared = saved_models.compare(case, import_saved_model(case / "saved_model", tmp_path))
    assert compared.equal
    assert not compared.missing
    assert not compared.wrong


@pytest.mark.parametrize("name", CASES)
def test_signatures_keep_names_dtypes_shapes_and_methods(name, tmp_path):
    path = saved_models.GOLDENS / name / "saved_model"
    session = ops.session(f"{import_saved_model(path, tmp_path)}/model.onnx")
    imported = signatures.from_properties(session.get_modelmeta().custom_metadata_map).signatures
    (meta_graph,) = tensorflow_pb.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    wanted = {key: one for key, one in meta_graph.signature_def.items() if not key.startswith("__saved_model")}
    assert {key: signatures.signature_to_proto(one) for key, one in imported.items()} == {
        key: _without_defaults(one) for key, one in wanted.items()
    }


def _without_defaults(definition):
    kept = tensorflow_pb.SignatureDef(method_name=definition.method_name)
    for alias, info in definition.inputs.items():
        kept.inputs[alias].CopyFrom(info)
    for alias, info in definition.outputs.items():
        kept.outputs[alias].CopyFrom(info)
    return kept


def test_the_features_of_examples_are_known_to_servers(tmp_path):
    path = saved_models.GOLDENS / "tf215_combined_classifier" / "saved_model"
    session = ops.session(f"{import_saved_model(path, tmp_path)}/model.onnx")
    spec = signatures.from_properties(session.get_modelmeta().custom_metadata_map).feature_spec
    assert spec["age"].default_value == (30.0,)
    assert {"city", "cls", "tags"} <= spec.keys()


def test_extra_assets_come_along(tmp_path):
    directory = shutil.copytree(saved_models.GOLDENS / "tf215_multi_head" / "saved_model", tmp_path / "saved_model")
    (directory / "assets.extra" / "inner").mkdir(parents=True)
    (directory / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"requests")
    (directory / "assets.extra" / "inner" / "notes").write_bytes(b"notes")
    version = Path(import_saved_model(directory, tmp_path / "base"))
    assert (version / "assets.extra" / "tf_serving_warmup_requests").read_bytes() == b"requests"
    assert (version / "assets.extra" / "inner" / "notes").read_bytes() == b"notes"


def test_blank_rows_warm_up_where_there_is_nothing_else(tmp_path):
    path = saved_models.GOLDENS / "tf215_multi_head" / "saved_model"
    version = Path(import_saved_model(path, tmp_path / "base"))
    records = list(read_records(version / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [serving_pb.PredictionLog.FromString(record) for record in records]
    keys = {getattr(log, log.WhichOneof("log_type")).request.model_spec.signature_name for log in logs}
    session = ops.session(version / "model.onnx")
    assert keys == signatures.from_properties(session.get_modelmeta().custom_metadata_map).signatures.keys()
    assert not Path(import_saved_model(path, tmp_path / "bare", warmup=False), "assets.extra").exists()


def test_provenance_names_the_source(tmp_path):
    path = saved_models.GOLDENS / "tf115_linear_classifier" / "saved_model"
    session = ops.session(f"{import_saved_model(path, tmp_path)}/model.onnx")
    source = json.loads(session.get_modelmeta().custom_metadata_map["provenance"])["source"]
    assert source["format"] == "SavedModel"
    assert source["tensorflow"].startswith("1.15")
