"""The programs a new user runs first: the demo and the examples."""

from estimator_serving.cli import main
from estimator_serving.examples.boosted_trees import train as boosted_trees
from estimator_serving.examples.custom_estimator import train as custom_estimator
from estimator_serving.examples.xor import train as xor


def test_the_demo_ends_with_answers_that_agree(tmp_path, capfd):
    assert main(["demo", "--directory", str(tmp_path)]) == 0
    said = capfd.readouterr().out
    for part in ("Training", "accuracy", "Exported", "REST answer", "gRPC answer", "curl -d", "All answers agree."):
        assert part in said
    # A second run finds its model trained and goes straight on.
    assert main(["demo", "--directory", str(tmp_path)]) == 0
    assert len(list((tmp_path / "servable").iterdir())) == 2


def test_xor_is_learned(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.mkdtemp", lambda *_, **__: str(tmp_path))
    xor.main()
    assert "accuracy: 1.0" in capsys.readouterr().out


def test_the_custom_estimator_knows_its_flowers(tmp_path, capsys):
    custom_estimator.main(["--model_dir", str(tmp_path / "model"), "--export_dir", str(tmp_path / "servable")])
    said = capsys.readouterr().out.splitlines()
    assert float(said[0].rpartition(" ")[2]) >= 0.9
    assert [line.partition(" ")[0] for line in said[1:4]] == ["setosa", "versicolor", "virginica"]
    (version,) = (tmp_path / "servable").iterdir()
    assert said[4] == f"exported to {version}"
    assert (version / "model.onnx").is_file()


def test_trees_say_what_they_go_by(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.mkdtemp", lambda *_, **__: str(tmp_path))
    boosted_trees.main()
    said = capsys.readouterr().out
    assert float(said.split("accuracy: ")[1].split()[0]) > 0.79
    assert "importance of gender_indicator:" in said
    assert "for everyone" in said
