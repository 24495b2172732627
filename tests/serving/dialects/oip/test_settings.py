"""The log settings change what is logged, and nothing else; the trace settings change nothing."""

import logging

import pytest

from estimator_serving.serving.dialects.oip import settings
from estimator_serving.serving.errors import InvalidArgumentError, UnimplementedError


@pytest.fixture(autouse=True)
def logger():
    logger = logging.getLogger("estimator_serving")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield logger
    logger.setLevel(before)


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"log_info": False}, logging.WARNING),
        ({"log_info": False, "log_warning": False}, logging.ERROR),
        ({"log_info": False, "log_warning": False, "log_error": False}, logging.CRITICAL),
        ({"log_verbose_level": 2}, logging.DEBUG),
        ({}, logging.INFO),
        ({"log_file": "", "log_format": "default"}, logging.INFO),
    ],
)
def test_levels(logger, changes, level):
    shown = settings.change_log(changes)
    assert logger.level == level
    assert shown["log_info"] == (level <= logging.INFO)
    assert shown == settings.read_log()


@pytest.mark.parametrize("changes", [{"log_file": "/tmp/log"}, {"log_format": "ISO8601"}])
def test_a_client_chooses_no_file(logger, changes):
    with pytest.raises(UnimplementedError, match="the operator decides where and how the server logs"):
        settings.change_log({"log_info": False} | changes)
    assert logger.level == logging.INFO


@pytest.mark.parametrize("changes", [{"log_info": 1}, {"log_verbose_level": True}, {"log_verbose_level": -1}, {"x": 1}])
def test_wrong_values(changes):
    with pytest.raises(InvalidArgumentError):
        settings.change_log(changes)


def test_trace():
    assert settings.change_trace({})["trace_level"] == ["OFF"]
    assert settings.change_trace({"trace_rate": "1000", "trace_level": ["OFF"], "trace_file": None, "trace_mode": []})
    for changes in ({"trace_file": "/tmp/x"}, {"trace_level": ["TIMESTAMPS"]}, {"nope": "1"}):
        with pytest.raises(UnimplementedError, match="traces nothing"):
            settings.change_trace(changes)
