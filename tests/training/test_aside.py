"""Files that are written aside."""

import pytest

from estimator_serving.training.aside import LEFT_OVER, replacing


def test_a_file_is_there_when_it_is_whole(tmp_path):
    with replacing(tmp_path / "numbers.json") as aside:
        aside.write_text("[1]")
        assert LEFT_OVER.fullmatch(aside.name)
        assert not (tmp_path / "numbers.json").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["numbers.json"]


def test_an_exception_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "numbers.json"
    file.write_text("[1]")
    with pytest.raises(TypeError), replacing(file) as aside:
        aside.write_text("[") + aside
    assert file.read_text() == "[1]"
    assert list(tmp_path.iterdir()) == [file]
