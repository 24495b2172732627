"""CrossHash against TensorFlow 2.15's sparse cross, and what the three ops of ids refuse."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from estimator_serving import ops

HASH_KEY = 0xDECAFCAFFE
REFUSED = onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument


@pytest.fixture(scope="module")
def cross(load):
    """Crosses keys, each given as rows of different lengths; gives the rows of ids."""

    def run(*keys, hash_bucket_size=1000, hash_key=HASH_KEY):
        feeds, inputs = {}, {}
        for i, rows in enumerate(keys):
            is_text = isinstance(next((value for row in rows for value in row), ""), str)
            values, lengths = padded(rows, is_text)
            feeds |= {f"v{i}": values, f"n{i}": lengths}
            inputs |= {f"v{i}": (TensorProto.STRING if is_text else TensorProto.INT64, ["batch", None])}
            inputs |= {f"n{i}": (TensorProto.INT64, ["batch"])}
        attributes = {"hash_bucket_size": hash_bucket_size, "hash_key": hash_key}
        node = helper.make_node("CrossHash", list(inputs), ["ids"], domain=ops.DOMAIN, **attributes)
        return load([node], inputs).run(None, feeds)[0]

    return run


def padded(rows, is_text):
    width = max(map(len, rows), default=0)
    values = np.full((len(rows), width), "padding" if is_text else 7, object if is_text else np.int64)
    for row, given in zip(values, rows, strict=True):
        row[: len(given)] = given
    return values, np.array([len(row) for row in rows], np.int64)


@pytest.mark.parametrize(
    ("keys", "options", "expected"),
    [
        (([["a"], ["b", "c"]], [["d"], ["e"]]), {}, [[182, -1], [361, 641]]),
        (([["a"], ["b", "c"]], [["d"], ["e"]]), {"hash_key": 12}, [[591, -1], [133, 932]]),
        (([["a", "b"]], [["c", "d"]]), {}, [[566, 182, 254, 454]]),
        (([[3], [4]], [["d"], ["e"]]), {}, [[197], [641]]),
        (([["d"], ["e"]], [[3], [4]]), {}, [[607], [192]]),
        (([["a"], ["b"]], [[3], [4]]), {}, [[486], [690]]),
        (([[3], [4]], [["a"], ["b"]]), {}, [[152], [265]]),
        (([["a"]], [["b"]], [["c"]]), {}, [[792]]),
        (([["a"], [], ["a"]], [["d"], ["d"], []]), {}, [[182], [-1], [-1]]),
        (([["a"]], [["d"]]), {"hash_bucket_size": 1}, [[0]]),
        (([], []), {}, []),
    ],
)
def test_ids_are_tensorflows(cross, keys, options, expected):
    ids = cross(*keys, **options)
    assert ids.dtype == np.int64
    assert ids.tolist() == expected


def test_a_product_beyond_memory_is_refused(cross):
    wide = [[""] * 5000]
    with pytest.raises(REFUSED, match="row 0 crosses to more than 16777216 ids; send fewer values a feature"):
        cross(wide, wide, wide, wide, wide, wide)


def test_rows_that_add_up_beyond_memory_are_refused(cross):
    with pytest.raises(REFUSED, match="20 rows of 1000000 ids are more than 16777216; send fewer rows at once"):
        cross([["a"] * 1000] * 20, [["b"] * 1000] * 20)


TEXT, NUMBER, FLOAT = TensorProto.STRING, TensorProto.INT64, TensorProto.FLOAT


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ([(TEXT, [["a"]]), (NUMBER, [2])], "key 0 has the length 2 in row 0, and its rows hold 1 values"),
        ([(TEXT, [["a"]]), (NUMBER, [-1])], "key 0 has the length -1 in row 0"),
        ([(TEXT, [["a"]]), (NUMBER, [2**62])], "key 0 has the length 4611686018427387904"),
        ([(TEXT, [["a"]]), (NUMBER, [1, 1])], "key 0 is not a matrix of values with one int64 length a row"),
        ([(TEXT, ["a"]), (NUMBER, [1])], "key 0 is not a matrix"),
        ([(TEXT, [["a"]]), (FLOAT, [1.0])], "key 0 is not a matrix"),
        ([(FLOAT, [[1.0]]), (NUMBER, [1])], "key 0 is neither string nor int64"),
        ([(TEXT, [["a"]])], "1 inputs came; give values and lengths for each key"),
        (
            [(TEXT, [["a"]]), (NUMBER, [1]), (TEXT, [["a"], ["b"]]), (NUMBER, [1, 1])],
            "key 0 has 1 rows and key 1 has 2",
        ),
    ],
)
def test_hostile_inputs_are_refused(load, feeds, text):
    dtypes = {TEXT: object, NUMBER: np.int64, FLOAT: np.float32}
    arrays = {f"x{i}": np.array(value, dtypes[element]) for i, (element, value) in enumerate(feeds)}
    inputs = {f"x{i}": (element, [None] * arrays[f"x{i}"].ndim) for i, (element, _) in enumerate(feeds)}
    node = helper.make_node("CrossHash", list(inputs), ["ids"], domain=ops.DOMAIN, hash_bucket_size=10, hash_key=1)
    with pytest.raises(REFUSED, match=text):
        load([node], inputs).run(None, arrays)


@pytest.mark.parametrize("attributes", [{}, {"hash_bucket_size": 0}, {"hash_bucket_size": -5}])
def test_a_node_without_buckets_does_not_load(load, attributes):
    node = helper.make_node("CrossHash", ["v", "n"], ["ids"], domain=ops.DOMAIN, **attributes)
    with pytest.raises(Exception, match="hash_bucket_size is missing or less than 1"):
        load([node], {"v": (TEXT, [None, None]), "n": (NUMBER, [None])})


@pytest.fixture(scope="module")
def check(load):
    node = helper.make_node("CheckIds", ["ids"], ["checked"], domain=ops.DOMAIN, num_buckets=6, key="k")
    session = load([node], {"ids": (NUMBER, [None] * 2)})
    return lambda ids: session.run(None, {"ids": np.array(ids, np.int64)})[0].tolist()


def test_ids_in_range_pass(check):
    assert check([[0, 5], [-1, -7]]) == [[0, 5], [-1, -1]]
    assert check(np.empty((0, 2))) == []


@pytest.mark.parametrize(("ids", "position"), [([[6]], 0), ([[0, -1], [-1, -1], [1, 6]], 3), ([[0], [1], [2], [6]], 3)])
def test_an_id_without_a_bucket_is_refused(check, ids, position):
    with pytest.raises(REFUSED, match=rf"Bad: indices\[{position}\] == 6 out of range \[0, 6\)\. The feature k holds"):
        check(ids)


@pytest.fixture(scope="module")
def align(load):
    inputs = {"i": (NUMBER, [None] * 2), "n": (NUMBER, [None]), "w": (FLOAT, [None] * 2), "m": (NUMBER, [None])}
    node = helper.make_node("AlignWeights", list(inputs), ["aligned"], domain=ops.DOMAIN, key="w")
    session = load([node], inputs)

    def run(width, lengths, weights, weight_lengths):
        ids = np.zeros((len(lengths), width), np.int64)
        feeds = {"i": ids, "n": np.int64(lengths), "w": np.float32(weights), "m": np.int64(weight_lengths)}
        return session.run(None, feeds)[0].tolist()

    return run


def test_weights_become_as_wide_as_their_ids(align):
    assert align(3, [2, 0], [[1, 2], [9, 9]], [2, 0]) == [[1, 2, 0], [0, 0, 0]]
    assert align(1, [1], [[3, 9, 9]], [1]) == [[3]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, [1], [[1, 2]], [2]), "Feature w has 2 weights in row 0 for 1 ids; give one weight for each id"),
        ((1, [1, 1], [[1]], [1]), "Feature w has 1 rows of weights for 2 rows of ids"),
        ((1, [1], [[1]], [5]), "AlignWeights: weights has the length 5 in row 0"),
        ((1, [-1], [[1]], [1]), "AlignWeights: ids has the length -1 in row 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(align, arguments, text):
    with pytest.raises(REFUSED, match=text):
        align(*arguments)
