"""`estimator-serving key`: what it prints is what a server reads."""

import json

import pytest

from estimator_serving.cli import main
from estimator_serving.serving.access.authorizer import Authorizer
from estimator_serving.serving.access.key_file import Right, parse


def test_the_line_is_for_the_key(capsys):
    words = ["--predict", "iris-*", "--predict", "m", "--metadata", "*", "--expires", "2999-01-31", "--metrics"]
    assert main(["key", "shop", *words]) == 0
    key, line = capsys.readouterr().out.splitlines()
    assert key not in line
    grant = Authorizer(parse(line)).identify([(b"x-api-key", key.encode())])
    assert grant.name == "shop"
    assert grant.may(Right.PREDICT, "iris-1")
    assert not grant.may(Right.MANAGEMENT, "m")
    assert json.loads(line)["expires"] == "2999-01-31T00:00:00+00:00"


def test_a_line_for_a_certificate(capsys):
    assert main(["key", "shop", "--management", "*", "--certificate", "DNS:shop.example"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"name": "shop", "certificate": "DNS:shop.example", "management": ["*"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "The key would have no right"),
        (["--metrics", "--expires", "soon"], "its expires is 'soon'; write a date"),
        (["--metrics", "--certificate", "shop"], "Its certificate has to begin with one of CN="),
        (["--predict", ""], "Its predict has to be a list of models"),
    ],
)
def test_what_it_refuses(capsys, words, said):
    assert main(["key", "shop", *words]) == 1
    assert said.lower() in capsys.readouterr().err.lower()
