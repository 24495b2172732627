"""`show` and `run` on an exported estimator."""

import json
import subprocess
import sys

import numpy as np
import pytest
from small_estimators import make_columns, train_steps

from estimator_serving.cli import main
from estimator_serving.exporter import build_parsing_serving_input_receiver_fn, build_raw_serving_input_receiver_fn
from estimator_serving.serving import load
from estimator_serving.training import feature_column
from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.records import write_records

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
        (["--input_exprs", "__import__('os')"], "--input_exprs is no JSON"),
        (["--input_exprs", "[1]"], "--input_exprs takes a JSON object"),
        (["--input_examples", "{}"], "--input_examples takes a JSON list of objects"),
        (["--input_examples", "[]", "--input_tfrecord", "f"], "both give Examples"),
        (["--input_examples", '[{"age": "x"}]'], "age"),
        (["--input_tfrecord", "missing"], "missing"),
    ],
)
def test_what_run_refuses(base, capsys, words, text):
    assert text in refused(capsys, "run", base, *words)


def test_a_file_that_is_no_array(base, capsys, tmp_path):
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    error = refused(capsys, "run", base, "--inputs", f"inputs={tmp_path / 'pickle.npy'}")
    assert "is no .npy file of numbers or text" in error


@pytest.mark.parametrize("command", ["show", "run"])
def test_a_path_without_a_servable(command, capsys, tmp_path):
    assert "holds neither model.onnx nor a numbered directory" in refused(capsys, command, tmp_path)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_reader_that_leaves_is_no_error(base, flags):
    """As `| head` does; and the shell learns of it as of any program."""
    command = [sys.executable, "-m", "estimator_serving.cli", "show", base, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == ("", 141)
