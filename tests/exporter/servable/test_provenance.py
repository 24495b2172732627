"""Provenance: what made an export, and nothing of when and where."""

import hashlib
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from estimator_serving.exporter.servable import provenance
from estimator_serving.exporter.servable.provenance import describe_estimator, describe_versions


@pytest.fixture
def _forget():
    provenance._git_revision.cache_clear()
    yield
    provenance._git_revision.cache_clear()


def git(*arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, timeout=60)


def test_versions_of_what_is_installed():
    versions = describe_versions(("scikit-learn", "no-such-package"))["versions"]
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == metadata.version("torch")
    assert versions["scikit-learn"] == metadata.version("scikit-learn")
    assert "no-such-package" not in versions
    assert list(versions)[:-1] == sorted(list(versions)[:-1])


@pytest.mark.usefixtures("_forget")
def test_the_revision_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "-q", ".")
    Path("a").write_text("one")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert describe_versions()["git_revision"] == commit
    Path("a").write_text("two")
    # Read once a process: the code that runs is the code that was loaded.
    assert describe_versions()["git_revision"] == commit
    provenance._git_revision.cache_clear()
    assert describe_versions()["git_revision"] == f"{commit}-dirty"


@pytest.mark.usefixtures("_forget")
def test_without_a_repository_or_git_there_is_no_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "git_revision" not in describe_versions()
    provenance._git_revision.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git_revision" not in describe_versions()


def test_an_estimators_provenance(trained):
    model = trained("dnn binary").load()
    described = describe_estimator(model)
    assert described["global_step"] == 3
    assert described["transform_sha256"] == hashlib.sha256(model.transform.model_bytes).hexdigest()
    assert described["training_data"]["fingerprint"].startswith("sha256:")
    assert json.loads(json.dumps(described)) == described


def test_a_model_without_a_transform_has_no_digest(trained):
    model = trained("baseline").load()
    assert model.transform is None
    assert "transform_sha256" not in describe_estimator(model)
