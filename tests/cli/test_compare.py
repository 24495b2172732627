"""compare: two sides that agree, and every kind of difference."""

import json
import shutil

import numpy as np
import onnx
import pytest
from served import serve
from small_estimators import make_columns, train_steps

from estimator_serving.cli import generated_inputs, main
from estimator_serving.exporter import build_parsing_serving_input_receiver_fn
from estimator_serving.serving import load
from estimator_serving.training import feature_column
from estimator_serving.wire.records import read_records, write_records


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base path with one version of a small classifier."""
    path = tmp_path_factory.mktemp("compare")
    estimator = train_steps("dnn binary", path / "model")
    spec = feature_column.make_parse_example_spec(make_columns())
    estimator.export_saved_model(str(path / "base"), build_parsing_serving_input_receiver_fn(spec))
    return path / "base"


@pytest.fixture(scope="module")
def server(base):
    with serve(base) as served:
        yield f"grpc://{served.grpc}/m"


@pytest.fixture
def changed(base, tmp_path):
    """A copy of the servable whose first float weights are larger by 0.01."""
    shutil.copytree(base, tmp_path / "changed")
    (file,) = (tmp_path / "changed").glob("*/model.onnx")
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 0.01, tensor.name))
    onnx.save(model, file)
    return file.parent


def compare(left, right, *words):
    return main(["compare", "--left", str(left), "--right", str(right), *words])


def test_a_server_agrees_with_the_servable_it_serves(server, base, capsys):
    assert compare(server, base, "--generate", "60") == 0
    text = capsys.readouterr().out
    assert "predict: agrees, 60 rows" in text
    assert "DIFFERS" not in text


def test_two_servers_are_sent_recorded_examples(server, base, tmp_path, capsys):
    rows = generated_inputs.examples(load(base).feature_spec, [b"x"], 5)
    write_records(tmp_path / "rows.tfrecord", rows)
    assert compare(server, f"{server}", "--examples", str(tmp_path / "rows.tfrecord"), "--signature", "predict") == 0
    assert capsys.readouterr().out.startswith("predict: agrees, 5 rows")


def test_changed_weights_differ_in_scores(base, changed, capsys):
    assert compare(base, changed, "--generate", "20", "--json") == 1
    report = json.loads(capsys.readouterr().out)["signatures"]["predict"]
    logits = report["outputs"]["logits"]
    assert logits["differing"] > 0
    assert logits["largest"] > 1e-5
    _, left, right = logits["examples"][0]
    assert left != right


def test_the_tolerance_decides(base, changed, capsys):
    assert compare(base, changed, "--generate", "20", "--tolerance", "1e9", "--signature", "regression") == 0


def test_stored_answers_are_lefts_and_hold_when_the_version_loads(server, base, tmp_path, capsys):
    shutil.copytree(base, tmp_path / "copy")
    assert compare(server, tmp_path / "copy", "--generate", "20", "--store") == 0
    (version,) = (tmp_path / "copy").iterdir()
    stored = list(read_records(version / "assets.extra" / "expected_responses"))
    assert len(stored) == 4  # four signatures, one batch each
    with serve(tmp_path / "copy") as served:
        assert served.ask("/v1/models/m")[1]["model_version_status"][0]["state"] == "AVAILABLE"


def test_a_row_that_one_side_refuses_is_told_with_its_number(base, tmp_path, capsys):
    good = generated_inputs.examples(load(base).feature_spec, [], 2)[1]
    write_records(tmp_path / "rows.tfrecord", [good, b"\xff\xff", good])
    assert compare(base, base, "--examples", str(tmp_path / "rows.tfrecord"), "--signature", "predict") == 0
    assert "predict: agrees, 3 rows, 1 refused by both" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("left", "right", "words", "text"),
    [
        ("grpc://nowhere", "{base}", [], "is not the address of a model; write grpc://HOST:PORT/MODEL"),
        ("grpc://127.0.0.1:1/m", "{base}", ["--timeout_s", "2"], "does not answer: UNAVAILABLE"),
        ("{base}", "{base}", ["--signature", "no"], "There is no signature 'no' on both sides"),
        ("{base}", "{base}", ["--batch", "0"], "--batch and --generate take numbers above 0"),
        ("{server}", "{server}", [], "neither side says which features they carry"),
        ("{base}", "{server}", ["--store"], "--store writes into a servable"),
        ("{base}", "missing", [], "No versions of servable found"),
    ],
)
def test_what_compare_refuses(server, base, capsys, left, right, words, text):
    names = {"server": server, "base": base}
    assert compare(left.format(**names), right.format(**names), *words) == 1
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_generated_examples_hold_every_edge_and_repeat(base):
    spec = load(base).feature_spec
    rows = generated_inputs.examples(spec, [b"known"], 300)
    assert rows == generated_inputs.examples(spec, [b"known"], 300)
    assert len(rows) == 300
    assert any(b"known" in row for row in rows)
    assert any(b"\xff\xfe" in row for row in rows)
    assert any(np.float32(np.nan).tobytes() in row for row in rows)


def test_words_are_those_of_the_graphs_look_ups(base):
    (version,) = base.iterdir()
    assert {b"1st", b"2nd", b"3rd"} <= set(generated_inputs.words_of(version))
