"""The command line: what it says, and how it ends."""

import subprocess
import sys

import pytest

from estimator_serving.cli import main


def run(*words, **options):
    command = [sys.executable, "-m", "estimator_serving.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_without_a_command_it_lists_them(capsys):
    assert main([]) == 2
    assert "serve" in (text := capsys.readouterr().out)
    assert "demo" in text


def test_serve_lists_tensorflow_servings_flags(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--port", "--rest_api_port", "--model_name", "--model_base_path"))


def test_a_missing_base_path_is_one_sentence(capsys):
    assert main(["serve"]) == 1
    error = capsys.readouterr().err
    assert "--model_base_path" in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


def test_a_misspelt_flag_is_told_the_nearest(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--model_base_pth=/models"])
    assert "--help lists them. Did you mean --model_base_path?" in capsys.readouterr().err


def test_the_help_imports_no_part():
    code = (
        "import sys; from estimator_serving.cli import main; main([]);"
        "print(sorted({n for n in sys.modules if n.startswith(('estimator_serving.', 'torch', 'grpc', 'fastapi'))}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "['estimator_serving.cli', 'estimator_serving.cli.main']"
