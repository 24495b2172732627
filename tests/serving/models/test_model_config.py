"""Text ModelServerConfig: what is read, and every refusal with its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from estimator_serving.serving.config import ConfigError
from estimator_serving.serving.errors import FailedPreconditionError, InvalidArgumentError
from estimator_serving.serving.log_settings import LogSettings
from estimator_serving.serving.models import model_config
from estimator_serving.serving.models.model_config import ModelConfig, check_change
from estimator_serving.serving.policy import All, Latest, Specific

WHOLE = """
# Comments are text format's.
model_config_list {
  config {
    name: "half"
    base_path: "/models/half"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 42 versions: 43 } }
    version_labels { key: "stable" value: 42 }
    version_labels { key: "canary" value: 43 }
  }
  config { name: "b-c" base_path: "/models/b" model_version_policy { all {} } }
  config { name: "d" base_path: "/models/d" model_version_policy { latest { num_versions: 2 } } model_type: TENSORFLOW }
  config: < name: 'e', base_path: '/models/e',
            logging_config { log_collector_config { type: "tfrecord" filename_prefix: "/l" } } >
}
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str | bytes):
        path = tmp_path / "models.config"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return model_config.read_file(str(path))

    return read


def listed(*entries: str) -> str:
    return "model_config_list { " + " ".join(f"config {{ {entry} }}" for entry in entries) + " }"


def test_a_whole_file(read):
    half, b, d, e = read(WHOLE)
    assert half == ModelConfig(
        "half", Path("/models/half"), Specific(frozenset({42, 43})), {"stable": 42, "canary": 43}, "tensorflow"
    )
    assert b == ModelConfig("b-c", Path("/models/b"), All())
    assert (d.version_policy, d.platform) == (Latest(2), "tensorflow")
    assert (e.version_policy.choose([1, 2]), e.platform) == ({2}, "")
    assert e.logging == LogSettings(Path("/l"), 0)
    assert 'Model half says model_platform: "tensorflow"' in half.remarks[0]
    assert "Model d sets the deprecated model_type" in d.remarks[0]
    assert (b.remarks, e.remarks) == ((), ())


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file_asks_for_no_change(read, text):
    assert read(text) is None


def test_an_empty_list_asks_for_no_models(read):
    assert read("model_config_list {}") == ()


def test_no_specific_version_is_said(read):
    (model,) = read(listed('name: "m" base_path: "/m" model_version_policy { specific {} }'))
    assert model.version_policy.choose([1, 2]) == frozenset()
    assert "lists none" in model.remarks[0]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (listed('name: "m" base_path: "/a"', 'name: "m" base_path: "/b"'), InvalidArgumentError,
         "Illegal to list model m multiple times in config list"),
        (listed('name: "m" base_path: "models/m"'), InvalidArgumentError,
         "Expected model m to have an absolute path or URI; got base_path()=models/m"),
        (listed('name: "m" base_path: "s3://bucket/m"'), InvalidArgumentError, "got base_path()=s3://bucket/m"),
        (listed('name: "m"'), InvalidArgumentError, "Expected model m to have an absolute path"),
        (listed('name: "m" base_path: "/m\\000"'), InvalidArgumentError, "holds a NUL"),
        (listed('name: "m" base_path: "/m" model_platform: "tensorflow" model_type: TENSORFLOW'), InvalidArgumentError,
         "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform"),
        (listed('name: "m" base_path: "/m" model_platform: "caffe"'), InvalidArgumentError,
         "Model m requests unsupported platform caffe"),
        (listed('name: "m" base_path: "/m" model_type: OTHER'), InvalidArgumentError,
         "Model m requests unsupported platform other"),
        (listed('base_path: "/m"'), InvalidArgumentError, "The model name '' cannot be served"),
        (listed('name: "../../etc" base_path: "/m"'), InvalidArgumentError, "it reads like a path"),
        (listed('name: "a/b" base_path: "/m"'), InvalidArgumentError, "The model name 'a/b' cannot be served"),
        (listed('name: "a\\\\b" base_path: "/m"'), InvalidArgumentError, "it reads like a path"),
        (listed('name: ".." base_path: "/m"'), InvalidArgumentError, "it reads like a path"),
        (listed('name: "a\\nb" base_path: "/m"'), InvalidArgumentError, "The model name 'a\\nb' cannot be served"),
        (listed(f'name: "{"n" * 10000}" base_path: "/m"'), InvalidArgumentError, "give 1 to 256 printable"),
        ('custom_model_config { type_url: "x" }', FailedPreconditionError, "Cannot transition to requested config."),
        ("model_config_list {\n  config { nam: 'm' }\n}", ConfigError,
         "Error parsing text-format tensorflow.serving.ModelServerConfig: {path}:2:12: "),
        ("model_config_list {", ConfigError, "Invalid protobuf file: '{path}'"),
        (listed('name: "m" base_path: "/m" version_labels { key: "x" value: 99999999999999999999 }'), ConfigError,
         "{path}:1:"),
        (b"\x0a\xff\xfe", ConfigError, "is not UTF-8 text"),
        (b"#" * (model_config.CONFIG_FILE_BYTES_MAX + 1), ConfigError, "is larger than 16777216 bytes"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else None,
)  # fmt: skip
def test_refused(read, tmp_path, text, kind, expected):
    with pytest.raises(kind) as refused:
        read(text)
    assert expected.replace("{path}", str(tmp_path / "models.config")) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="--model_config_file=.*none cannot be read"):
        model_config.read_file(str(tmp_path / "none"))


def test_a_platform_stays():
    old = [ModelConfig("m", Path("/m"), platform="tensorflow"), ModelConfig("n", Path("/n"))]
    check_change(old, [ModelConfig("m", Path("/elsewhere"), platform="tensorflow"), ModelConfig("new", Path("/m"))])
    check_change(old, [ModelConfig("m", Path("/m")), ModelConfig("n", Path("/n"), platform="tensorflow")])
    with pytest.raises(InvalidArgumentError, match="Illegal to change a model's platform. For model m platform was"):
        check_change(old, [ModelConfig("m", Path("/m"), platform="onnx")])
