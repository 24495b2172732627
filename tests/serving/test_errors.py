import logging

import grpc
import pytest

from estimator_serving.serving import errors
from estimator_serving.serving.dialects.http_status import HTTP_STATUS
from estimator_serving.serving.errors import Code, ServingError


def test_codes_are_grpcs():
    assert {code.name: int(code) for code in Code} == {status.name: status.value[0] for status in grpc.StatusCode}


def test_every_code_has_a_status():
    assert HTTP_STATUS.keys() == set(Code)
    assert len(HTTP_STATUS) == 17


def test_every_error_has_a_code_of_its_own():
    kinds = ServingError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_long_texts_are_cut():
    assert errors.InvalidArgumentError("x" * 2000).message == "x" * 1024 + "...TRUNCATED"


def test_what_is_ours_stays():
    error = errors.NotFoundError("no")
    assert errors.as_serving_error(error) is error


def test_what_is_not_ours_is_logged_and_hidden(caplog):
    with caplog.at_level(logging.ERROR):
        hidden = errors.as_serving_error(KeyError("secret"))
    assert (hidden.code, str(hidden)) == (Code.INTERNAL, errors.INTERNAL_TEXT)
    assert "secret" in caplog.text


@pytest.mark.parametrize("kind", ServingError.__subclasses__())
def test_texts_are_kept(kind):
    assert kind("text").message == "text"
