"""The ported programs train, and as many lines of them differ from the originals as docs/how-to/migrate.md says."""

import importlib.util
import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
GUIDE = HERE.parents[1] / "docs/how-to/migrate.md"


def load(name):
    spec = importlib.util.spec_from_file_location(f"port_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compare, data = load("compare"), load("data")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    data.write_all(directory)
    return directory


@pytest.mark.parametrize("name", compare.PROGRAMS)
def test_the_guide_says_how_many_lines_changed(name):
    lines = len((HERE / f"originals/{name}.py").read_text().splitlines())
    removed, added = compare.changed_lines(name)
    assert re.search(rf"^\| `{name}`: .* \| {lines} \| {removed} \| {added} \|", GUIDE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "more", "least"),
    [
        ("wide_deep", ["--train_epochs", "2"], 0.8),
        ("census", ["--train-steps", "80"], 0.8),
        ("text_classification", ["--steps", "60"], 0.8),
        ("iris", [], 0.9),
        ("deepfm", ["--num_epochs", "2"], 0.7),
    ],
)
def test_a_port_trains(name, more, least, files, tmp_path):
    program = load(name)
    results = program.main([*compare.arguments(name, files, tmp_path), *more])
    assert results[compare.PROGRAMS[name]] > least


def test_the_census_trainers_servable_takes_one_tensor_for_each_column():
    receiver = load("census").json_serving_input_fn()
    assert {"age", "education"} <= receiver.receiver_tensors.keys()
