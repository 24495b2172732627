"""Requests answered at once, against the steps: whatever is answered at once, the steps answer in the same bytes."""

import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.serving.dialects.oip.json_codec import Exchange
from estimator_serving.serving.dialects.oip.shared_memory import Regions
from estimator_serving.serving.dialects.tfs import json_codec
from estimator_serving.serving.dialects.tfs.options import Options
from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.models.loader import open_servable
from estimator_serving.serving.request import ModelSpec
from estimator_serving.wire import native

SPEC = ModelSpec("m")
ONE = "g (float[N,2] x) => (float[N,2] y) { y = Add(x, x) }"
# Two outputs of which one has no rows, one is not finite for 0, and integers.
MANY = """g (float[N] x) => (float[N] y, float s, int64[N] i, float[N] inverse)
{ y = Neg(x)  s = ReduceSum<keepdims = 0>(x)  i = Cast<to = 7>(x)  inverse = Reciprocal(x) }"""
ROWS = "g (float[N] x) => (float[N] y, int64[N] i) { y = Neg(x)  i = Cast<to = 7>(x) }"


def opened(text, directory, **settings):
    import onnx.parser

    directory.mkdir()
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    return open_servable("m", 1, directory, intra_op_threads=1, **settings)


@pytest.fixture(scope="module")
def servables(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    return {name: opened(text, base / name) for name, text in {"one": ONE, "many": MANY, "rows": ROWS}.items()}


def by_steps(codec, payload, servable):
    """The answer, None for a refusal."""
    try:
        request = codec.decode(codec.parse(payload, SPEC), servable)
        return codec.encode(servable.run(request), request, servable)
    except ServingError:
        return None


NUMBERS = st.one_of(
    st.sampled_from(["1", "0.5", "-0.0", "1e39", "2.5e-3", "16777217.0", "NaN", "true", '"a"', "1.", ""]),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
)
ROW = st.lists(NUMBERS, min_size=1, max_size=3).map(lambda numbers: f"[{','.join(numbers)}]")
CONTENT = st.one_of(NUMBERS, ROW, st.lists(ROW, max_size=3).map(lambda rows: f"[{', '.join(rows)}]"))
BODIES = st.builds(
    '{{"{}": {}{}}}{}'.format,
    st.sampled_from(["instances", "inputs", "other"]), CONTENT, st.sampled_from(["", ', "signature_name": "s"', ","]),
    st.sampled_from(["", " ", "x"]),
)  # fmt: skip


@given(BODIES, st.sampled_from(["one", "many", "rows"]))
def test_predictions(servables, body, name):
    codec, servable = json_codec.CODECS["predict"], servables[name]
    try:
        done = codec.at_once(body.encode(), SPEC, servable)
    except Exception:
        done = None  # which the steps have a sentence for
    if done is not None:
        assert done[0] == by_steps(codec, body.encode(), servable)


@pytest.mark.parametrize(("name", "body", "answer"), [
    ("one", '{"instances": [[0.5, 1.5]]}', '{"predictions":[[1.0,3.0]]}'),
    ("one", '{"inputs": [[0.5, 1.5]]}', '{"outputs":[[1.0,3.0]]}'),
    ("rows", '{"instances": [2.0, 0.5]}', '{"predictions":[{"y":-2.0,"i":2},{"y":-0.5,"i":0}]}'),
    ("rows", '{"inputs": [2.0, 0.5]}', '{"outputs":{"y":[-2.0,-0.5],"i":[2,0]}}'),
])  # fmt: skip
def test_what_is_answered_at_once(servables, name, body, answer):
    codec = json_codec.CODECS["predict"]
    done = codec.at_once(body.encode(), SPEC, servables[name])
    assert done[0] == answer.encode()
    assert done[1] == len(json.loads(body).popitem()[1])
    assert done[0] == by_steps(codec, body.encode(), servables[name])


def test_nothing_goes_past_what_is_put_around_the_runs(tmp_path):
    """Worker processes note their runs there."""
    seen = []
    one = opened(ONE, tmp_path / "one", around=lambda bare: lambda *given: seen.append(given[0]) or bare(*given))
    assert json_codec.CODECS["predict"].at_once(b'{"instances": [[0.5, 1.5]]}', SPEC, one)[1] == 1
    assert by_steps(json_codec.CODECS["predict"], b'{"instances": [[0.5, 1.5]]}', one)
    assert seen == [["y"], ["y"]]


def test_what_is_left_to_the_steps(servables):
    codec, body = json_codec.CODECS["predict"], b'{"instances": [[0.5, 1.5]]}'
    one = servables["one"]
    assert codec.at_once(body, SPEC._replace(signature_name="other"), one) is None
    assert codec.at_once(b'{"instances": [[1, 2]]}', SPEC, one) is None
    assert json_codec.codecs(Options(exact=True))["predict"].at_once is None
    graph, one.at_once.runner.graph = one.at_once.runner.graph, lambda *_: []
    assert codec.at_once(body, SPEC, one) is None
    one.at_once.runner.graph = graph


FEATURES = st.fixed_dictionaries(
    {}, optional={"f": st.one_of(st.just(1), st.floats(width=32, allow_nan=False), st.just("text"), st.just([0.5, 2])),
                  "i": st.sampled_from([3, 2.5, [1, 2], None]), "s": st.sampled_from(["a", ["b", "c"], "é"]),
                  "unknown": st.just(1)},
)  # fmt: skip


@pytest.fixture(scope="module")
def of_examples():
    """A version whose graph answers the bytes that it was fed with."""
    from servables import servable_of

    from estimator_serving.serving.running.session import SessionGraph
    from estimator_serving.wire import dtypes
    from estimator_serving.wire.examples import VarLenFeature
    from estimator_serving.wire.signatures import PREDICT_METHOD, Metadata, Signature, TensorInfo

    inputs = {"examples": TensorInfo("examples:0", dtypes.string, (-1,))}
    outputs = {"first": TensorInfo("first:0", dtypes.int64, (-1,))}
    signature = Signature(inputs, outputs, PREDICT_METHOD)

    def run(_names, feeds, _options):
        values, splits = (feeds[name] for name in inputs["examples"].ragged_names)
        assert (values.dtype, splits.dtype) == (np.uint8, np.int64)
        return [np.array([int(values[a:b].astype(np.int64).sum()) for a, b in pairwise(splits)])]

    names = inputs["examples"].ragged_names
    servable = servable_of({"serving_default": signature}, SessionGraph(run), names)
    spec = {"f": VarLenFeature(dtypes.float32), "i": VarLenFeature(dtypes.int64), "s": VarLenFeature(dtypes.string)}
    return type(servable)(
        "m", 1, Metadata(servable.signatures, spec), servable._bindings, servable.runner,
        at_once=servable.runner.at_once("serving_default"),
    )  # fmt: skip


@given(st.lists(FEATURES, min_size=1, max_size=3))
def test_feature_dictionaries(of_examples, rows):
    codec, body = json_codec.CODECS["predict"], json.dumps({"instances": rows}).encode()
    done = codec.at_once(body, SPEC, of_examples)
    if done is not None:
        assert (done[0], done[1]) == (by_steps(codec, body, of_examples), len(rows))


def test_feature_dictionaries_are_answered_at_once(of_examples):
    done = json_codec.CODECS["predict"].at_once(b'{"instances": [{"f": 1.5, "s": "a"}, {"i": 3}]}', SPEC, of_examples)
    assert done[1] == 2


# --- the Open Inference Protocol's binary bodies ---


def head(shape=(1, 2), size=8, **members):
    tensor = {"name": "x", "datatype": "FP32", "shape": list(shape), "parameters": {"binary_data_size": size}}
    return json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}, **members}).encode()


