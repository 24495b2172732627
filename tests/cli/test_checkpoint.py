"""`checkpoint show`: of a checkpoint that TensorFlow wrote."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from estimator_serving.cli import main

CHECKPOINTS = Path(__file__).parents[1] / "training" / "goldens" / "checkpoints"
PROGRAM = """
from estimator_serving.training import Dataset, Estimator, LinearClassifier, feature_column as fc, train

age = fc.numeric_column("age")
city = fc.categorical_column_with_vocabulary_list("city", ["aa", "bb", "cc"])
columns = [city, fc.bucketized_column(age, [0.0])]

def make():
    return LinearClassifier(columns, optimizer=train.FtrlOptimizer(0.1))

def make_adam():
    return LinearClassifier(columns, optimizer="Adam")

def make_other():
    return LinearClassifier([age])

def make_with_data():
    rows = {"age": [1.0, 2.0], "city": ["aa", "bb"]}
    return make(), lambda: Dataset.from_tensor_slices((rows, [0, 1])).batch(2)

def make_nothing():
    return 3
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A module of a name of its own in the working directory, as a user's program."""
    name = re.sub(r"\W", "_", tmp_path.name)
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


def said(capsys, *words, code=0):
    assert main(["checkpoint", "show", *map(str, words)]) == code
    return capsys.readouterr()


def test_names_dtypes_and_shapes(capsys):
    lines = said(capsys, CHECKPOINTS / "combined").out.splitlines()
    assert lines[0] == str(CHECKPOINTS / "combined" / "model.ckpt-30")
    assert "  dnn/hiddenlayer_0/kernel  float [3, 4]" in lines
    assert "  global_step  int64 []" in lines


def test_json(capsys):
    shown = json.loads(said(capsys, CHECKPOINTS / "combined" / "model.ckpt-30", "--json").out)
    assert shown["tensors"]["dnn/logits/bias"] == {"dtype": "float", "shape": [1]}


def test_an_estimator_that_goes_on(program, capsys):
    out = said(capsys, CHECKPOINTS / "v1_linear", f"--estimator={program}:make").out
    assert "The estimator takes (10)" in out
    weights = "linear/linear_model/city/weights"
    assert f"  {weights}/Ftrl_1  [3, 1]  as training/Ftrl/{weights}/linear\n" in out
    assert "lacks" not in out
    assert out.endswith("training can continue in its model_dir.\n")


def test_another_optimizer(program, capsys):
    out = said(capsys, CHECKPOINTS / "v1_linear", f"--estimator={program}:make_adam", code=1).out
    assert "The estimator asks for, and the checkpoint lacks (6)" in out
    assert "  training/Adam/linear/linear_model/city/weights/m  [3, 1]" in out
    assert "The optimizer" not in out
    assert out.endswith("because the checkpoint lacks slots of the estimator's optimizer.\n")


def test_another_model_as_json(program, capsys):
    words = (CHECKPOINTS / "v1_linear", f"--estimator={program}:make_other", "--json")
    shown = json.loads(said(capsys, *words, code=1).out)["estimator"]
    assert shown["takes"] == {"linear/linear_model/bias_weights": [1], "global_step": [], **slots("bias_weights")}
    assert "linear/linear_model/age/weights" in shown["lacks"]
    assert "linear/linear_model/city/weights" in shown["leaves"]


def slots(name):
    return {f"linear/linear_model/{name}/{slot}": [1] for slot in ("Ftrl", "Ftrl_1")}


def test_an_estimator_with_its_data(program, capsys):
    assert (
        "The estimator takes (10)"
        in said(capsys, CHECKPOINTS / "v1_linear", f"--estimator={program}:make_with_data").out
    )


@pytest.mark.parametrize(
    ("named", "text"),
    [
        ("make", "names no function. Write it as MODULE:FUNCTION"),
        ("nowhere_at_all:make", "No module named 'nowhere_at_all' .* Run the command in the directory of the module"),
        ("{}:missing", "has no function missing"),
        ("{}:make_nothing", "returned int. It must return an Estimator"),
    ],
)
def test_a_function_that_gives_no_estimator(named, text, program, capsys):
    words = (CHECKPOINTS / "combined", f"--estimator={named.format(program)}")
    assert re.search(text, said(capsys, *words, code=1).err)


def test_no_checkpoint(tmp_path, capsys):
    assert "Couldn't find 'checkpoint' file" in said(capsys, tmp_path, code=1).err


@pytest.mark.parametrize(
    ("file", "change", "text"),
    [
        ("data-00000-of-00001", lambda content: content[:-1], "The file was truncated"),
        ("data-00000-of-00001", lambda content: b"?" + content[1:], "the file has changed since"),
        ("data-00000-of-00001", None, "All 1 data files of the checkpoint are needed"),
        ("index", lambda content: content[:-1], "is not a whole index of a checkpoint"),
        ("index", lambda content: b"?" + content[1:], "the checksum of the block at byte 0 is wrong"),
    ],
)
def test_damaged_files(file, change, text, tmp_path, capsys):
    shutil.copytree(CHECKPOINTS / "v1_linear", tmp_path / "model")
    path = tmp_path / "model" / f"model.ckpt-30.{file}"
    content = path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(change(content))
    answer = said(capsys, tmp_path / "model", code=1)
    assert text in answer.err
    assert "Copy the checkpoint again" in answer.err
    assert answer.out == ""
