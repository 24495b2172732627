"""The command: a real server is measured, flags are written, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conformance_models import MODELS, write_model
from running import until
from served import children

from estimator_serving.cli import main
from estimator_serving.cli.tune import report
from estimator_serving.cli.tune.measure import run_server
from estimator_serving.cli.tune.requests import Requests
from estimator_serving.cli.tune.search import Entry, Found, Load, Objective, SettingError
from estimator_serving.cli.tune.settings import Batching, Setting, Space
from estimator_serving.serving import config
from estimator_serving.serving.running import batch_parameters

QUICK = ["--duration_s=0.05", "--time_limit_s=0.1", "--objective_ms=10000"]
OBJECTIVE = Objective(0.02, 0.99)


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    write_model(path, 7, *MODELS["matrix"])
    return path


def test_it_measures_a_server_and_writes_its_flags(base_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORKERS", "what is measured are the flags")
    assert main(["tune", str(base_path), *QUICK, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "from a row that was made up. This takes at most 0.1 s." in said.err
    assert "* defaults" in said.out
    assert f"estimator-serving serve --model_name={base_path.name} --model_base_path={base_path}" in said.out
    assert "There was no time for: 1 thread" in said.out
    measured = json.loads((tmp_path / "out" / "measurements.json").read_text())
    assert measured["settings"][0]["runs"][0][0]["rate"] > 0
    assert measured["is_met"]
    assert (tmp_path / "out" / "flags.txt").read_text() == ""


def test_it_leaves_nothing_when_it_is_ended(base_path, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "estimator_serving.cli", "tune", str(base_path), "--duration_s=0.1"]
    environment = os.environ | {"TMPDIR": str(scratch)}
    output = ["--output", str(tmp_path / "out"), "--protocol=grpc", "--json"]
    with subprocess.Popen(
        [*command, *output], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        next(line for line in process.stderr if "requests/s" in line)
        (server,) = children(process.pid)
        process.send_signal(signal.SIGTERM)
        said, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(said)["command"] == ""
    assert "Interrupted: nothing was measured yet, and no files were written." in error
    assert "Traceback" not in error
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
    assert not list(scratch.glob("estimator-serving*"))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel tells a process that its parent is gone")
def test_its_server_ends_with_it_when_it_is_killed(base_path, tmp_path):
    command = [sys.executable, "-m", "estimator_serving.cli", "tune", str(base_path), "--output", str(tmp_path / "out")]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment) as process:
        until(lambda: any(b"Serving" in file.read_bytes() for file in tmp_path.glob("*/server.log")))
        (server,) = children(process.pid)
        process.kill()
    until(lambda: not Path(f"/proc/{server}").exists())


def test_a_server_that_does_not_start_says_why(tmp_path):
    with (
        pytest.raises(SettingError, match="ended with code 2 when it started: .*argument --port: invalid int value"),
        run_server({"port": "none"}, tmp_path / "log", 60),
    ):
        pass


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--rows=0"], "--rows=0 cannot be used; give a number above 0."),
        (["--duration_s=nan"], "--duration_s=nan cannot be used"),
        (["--quantile=99"], "give a share below 1"),
        (["--signature=none"], "There is no signature 'none'"),
        (["--output=/proc/none"], "/proc/none cannot be made"),
    ],
)
def test_what_is_refused(base_path, capsys, words, text):
    assert main(["tune", str(base_path), *words]) == 1
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def found_of(*runs, **more):
    found = Found(OBJECTIVE, Space(2), **more)
    found.entries = [
        Entry(setting, [[Load(4, rate, rate, latency_s / 2, latency_s)] for rate in rates])
        for setting, latency_s, rates in runs
    ]
    found.chosen = found.best().setting
    return found


REQUESTS = Requests([], "", 1, "serving_default", "a row", "")


def lines(found, **options):
    return "\n".join(report.lines(found, REQUESTS, **options))


def test_the_table_has_the_best_first_and_marks_the_recommended_one():
    found = found_of(
        (Setting(), 0.01, [1000, 1100]),
        (Setting(threads=1), 0.008, [1150, 1000]),
        (Setting(workers=2), 0.03, [3000, 3000]),
    )
    table = lines(found).splitlines()
    words = [" ".join(line.split()) for line in table]
    assert words[0] == "setting runs clients in time/s p50 ms p99 ms meets objective"
    assert words[1] == "* defaults 2 4 1,000 5 10 yes"
    assert words[3] == "2 workers 2 4 3,000 15 30 no"
    assert "Runs of the same setting differed by up to 13%." in lines(found)


def test_a_better_figure_within_the_noise_is_told():
    found = found_of((Setting(), 0.01, [1000, 1100]), (Setting(threads=1), 0.008, [1150, 1080]))
    assert found.chosen == Setting()
    assert "1 thread has a better figure than defaults, but not by more than runs of one setting differ" in lines(found)


def test_an_objective_that_is_not_met_is_told_with_the_nearest():
    found = found_of((Setting(), 0.05, [20]), (Setting(threads=1), 0.04, [25]))
    text = lines(found)
    assert "No setting answers 99% of the requests within 20 ms. The nearest is: 1 thread" in text
    assert "p99 40 ms" in text


def test_the_table_and_the_figures_show_the_same_run():
    found = found_of((Setting(), 0.01, [1]))
    rates = [(700, 800), (600, 500), (400, 300)]
    found.entries[0].runs = [
        [Load(1, one + 5, one, 0.001, 0.004), Load(2, two + 5, two, 0.001, 0.005)] for one, two in rates
    ]
    shown = [" ".join(line.split()) for line in lines(found, is_unicode=False).splitlines()]
    assert shown[1] == "* defaults 3 1 600 1 4 yes"
    assert shown[4] == f"defaults {'#' * 40} 600"
    assert shown[6:9] == [
        "p99 and requests/s within 20 ms by clients, defaults",
        f"1 {'#' * 32} 4 ms, 600/s",
        f"2 {'#' * 40} 5 ms, 500/s",
    ]


def test_the_figure_for_a_terminal_without_blocks():
    found = found_of((Setting(), 0.01, [1000]), (Setting(threads=1), 0.01, [500]))
    lines(found, is_unicode=False).encode("ascii")
    assert f"  1 thread  {'#' * 20} 500" in lines(found, is_unicode=False)


def test_the_server_reads_the_files(tmp_path):
    batching = Batching(rows_max=64, threads=1)
    files = report.write_files(tmp_path, Setting(threads=1, batching=batching), {})
    assert [file.name for file in files] == ["batching_parameters.txt", "flags.txt", "measurements.json", "serve.env"]
    base = "--model_base_path=m"
    by_flags = config.parse([base, *(tmp_path / "flags.txt").read_text().split()], {})
    lines_of = (tmp_path / "serve.env").read_text().splitlines()
    assert config.parse([base], dict(line.split("=", 1) for line in lines_of)) == by_flags
    text = config.read_text("batching_parameters_file", by_flags.batching_parameters_file)
    assert batch_parameters.parse(text, "f").batch_rows_max == 64
    report.write_files(tmp_path, Setting(), {})
    assert not (tmp_path / "batching_parameters.txt").exists()


def test_a_version_without_a_number_leaves_the_base_path_to_the_user(tmp_path):
    def command(version):
        return report.command(Setting(workers=2), version, tmp_path / "parameters", "cpu")

    named = f"estimator-serving serve --model_name=m --model_base_path={tmp_path / 'm'} --workers=2"
    assert command(tmp_path / "m" / "7") == named
    assert "--model_base_path=BASE_PATH" in command(tmp_path / "m" / "best")
