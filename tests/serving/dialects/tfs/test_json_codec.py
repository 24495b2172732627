"""Bodies of `:predict`: the compiled readers give what the tolerant ones give, or leave the body to them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.serving.dialects import json_text
from estimator_serving.serving.dialects.tfs import json_codec
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.request import Document, ModelSpec
from estimator_serving.serving.running.binding import bind
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature
from estimator_serving.wire.signatures import PREDICT_METHOD, Metadata, Signature, TensorInfo

SPEC = {"f": FixedLenFeature((1,), dtypes.float32), "i": VarLenFeature(dtypes.int64), "s": VarLenFeature(dtypes.string)}


def info(alias, dtype, shape=(-1,)):
    return TensorInfo(f"{alias}:0", dtype, shape)


SIGNATURES = {
    "one": Signature({"x": info("x", dtypes.float32, None)}, {}, PREDICT_METHOD),
    "two": Signature({"a": info("a", dtypes.int32, None), "b": info("b", dtypes.float64, None)}, {}, PREDICT_METHOD),
    "examples": Signature({"inputs": info("examples", dtypes.string)}, {}, PREDICT_METHOD),
    "base64": Signature({"b64": info("b64", dtypes.float32, None)}, {}, PREDICT_METHOD),
}


@pytest.fixture(scope="module")
def servable():
    names = ["x", "a", "b", "b64", "examples/values", "examples/row_splits"]
    return Servable("m", 1, Metadata(SIGNATURES, SPEC), bind(SIGNATURES, names, [], path=Path("m")), None)


def outcome(parse, body, signature_name, servable):
    """The inputs as bytes, or the refusal."""
    spec = ModelSpec("m", signature_name=signature_name)
    try:
        request = json_codec.CODECS["predict"].decode(parse(body, spec), servable)
    except InvalidArgumentError as error:
        return str(error)
    plain = {alias: (array.dtype, array.shape, array.tolist()) for alias, array in request.inputs.items()}
    return request.signature_name, request.form, {alias: repr(value) for alias, value in plain.items()}


def tolerantly(body: bytes, spec: ModelSpec) -> Document:
    members = json_text.parse(body)
    name = members.get("signature_name") or spec.signature_name
    return Document(spec._replace(signature_name=name), members, body)


def check(servable, body, signature_name):
    quick = outcome(json_codec.CODECS["predict"].parse, body, signature_name, servable)
    assert quick == outcome(tolerantly, body, signature_name, servable)


NUMBER = st.sampled_from(["1", "-2", "3.5", "1e3", "300", "2147483648", "1e39", "-0"])
VALUE = st.one_of(NUMBER, st.lists(NUMBER, max_size=2).map(lambda parts: f"[{','.join(parts)}]"))
ANY = st.one_of(VALUE, st.sampled_from(['"t"', '["t", "u"]', "true", "null", '"é"', '{"b64": "AA=="}', '["t", 1]']))


def written(row):
    return "{" + ",".join(f'"{key}":{value}' for key, value in row.items()) + "}"


ROW = st.dictionaries(st.sampled_from(["x", "a", "b", "f", "i", "s", "inputs", "b64"]), ANY, max_size=3).map(written)
NAMES = st.sampled_from(list(SIGNATURES))


@given(st.lists(VALUE | ROW, max_size=3), NAMES)
def test_instances(servable, rows, name):
    check(servable, f'{{"instances":[{",".join(rows)}]}}'.encode(), name)


@given(VALUE | ROW, NAMES)
def test_inputs(servable, content, name):
    check(servable, f'{{"inputs":{content}, "signature_name":"{name}"}}'.encode(), "one")


@given(st.lists(st.fixed_dictionaries({"f": ANY}, optional={"i": ANY, "s": ANY}), min_size=1, max_size=3))
def test_feature_dictionaries(servable, rows):
    check(servable, f'{{"instances":[{",".join(map(written, rows))}]}}'.encode(), "examples")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"instances": [[1, 2.5], [3, 4]]}', "one"), ('{"inputs": [1, 2]}', "one"), ('{"inputs": {"x": 5}}', "one"),
        ('{"instances": [{"a": 1, "b": [0.5]}]}', "two"), ('{"inputs": {"b": [[1]], "a": 2}}', "two"),
        ('{"instances": [{"f": 1, "i": [2, 3], "s": "t"}, {"f": 2}]}', "examples"),
    ],
)  # fmt: skip
def test_plain_bodies_are_read_by_the_compiled_readers(servable, body, name, monkeypatch):
    document = json_codec.CODECS["predict"].parse(body.encode(), ModelSpec("m", signature_name=name))
    expected = outcome(tolerantly, body.encode(), name, servable)
    monkeypatch.setattr(json_text, "parse", None)
    assert outcome(lambda *_: document, body.encode(), name, servable) == expected


def test_a_body_for_another_verb(servable):
    codec = json_codec.CODECS["classify"]
    document = codec.parse(b'{"instances": [1]}', ModelSpec("m"))
    with pytest.raises(InvalidArgumentError, match="key 'examples' is expected and was not found"):
        codec.decode(document, servable)


def test_answers_in_rows_and_columns(servable):
    outputs = {"y": np.float32([[0.1], [0.25]]), "t": np.array(["a", "b"], object)}
    encode = json_codec.CODECS["predict"].encode
    request = json_codec.Request("one", {}, (), "instances")
    assert encode(outputs, request, servable) == b'{"predictions":[{"y":[0.1],"t":"a"},{"y":[0.25],"t":"b"}]}'
    assert encode({"y": outputs["y"]}, request, servable) == b'{"predictions":[[0.1],[0.25]]}'
    columns = request._replace(form="inputs")
    assert encode(outputs, columns, servable) == b'{"outputs":{"y":[[0.1],[0.25]],"t":["a","b"]}}'
    assert encode({"y": outputs["y"]}, columns, servable) == b'{"outputs":[[0.1],[0.25]]}'
