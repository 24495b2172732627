from pathlib import Path

import pytest
from google.protobuf import text_format

from estimator_serving.serving import log_settings
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.log_settings import LogSettings
from estimator_serving.wire.pb import serving_pb


def read(text):
    return log_settings.read(text_format.Parse(text, serving_pb.LoggingConfig()))


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", None),
        ('log_collector_config { filename_prefix: "/d/p" }', LogSettings(Path("/d/p"), 0)),
        (
            'log_collector_config { type: "tfrecord" filename_prefix: "/d/p" } sampling_config { sampling_rate: 0.5 }',
            LogSettings(Path("/d/p"), 0.5),
        ),
    ],
)
def test_read(text, settings):
    assert read(text) == settings


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('log_collector_config { type: "kafka" filename_prefix: "/d/p" }', "by a collector of type 'kafka'; leave"),
        ('log_collector_config { filename_prefix: "d/p" }', "filename_prefix 'd/p'; give the absolute path"),
        ("log_collector_config { }", "give the absolute path"),
        (
            'log_collector_config { filename_prefix: "/d/p" } sampling_config { sampling_rate: 1.5 }',
            "a sampling_rate of 1.5; give 0 (none) to 1 (all)",
        ),
    ],
)
def test_refused(text, sentence):
    with pytest.raises(InvalidArgumentError) as raised:
        read(text)
    assert sentence in str(raised.value)
