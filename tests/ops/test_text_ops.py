"""SipHash64, LowerText, ReplaceCharacters, FormatNumbers and SplitWords: text as TensorFlow's string ops treat it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from estimator_serving import ops

WORDS = ["", "a", "b", "omar", "stringer", "marlo", "101", "Tensorflow", "é", "exactly8", "more than eight bytes"]
# tf.strings.to_hash_bucket_strong(WORDS, 1000003, key) of TensorFlow 2.15.
BUCKETS = {
    (1, 2): [383377, 332029, 503990, 598998, 855545, 999819, 691533, 796212, 803174, 48267, 156986],
    (133, 137): [953272, 554259, 732328, 919529, 267337, 593108, 164124, 115437, 537347, 956142, 590413],
    (2**63 - 1, 0): [510047, 715620, 675439, 405502, 172074, 751820, 57790, 62692, 228126, 262486, 684963],
}


@pytest.fixture(scope="module")
def run(load):
    def run_one(op_type, texts, outputs=("made",), **attributes):
        node = helper.make_node(op_type, ["texts"], list(outputs), domain=ops.DOMAIN, **attributes)
        session = load([node], {"texts": (TensorProto.STRING, None)})
        return session.run(None, {"texts": np.asarray(texts, object)})

    return run_one


@pytest.fixture(scope="module")
def split(load):
    node = helper.make_node("SplitWords", ["texts"], ["words", "lengths"], domain=ops.DOMAIN)
    session = load([node], {"texts": (TensorProto.STRING, [None])})

    def split_texts(texts):
        words, lengths = session.run(None, {"texts": np.array(texts, object)})
        assert words.shape == (len(texts), max(lengths, default=0))
        return [row[:length].tolist() for row, length in zip(words, lengths, strict=True)]

    return split_texts


@pytest.mark.parametrize("key", BUCKETS)
def test_strong_hash_buckets_are_tensorflows(run, key):
    (hashes,) = run("SipHash64", WORDS, key=list(key))
    assert (hashes % np.uint64(1000003)).tolist() == BUCKETS[key]


def test_siphash_of_its_paper(run):
    key = [int.from_bytes(bytes(range(start, start + 8)), "little") for start in (0, 8)]
    (hashes,) = run("SipHash64", [bytes(range(15)).decode()], key=key)
    assert hashes.tolist() == [0xA129CA6149BE45E5]


def test_a_key_needs_two_numbers(run):
    with pytest.raises(Exception, match="SipHash64: the attribute key has 1 numbers; give two"):
        run("SipHash64", WORDS, key=[1])


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3), (0,), (2, 0)])
@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [("SipHash64", {"key": [1, 2]}), ("LowerText", {}), ("ReplaceCharacters", {"characters": "a"})],
)
def test_keeps_the_shape(run, op_type, attributes, shape):
    assert run(op_type, np.full(shape, "a", object), **attributes)[0].shape == shape


def test_only_a_to_z_become_lower(run):
    assert run("LowerText", ["AbZ É [", ""])[0].tolist() == ["abz É [", ""]


def test_characters_are_replaced(run):
    assert run("ReplaceCharacters", ["a.b-c", "..", "é"], characters=".-")[0].tolist() == ["abc", "", "é"]
    assert run("ReplaceCharacters", ["a.b"], characters=".", replacement="__")[0].tolist() == ["a__b"]


def test_characters_to_replace_have_to_be_given(run):
    with pytest.raises(Exception, match="ReplaceCharacters: the attribute characters is empty"):
        run("ReplaceCharacters", ["a"])


def test_words_stand_between_white_space(split):
    """A no-break space and a file separator are none, as in tf.strings.split."""
    texts = [" a\tb \n c\x0bd\x0ce\rf ", "", "\x1c x\xa0y"]
    assert split(texts) == [list("abcdef"), [], ["\x1c", "x\xa0y"]]


def test_no_text_has_no_words(split):
    assert split([]) == []


@given(texts=st.lists(st.text("ab \t\né"), max_size=5))
def test_words_are_those_of_bytes_split(split, texts):
    assert split(texts) == [[word.decode() for word in text.encode().split()] for text in texts]


def test_a_matrix_that_no_memory_holds_is_refused(split):
    texts = ["a " * 5000] + ["b"] * 5000
    with pytest.raises(Exception, match="5001 texts, the longest of 5000 words, are more than one run takes"):
        split(texts)


FLOATS = [0.0, -0.0, 1.0, 0.1, -2.5, 1e10, 1e-7, np.nan, np.inf, -np.inf]
# tf.strings.as_string(FLOATS as float32, ...) of TensorFlow 2.15.
FLOAT_TEXTS = [
    ({"notation": "f"}, "0.000000 -0.000000 1.000000 0.100000 -2.500000 10000000000.000000 0.000000 nan inf -inf"),
    ({"notation": "f", "precision": 2}, "0.00 -0.00 1.00 0.10 -2.50 10000000000.00 0.00 nan inf -inf"),
    (
        {"notation": "e", "precision": 3},
        "0.000e+00 -0.000e+00 1.000e+00 1.000e-01 -2.500e+00 1.000e+10 1.000e-07 nan inf -inf",
    ),
    ({"notation": "g"}, "0 -0 1 0.1 -2.5 1e+10 1e-07 nan inf -inf"),
    ({"notation": "g", "fill": "+"}, "+0 -0 +1 +0.1 -2.5 +1e+10 +1e-07 +nan +inf -inf"),
    ({"notation": "f", "precision": 0, "fill": "0", "width": 2}, "00 -0 01 00 -2 10000000000 00 nan inf -inf"),
]
INTEGERS = [0, -1, 42, 2**63 - 1, -(2**63)]


@pytest.fixture(scope="module")
def format_numbers(load):
    def run_one(numbers, **attributes):
        node = helper.make_node("FormatNumbers", ["numbers"], ["made"], domain=ops.DOMAIN, **attributes)
        kind = helper.np_dtype_to_tensor_dtype(numbers.dtype)
        return load([node], {"numbers": (kind, None)}).run(None, {"numbers": numbers})[0]

    return run_one


@pytest.mark.parametrize(("attributes", "texts"), FLOAT_TEXTS)
def test_floats_are_written_as_tensorflow_does(format_numbers, attributes, texts):
    numbers = np.array(FLOATS, np.float32).astype(np.float64)
    assert format_numbers(numbers, **attributes).tolist() == texts.split(" ")


@pytest.mark.parametrize(
    ("fill", "texts"), [("", ["     0", "    -1", "    42"]), ("0", ["000000", "-00001", "000042"])]
)
def test_integers_are_filled_up_to_a_width(format_numbers, fill, texts):
    made = format_numbers(np.array(INTEGERS), notation="d", width=6, fill=fill).tolist()
    assert made == [*texts, str(2**63 - 1), str(-(2**63))]


@given(number=st.floats(), precision=st.integers(-1, 20), notation=st.sampled_from("feg"))
def test_floats_are_written_as_python_does(format_numbers, number, precision, notation):
    wanted = f"%.{precision}{notation}" % number if precision >= 0 else f"%{notation}" % number
    made = format_numbers(np.array([number]), notation=notation, precision=precision).tolist()
    assert [text.lstrip("-") for text in made] == [wanted.lstrip("-")]


@pytest.mark.parametrize("attributes", [{"notation": "s"}, {"notation": "ff"}, {}, {"notation": "f", "fill": "%"}])
def test_only_the_notations_of_numbers_are_taken(format_numbers, attributes):
    with pytest.raises(Exception, match="FormatNumbers: the attribute (notation|fill) is '.*'; give"):
        format_numbers(np.zeros(1), **attributes)


def test_a_text_is_no_wider_than_memory_holds(format_numbers):
    with pytest.raises(Exception, match="width and precision are at most 1024"):
        format_numbers(np.zeros(1), notation="f", width=1 << 40)


def test_numbers_of_another_type_are_refused(format_numbers):
    with pytest.raises(Exception, match=r"FormatNumbers: the numbers are of another type; feed int64\."):
        format_numbers(np.zeros(1), notation="d")
