"""What lies beside the graph: proof, provenance, weights outside, assets; and the options that change it."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_estimators import ROWS, make_columns, train_steps
from torch import nn

from estimator_serving.exporter import (
    ExportOptions,
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    export_model,
)
from estimator_serving.exporter.receivers.receiver_graph import build_receiver_graph
from estimator_serving.ops import library_path
from estimator_serving.serving import load
from estimator_serving.serving.models.model_files import read_files
from estimator_serving.training import FixedLenFeature, feature_column
from estimator_serving.training.forward_features import forward_features
from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.onnx_model import read_model
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import read_records
from estimator_serving.wire.tensors import decode_tensor

SPEC = feature_column.make_parse_example_spec(make_columns())
RECEIVER_FN = build_parsing_serving_input_receiver_fn(SPEC)
X = build_parsing_serving_input_receiver_fn({"x": FixedLenFeature([4], float)})


def logs(path, name):
    return [serving_pb.PredictionLog.FromString(one) for one in read_records(f"{path}/assets.extra/{name}")]


@pytest.fixture(scope="module")
def path(trained, tmp_path_factory):
    return trained("dnn binary").export_saved_model(tmp_path_factory.mktemp("base"), RECEIVER_FN)


def test_the_proof_is_what_the_servable_answers(path):
    signatures = load(path).signatures
    asked, expected = logs(path, "tf_serving_warmup_requests"), logs(path, "expected_responses")
    assert len(asked) == len(expected) == 2 * len(signatures)
    for request, answered in zip(asked, expected, strict=True):
        kind = request.WhichOneof("log_type")
        assert not getattr(request, kind).HasField("response")
        assert getattr(request, kind).request == getattr(answered, kind).request
    (predict, *_) = (log.predict_log for log in expected if log.HasField("predict_log"))
    examples = decode_tensor(predict.request.inputs["examples"]).tolist()
    got = signatures["predict"](examples=examples)
    for alias, proto in predict.response.outputs.items():
        wanted = decode_tensor(proto)
        same = [one.encode() for one in got[alias].ravel()] if wanted.dtype == object else got[alias].ravel().tolist()
        assert same == wanted.ravel().tolist()
    (classify, *_) = (log.classify_log for log in expected if log.HasField("classify_log"))
    rows = list(classify.request.input.example_list.examples)
    scores = signatures["classification"](inputs=rows)["scores"]
    said = [[one.score for one in row.classes] for row in classify.response.result.classifications]
    np.testing.assert_array_equal(scores, np.float32(said))


def test_provenance_and_tolerance(trained, path):
    metadata = read_model(Path(path) / "model.onnx").metadata
    provenance = json.loads(metadata["provenance"])
    assert provenance["transform_sha256"] == trained("dnn binary").load().transform.sha256
    assert (provenance["global_step"], provenance["ops"]) == (3, ["Fingerprint64", "ParseExample"])
    assert {"torch", "onnx", "python", "estimator-serving"} <= set(provenance["versions"])
    data = provenance["training_data"]
    assert data["fingerprint"].startswith("sha256:")
    assert data["features"]["class"]["missing"] * 6 == data["rows"]
    assert data["features"]["age"]["quantiles"]["1.0"] == 60.0
    assert json.loads(metadata["parity_tolerance"])["CUDAExecutionProvider"] == 1e-2


@pytest.mark.usefixtures("traced_anew")
def test_the_same_data_has_the_same_fingerprint(tmp_path, path):
    again = train_steps("dnn binary", tmp_path / "model").export_saved_model(tmp_path / "base", RECEIVER_FN)
    for name in ("model.onnx", "assets.extra/expected_responses"):
        with open(f"{path}/{name}", "rb") as first, open(f"{again}/{name}", "rb") as second:
            assert first.read() == second.read(), name


def test_large_weights_lie_outside(tmp_path):
    model = nn.Sequential(nn.Linear(4, 9000), nn.ReLU(), nn.Linear(9000, 2))
    # A sum of 9000 products in another order.
    loose = {"CPUExecutionProvider": 1e-4}
    whole = export_model(model, tmp_path / "in", X, options=ExportOptions(parity_tolerance=loose))
    outside = export_model(
        model, tmp_path / "out", X, options=ExportOptions(external_data_min_bytes=100_000, parity_tolerance=loose)
    )
    files = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert "model.onnx.data" in files
    assert "model.onnx.data" not in {p.name for p in (tmp_path / "in").rglob("*")}
    described = read_model(next((tmp_path / "out").glob("*/model.onnx")))
    assert len(described.external) == 2
    assert {one.location for one in described.external} == {"model.onnx.data"}
    assert all(int(one.offset) % 4096 == 0 for one in described.external)
    read_files(Path(outside))
    rows = [{"x": [1.0, 2.0, 3.0, 4.0]}]
    first, second = (load(one).signatures["predict"](examples=rows)["output"] for one in (whole, outside))
    assert np.array_equal(first, second)
    onnx.load(f"{outside}/model.onnx")


def test_no_step_needs_all_weights_in_one_message(tmp_path, monkeypatch):
    """A message holds 2 GB; here, where shapes are inferred, 100 kB."""
    infer = onnx.shape_inference.infer_shapes

    def infer_small(model, *arguments, **options):
        assert model.ByteSize() < 100_000
        return infer(model, *arguments, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", infer_small)
    network = nn.Sequential(nn.Linear(4, 9000), nn.Linear(9000, 2))
    loose = {"CPUExecutionProvider": 1e-4}
    options = ExportOptions(external_data_min_bytes=100_000, parity_tolerance=loose)
    raw = build_raw_serving_input_receiver_fn({"x": np.zeros((1, 4), np.float32)})
    first = export_model(network, tmp_path / "torch", raw, options=options)
    again = export_model(f"{first}/model.onnx", tmp_path / "again", X, options=options)
    rows = np.float32([[1, 2, 3, 4]])
    expected = load(first).signatures["predict"](x=rows)["output"]
    got = load(again).signatures["predict"](examples=[{"x": rows[0]}])["output"]
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize("opset", [19, 20, 22])
def test_another_opset(tmp_path, opset):
    path = export_model(nn.Linear(4, 2), tmp_path, X, options=ExportOptions(opset=opset))
    assert read_model(next(tmp_path.glob("*/model.onnx"))).opsets[""] == opset
    assert load(path).signatures["predict"](examples=[{"x": [1.0] * 4}])["output"].shape == (1, 2)


def test_options_reach_the_files(tmp_path):
    options = ExportOptions(parity_tolerance={"CPUExecutionProvider": 1e-3}, warmup_requests=0)
    export_model(nn.Linear(4, 2), tmp_path, X, options=options)
    (file,) = tmp_path.glob("*/model.onnx")
    assert json.loads(read_model(file).metadata["parity_tolerance"])["CPUExecutionProvider"] == 1e-3
    assert [one.name for one in file.parent.iterdir()] == ["model.onnx"]


def test_an_own_warmup_file_stays(tmp_path):
    (tmp_path / "mine").write_text("mine")
    extra = {"tf_serving_warmup_requests": str(tmp_path / "mine"), "notes/a.txt": str(tmp_path / "mine")}
    export_model(nn.Linear(4, 2), tmp_path / "base", X, assets_extra=extra)
    (version,) = (tmp_path / "base").iterdir()
    assert (version / "assets.extra/tf_serving_warmup_requests").read_text() == "mine"
    assert (version / "assets.extra/notes/a.txt").read_text() == "mine"


def test_vocabulary_files_become_assets(trained, tmp_path):
    estimator = trained("dnn every column")
    spec = {key: FixedLenFeature([], value.dtype.name if value.dtype != object else str) for key, value in ROWS.items()}
    estimator.export_saved_model(tmp_path, build_parsing_serving_input_receiver_fn(spec))
    (version,) = tmp_path.iterdir()
    assert len(list((version / "assets").iterdir())) == 1


def test_forwarded_keys_come_back(trained, tmp_path):
    estimator = forward_features(trained("dnn binary"), ["age", "port"], {"port": "none"})
    signatures = load(estimator.export_saved_model(tmp_path, RECEIVER_FN)).signatures
    rows = [{"age": 22.0, "port": ["S", "Q"]}, {"age": 3.0}]
    got = signatures["predict"](examples=rows)
    assert got["age"].tolist() == [[22.0], [3.0]]
    assert got["port"].tolist() == [["S", "Q"], ["none", "none"]]
    assert set(signatures["serving_default"](inputs=rows)) == {"classes", "scores"}


@pytest.mark.parametrize("modes", [{}, {"serve": RECEIVER_FN}])
def test_no_mode_to_export(trained, tmp_path, modes):
    with pytest.raises(ValueError, match=r"No valid modes for exporting found\. Got dict_keys\("):
        trained("custom").experimental_export_all_saved_models(tmp_path, modes)


ROOT = Path(__file__).resolve().parents[2]


def test_the_program_of_the_documentation_runs(path, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/servables.md").read_text(), re.DOTALL)
    (program,) = (one for one in blocks if "register_custom_ops_library" in one)
    (tmp_path / "one.example").write_bytes(encode_example({"age": 22.0, "class": "3rd"}))
    (tmp_path / "model.onnx").symlink_to(Path(path) / "model.onnx")
    (tmp_path / "libestimator_ops.so").symlink_to(library_path())
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(program, names)
    assert names["outputs"][0].shape == (1, 2)


def test_the_receiver_of_the_documentation_is_one():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/servables.md").read_text(), re.DOTALL)
    (program,) = (one for one in blocks if "def serving_input_receiver_fn" in one)
    names: dict = {"spec": SPEC}
    exec(program, names)
    receiver = names["serving_input_receiver_fn"]()
    assert receiver.takes_examples
    assert set(build_receiver_graph(receiver).alternatives) == {"single"}
