"""`show` and `run` on an exported estimator."""

import base64
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_estimators import make_columns, train_steps

from estimator_serving.cli import main
from estimator_serving.exporter import build_parsing_serving_input_receiver_fn, build_raw_serving_input_receiver_fn
from estimator_serving.serving import load
from estimator_serving.training import feature_column
from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.features import (
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    RowSplits,
    SparseFeature,
    UniformRowLength,
)
from estimator_serving.wire.records import write_records
from estimator_serving.wire.signatures import Metadata, to_properties

ROW = {"age": 22.0, "class": "3rd", "port": "S"}


@pytest.fixture(scope="module")
def estimator(tmp_path_factory):
    return train_steps("linear binary", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def base(estimator, tmp_path_factory):
    spec = feature_column.make_parse_example_spec(make_columns())
    path = tmp_path_factory.mktemp("base")
    estimator.export_saved_model(path, build_parsing_serving_input_receiver_fn(spec))
    return path


@pytest.fixture(scope="module")
def raw(estimator, tmp_path_factory):
    path = tmp_path_factory.mktemp("raw")
    features = {"age": np.float32([0]), "class": np.array(["a"])}
    estimator.export_saved_model(path, build_raw_serving_input_receiver_fn(features))
    return path


def said(capsys, *words):
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out


def refused(capsys, *words):
    assert main([*map(str, words)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_show_says_it_in_words(base, capsys):
    text = said(capsys, "show", base)
    for part in (
        "serving_default  (tensorflow/serving/classify)",
        "in   inputs  string [?]",
        "out  scores  float [?, 2]",
        "age  float [1], required",
        "fare  float [1], default [7.0]",
        "class  string, any number of values",
        "operators of the op library: ParseExample",
        "transform_sha256",
        "3 distinct: 1st (",
    ):
        assert part in text, part


def test_show_for_programs(base, capsys):
    described = json.loads(said(capsys, "show", base, "--json"))
    assert described["signatures"]["predict"]["inputs"]["examples"]["shape"] == [-1]
    assert described["features"]["fare"] == {
        "kind": "FixedLenFeature",
        "dtype": "float",
        "shape": [1],
        "default": [7.0],
    }
    assert described["opsets"]["estimator.ops"] == 1
    assert described["provenance"]["training_data"]["features"]["age"]["mean"] > 0


KINDS = {
    "f": FixedLenFeature([2], str, ["é", b"\xff"]),
    "l": FixedLenSequenceFeature([2], float, allow_missing=True, default_value=-1.0),
    "r": RaggedFeature(int, "values", (RowSplits("splits"), UniformRowLength(2))),
    "s": SparseFeature(["i", "j"], "v", float, [10, 3]),
}


def write_identity(directory, metadata=()):
    """x [batch] -> y = x, without signatures unless `metadata` has them."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata))
    onnx.save(model, directory / "model.onnx")
    return directory


def test_show_says_what_each_kind_of_feature_is(capsys, tmp_path):
    write_identity(tmp_path, to_properties(Metadata({}, KINDS)))
    text = said(capsys, "show", tmp_path)
    for part in (
        'f  string [2], default ["é", "\\\\xff"]',
        "l  float [2], any number of steps, filled up with -1.0",
        "r  int64, any number of values under values, cut by RowSplits splits, UniformRowLength 2",
        "s  float, any number of values under v, at the indices under i (below 10) and j (below 3)",
    ):
        assert part in text, part
    features = json.loads(said(capsys, "show", tmp_path, "--json"))["features"]
    assert features["r"]["partitions"] == [
        {"kind": "RowSplits", "key": "splits"},
        {"kind": "UniformRowLength", "length": 2},
    ]
    assert features["s"]["size"] == [10, 3]


def test_show_says_what_a_model_without_signatures_is_asked(capsys, tmp_path):
    write_identity(tmp_path, {"provenance": "[1]"})
    text = said(capsys, "show", tmp_path)
    assert "serving_default  (tensorflow/serving/predict)\n    in   x  float [?]\n    out  y  float [?]" in text


def test_run_on_examples(base, capsys, tmp_path):
    answer = json.loads(said(capsys, "run", base, "--input_examples", json.dumps([ROW])))
    assert answer["classes"] == [["0", "1"]]
    expected = load(base).signatures["serving_default"](inputs=[ROW])["scores"]
    assert answer["scores"] == expected.tolist()
    write_records(tmp_path / "rows", [encode_example(ROW)] * 3)
    words = ("run", base, "--signature_def", "predict", "--input_tfrecord", tmp_path / "rows", "--outdir", tmp_path)
    assert "logits.npy" in said(capsys, *words)
    assert np.load(tmp_path / "logits.npy").shape == (3, 1)
    assert np.load(tmp_path / "classes.npy").shape == (3, 1)


def test_run_on_serialized_examples(base, capsys):
    serialized = {"b64": base64.b64encode(encode_example(ROW)).decode()}
    named = ROW | {"port": {"b64": "Uw=="}}
    answers = [
        json.loads(said(capsys, "run", base, *words))
        for words in (
            ("--input_examples", json.dumps([serialized, named])),
            ("--input_exprs", json.dumps({"inputs": [serialized, named]})),
        )
    ]
    assert answers[0] == answers[1]
    assert answers[0]["scores"][0] == answers[0]["scores"][1]


def test_run_on_an_array_of_several(capsys, tmp_path):
    write_identity(tmp_path)
    file = tmp_path / "arrays.npz"
    np.savez(file, a=np.float64([1, 2]), b=np.float64([3]))
    assert json.loads(said(capsys, "run", tmp_path, "--inputs", f"x={file}[b]")) == {"y": [3.0]}
    assert f"holds a, b; write {file}[a]" in refused(capsys, "run", tmp_path, "--inputs", f"x={file}")
    twice = ("--inputs", f"x={file}[b]", "--input_exprs", '{"x": [1]}')
    assert "The flags give x more than once" in refused(capsys, "run", tmp_path, *twice)
    assert "takes x and no Examples" in refused(capsys, "run", tmp_path, "--input_examples", '[{"x": 1}]')


def test_run_on_tensors(raw, capsys, tmp_path):
    np.save(tmp_path / "age.npy", np.float32([22, 38]))
    words = ("run", raw, "--inputs", f"age={tmp_path / 'age.npy'}", "--input_exprs", '{"class": ["3rd", "1st"]}')
    answer = json.loads(said(capsys, *words))
    assert len(answer["logits"]) == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--signature_def", "x"], "There is no signature 'x'; --signature_def takes classification, predict"),
        ([], "takes inputs; got nothing"),
        (["--inputs", "age"], "'age' is not NAME=FILE.npy"),
        (["--input_exprs", "__import__('os')"], "--input_exprs is not JSON"),
        (["--input_exprs", "[1]"], "--input_exprs takes a JSON object"),
        (["--input_examples", "{}"], "--input_examples takes a JSON list of objects"),
        (["--input_examples", "[]", "--input_tfrecord", "f"], "both give Examples"),
        (["--input_examples", '[{"age": "x"}]'], "age"),
        (["--input_examples", '[{"b64": "?"}]'], "--input_examples: Unable to base64 decode"),
        (["--input_tfrecord", "missing"], "missing"),
        (["--inputs", "inputs=/"], "Is a directory"),
        (["--input_examples", "[]", "--outdir", "/dev/null"], "/dev/null"),
    ],
)
def test_what_run_refuses(base, capsys, words, text):
    assert text in refused(capsys, "run", base, *words)


def test_a_file_that_is_no_array(base, capsys, tmp_path):
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    error = refused(capsys, "run", base, "--inputs", f"inputs={tmp_path / 'pickle.npy'}")
    assert "is not a .npy file of numbers or text" in error
    for content in (b"", b"PK\x03\x04"):
        (tmp_path / "cut.npy").write_bytes(content)
        error = refused(capsys, "run", base, "--inputs", f"inputs={tmp_path / 'cut.npy'}")
        assert "is not a .npy file of numbers or text" in error


@pytest.mark.parametrize("command", ["show", "run"])
def test_a_path_without_a_servable(command, capsys, tmp_path):
    assert "holds neither model.onnx nor a numbered directory" in refused(capsys, command, tmp_path)


@pytest.mark.parametrize(
    "words", [["show"], ["run"], ["tune"], ["compare", "--right", "none", "--left"]], ids=lambda words: words[0]
)
def test_a_saved_model_is_refused_with_the_command_that_converts_it(words, capsys, tmp_path):
    (tmp_path / "9").mkdir()
    (tmp_path / "10").mkdir()
    (tmp_path / "10" / "saved_model.pb").touch()
    for path in (tmp_path, tmp_path / "10"):
        error = refused(capsys, *words, path)
        assert f"{tmp_path / '10'} holds a SavedModel of TensorFlow and no model.onnx" in error
        assert f"path instead: estimator-serving import {tmp_path / '10'} {tmp_path}-onnx" in error


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_reader_that_leaves_is_no_error(base, flags):
    """As `| head` does; and the shell learns of it as of any program."""
    command = [sys.executable, "-m", "estimator_serving.cli", "show", base, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == ("", 141)