def ask(servable, text, content):
    """A body's answer at once (None for none) and by steps, each with the length of its JSON."""
    answers = []
    for is_at_once in (True, False):
        exchange = Exchange(b"%d" % len(text), Regions())
        codec = exchange.codec()
        if is_at_once:
            done = codec.at_once(text + content, SPEC, servable)
            answer = None if done is None else done[0]
        else:
            answer = by_steps(codec, text + content, servable)
        answers.append((answer, exchange.json_bytes))
    return SimpleNamespace(at_once=answers[0], by_steps=answers[1])


@given(
    st.sampled_from([(1, 2), (2, 2), (1, 3), (0, 2)]), st.sampled_from([0, 8, 12, 16]), st.sampled_from([0, 8, 12, 16]),
    st.sampled_from([{}, {"id": "a"}, {"outputs": [{"name": "y"}]}, {"parameters": {}}]),
)  # fmt: skip
def test_binary_bodies(servables, shape, size, sent, members):
    text, content = head(shape, size, **members), np.arange(sent // 4, dtype=np.float32).tobytes()
    for _ in range(2):  # the second time the head is known
        asked = ask(servables["one"], text, content)
        if asked.at_once[0] is not None:
            assert asked.at_once == asked.by_steps


def test_binary_bodies_with_a_known_head_are_answered_at_once(servables):
    text, content = head(), np.array([1, 2], np.float32).tobytes()
    ask(servables["one"], text, content)
    asked = ask(servables["one"], text, content)
    assert asked.at_once == asked.by_steps
    assert asked.at_once[0].endswith(np.array([2, 4], np.float32).tobytes())


def test_answers_to_a_known_head_have_the_shapes_of_this_run(tmp_path):
    where = opened("g (float[N] x) => (int64[R,C] y) { y = NonZero(x) }", tmp_path / "where")
    for values in ([1, 0], [1, 1], [0, 1], [0, 0]):
        asked = ask(where, head((2,)), np.array(values, np.float32).tobytes())
        assert asked.at_once in (asked.by_steps, (None, None))
    assert asked.at_once[0] is not None


def test_outputs_that_are_no_numbers_are_not_run_twice(tmp_path):
    text = opened("g (float[N] x) => (string[N] y) { y = Cast<to = 8>(x) }", tmp_path / "text")
    runs, bare = [], text.at_once.runner.graph.bare
    text.at_once.runner.graph.bare = lambda *arguments: runs.append(1) or bare(*arguments)
    assert json_codec.CODECS["predict"].at_once(b'{"instances": [0.5]}', SPEC, text) is None
    assert not runs


# --- the Open Inference Protocol's JSON ---

KINDS = """g (float[N] x) => (float[N] y, double[N] d, int64[N] i, bool[N] b)
{ y = Identity(x)  d = Cast<to = 11>(x)  i = Cast<to = 7>(x)  b = Cast<to = 9>(x) }"""
PAIRS = """g (float[N,2] x, int32[M] i, bool[K] b, string[L] s) => (float[N,2] y, int32[M] j, bool[K] c, string[L] t)
{ y = Identity(x)  j = Identity(i)  c = Not(b)  t = Identity(s) }"""


@pytest.fixture(scope="module")
def inferring(servables, tmp_path_factory):
    base = tmp_path_factory.mktemp("inferring")
    return servables | {name: opened(text, base / name) for name, text in {"kinds": KINDS, "pairs": PAIRS}.items()}


def infer(servable, body):
    """The answer at once (None for none), and by steps that read natively and by those that do not (None for a
    refusal)."""
    codec, payload = Exchange(None, Regions()).codec(), body.encode()
    try:
        done = codec.at_once(payload, SPEC, servable)
    except Exception:
        done = None  # which the steps have a sentence for
    with pytest.MonkeyPatch.context() as patch:
        steps = by_steps(codec, payload, servable)
        patch.setattr(native, "read_inference", lambda _body: None)
        return None if done is None else done[0], steps, by_steps(codec, payload, servable)


def tensor(name, shape, datatype, data):
    return f'{{"name":"{name}", "shape":{shape},"datatype":"{datatype}","data" : {data}}}'


INPUT = st.builds(
    tensor, st.sampled_from("xxxy"), st.sampled_from(["[1,2]", "[2]", "[1]", "[2,1]", "[-1]", "[1.0]", "[]", "2"]),
    st.sampled_from(["FP32", "FP32", "FP64"]), CONTENT,
)  # fmt: skip
OUTPUTS = st.sampled_from([
    "", ', "outputs": [{"name": "i"}, {"name":"y"}]', ', "outputs": [{"name": "y"}]', ', "parameters": {}',
    ', "outputs": [{"name": "y"}, {"name": "y"}]', ', "outputs": []',
])  # fmt: skip
IDS = st.sampled_from(["", '"id": "a/b", ', '"id": "", ', '"id": 1, ', '"id": "é", ', '"inputs": [], '])


@given(IDS, st.lists(INPUT, min_size=1, max_size=2), OUTPUTS, st.sampled_from(["", " ", "x"]),
       st.sampled_from(["one", "rows", "many", "kinds"]))  # fmt: skip
def test_inferences(inferring, call_id, inputs, outputs, end, name):
    at_once, steps, long_way = infer(inferring[name], f'{{{call_id}"inputs": [{", ".join(inputs)}]{outputs}}}{end}')
    assert steps == long_way
    assert at_once in (None, long_way)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_of_inferences_are_printed_as_orjson_prints_them(inferring, numbers):
    at_once, _, long_way = infer(
        inferring["kinds"], f'{{"inputs": [{tensor("x", [len(numbers)], "FP32", json.dumps(numbers))}]}}'
    )
    assert at_once == long_way
    assert at_once is not None


VALUES = st.sampled_from(["1", "-0", "2147483648", "0.5", "true", '"a"', '"\\n"', "null", "1e39", "[1]"])
SOME = st.lists(VALUES, max_size=2).map(lambda values: f"[{','.join(values)}]")
FITTING = {"x": "[0.5, 2]", "i": "[1, -2]", "b": "[true, false]", "s": '["a", "b"]'}
SHAPES = {"x": "[1,2]", "i": "[2]", "b": "[2]", "s": "[2]"}
DATATYPES = {"x": "FP32", "i": "INT32", "b": "BOOL", "s": "BYTES"}


@given(st.dictionaries(st.sampled_from("xibs"), SOME, max_size=1), st.sampled_from([2, 1, 3]))
def test_inferences_of_several_inputs_are_read_as_the_long_way_reads_them(inferring, changed, count):
    inputs = [
        tensor(name, SHAPES[name] if name == "x" else f"[{count}]" if name in changed else "[2]", DATATYPES[name], data)
        for name, data in (FITTING | changed).items()
    ]
    at_once, steps, long_way = infer(inferring["pairs"], f'{{"inputs": [{",".join(inputs)}]}}')
    assert at_once is None
    assert steps == long_way


WHOLE = f'{{"id":"a","inputs": [{tensor("x", [1, 2], "FP32", "[[1, 2.5]]")}],"outputs":[{{"name":"y"}}]}}'


@given(st.data())
def test_broken_inferences(inferring, data):
    at = data.draw(st.integers(0, len(WHOLE)))
    text = data.draw(st.text('"[]{}:,019.-eab\\', max_size=2))
    at_once, steps, long_way = infer(inferring["one"], WHOLE[:at] + text + WHOLE[at + data.draw(st.integers(0, 2)) :])
    assert steps == long_way
    assert at_once in (None, long_way)


@pytest.mark.parametrize(("body", "answer"), [
    (WHOLE, '{"id":"a","model_name":"m","model_version":"1",'
     '"outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[2.0,5.0]}]}'),
    (f'{{"inputs":[{tensor("x", [2, 2], "FP32", [1, 2, 3, 4])}]}}', '{"model_name":"m","model_version":"1",'
     '"outputs":[{"name":"y","datatype":"FP32","shape":[2,2],"data":[2.0,4.0,6.0,8.0]}]}'),
])  # fmt: skip
def test_inferences_that_are_answered_at_once(inferring, body, answer):
    assert infer(inferring["one"], body) == (answer.encode(),) * 3


def test_plain_tensors_of_every_kind_are_read_natively():
    inputs = [tensor(name, SHAPES[name], DATATYPES[name], data) for name, data in FITTING.items()]
    call_id, read, outputs = native.read_inference(f'{{"inputs":[{",".join(inputs)}]}}'.encode())
    assert (call_id, outputs) == ("", ())
    assert [(letter, shape) for _, _, shape, letter, _ in read] == [
        ("d", (1, 2)),
        ("q", (2,)),
        ("?", (2,)),
        ("O", (2,)),
    ]
