"""What the documents say is there: links, make targets, the README's program."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_exist(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"`make ([a-z-]+)|^ {4}make ([a-z-]+)", document.read_text(), re.MULTILINE)
    assert {one or other for one, other in named} <= targets


def test_the_readmes_program_runs(tmp_path, monkeypatch, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(program.replace("steps=1000", "steps=5").replace("build/readme", str(tmp_path)), {})
    assert (Path(capsys.readouterr().out.strip()) / "model.onnx").exists()


def test_the_migration_guides_model_fn_trains(tmp_path, monkeypatch):
    program, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/migrate.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(program, names)
    assert names["estimator"].evaluate(names["input_fn"], steps=10)["accuracy"] > 0.9
    assert json.loads((tmp_path / "model/eval/last_evaluation.json").read_text())["targets"][0]["kind"] == "classes"


def test_the_migration_guides_model_goes_on_from_tensorflows(tmp_path, monkeypatch):
    from estimator_serving import training

    *_, program = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/migrate.md").read_text(), re.DOTALL)
    shutil.copytree(ROOT / "tests/training/goldens/checkpoints/combined", tmp_path / "tf_model_dir")
    monkeypatch.chdir(tmp_path)
    batch = ({"age": [0.5, 1.0], "city": ["aa", "dd"]}, [0, 1])
    names = {"training": training, "feature_column": training.feature_column}
    names["input_fn"] = lambda: training.Dataset.from_tensor_slices(batch).repeat().batch(2)
    exec(program.replace("steps=1000", "steps=5"), names)
    assert training.load_variable("tf_model_dir", "global_step") == 35


def test_no_path_of_this_checkout():
    """Nothing that is committed names the directory it was written in."""
    here = f"{ROOT}/"
    if len(ROOT.parts) < 3:
        pytest.skip("a path as short as this one's may stand in a file by chance")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    texts = [name for name in files if (ROOT / name).is_file()]
    assert [name for name in texts if here.encode() in (ROOT / name).read_bytes()] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_is_in_the_navigation(page):
    assert f": {page.relative_to(ROOT / 'docs')}" in (ROOT / "mkdocs.yml").read_text() or page.name == "README.md"


@pytest.mark.parametrize("page", ["migrate", "open-inference", "search-hyperparameters", "train-on-a-cluster"])
def test_the_programs_of_a_page_lack_no_name(page):
    """Neither an import nor data: what one block uses, it has or a block above it."""
    programs = re.findall(r"```python\n(.*?)```", (ROOT / f"docs/how-to/{page}.md").read_text(), re.DOTALL)
    check = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F821", "-"]
    done = subprocess.run(check, input="\n".join(programs), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_tutorials_program_runs(tmp_path, monkeypatch):
    text = (ROOT / "docs/tutorial.md").read_text()
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)).replace("max_steps=2000", "max_steps=5")
    program = program.replace("examples/titanic", str(ROOT / "examples/titanic"))
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert list(tmp_path.glob("build/tutorial/servable/*/model.onnx"))


def test_the_program_that_exports_another_librarys_model_runs(tmp_path, monkeypatch):
    (program,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/how-to/export-other-models.md").read_text(), re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert list(tmp_path.glob("build/other/servable/*/model.onnx"))


@pytest.mark.parametrize("library", ["scikit-learn", "xgboost", "lightgbm", "catboost"])
def test_the_page_of_a_library_leads_from_a_data_frame_to_an_answer(tmp_path, monkeypatch, library):
    programs = re.findall(r"```python\n(.*?)```", (ROOT / f"docs/how-to/export-{library}.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec("\n".join(programs), names)
    scores = names["answer"]["scores"]
    assert scores.shape == (2, 2)
    # The first visit is like those that were cancelled, the second one, of which city and nights are missing, is not.
    assert scores[0, 1] > 0.5 > scores[1, 1]
