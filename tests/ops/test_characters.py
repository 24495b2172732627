"""DecodeCharacters, EncodeCharacters and WordGrams: characters and runs of words as TensorFlow gives them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from estimator_serving import ops


@pytest.fixture(scope="module")
def decode(load):
    node = helper.make_node("DecodeCharacters", ["texts"], ["codes", "lengths"], domain=ops.DOMAIN)
    session = load([node], {"texts": (TensorProto.STRING, [None])})

    def decode_texts(texts):
        codes, lengths = session.run(None, {"texts": np.array(texts, object)})
        assert codes.shape == (len(texts), max(lengths, default=0))
        return [row[:length].tolist() for row, length in zip(codes, lengths, strict=True)]

    return decode_texts


@pytest.fixture(scope="module")
def encode(load):
    node = helper.make_node("EncodeCharacters", ["codes"], ["texts"], domain=ops.DOMAIN)
    session = load([node], {"codes": (TensorProto.INT32, None)})
    return lambda codes: session.run(None, {"codes": np.asarray(codes, np.int32)})[0]


@pytest.fixture(scope="module")
def grams(load):
    def join(rows, **attributes):
        node = helper.make_node("WordGrams", ["words", "lengths"], ["made", "counts"], domain=ops.DOMAIN, **attributes)
        session = load([node], {"words": (TensorProto.STRING, [None, None]), "lengths": (TensorProto.INT64, [None])})
        width = max(map(len, rows), default=0)
        words = np.array([[*row, *[""] * (width - len(row))] for row in rows], object).reshape(len(rows), width)
        made, counts = session.run(None, {"words": words, "lengths": np.array(list(map(len, rows)), np.int64)})
        return [row[:count].tolist() for row, count in zip(made, counts, strict=True)]

    return join


@given(texts=st.lists(st.text(max_size=6), max_size=4))
def test_characters_are_their_numbers(decode, texts):
    assert decode(texts) == [list(map(ord, text)) for text in texts]


@given(texts=st.lists(st.binary(max_size=8), min_size=1, max_size=5))
def test_bytes_that_are_no_characters_are_replaced(texts):
    """As tf.strings.unicode_decode does, which bytes.decode equals. Only an initializer brings such bytes in here."""
    held = TensorProto(name="held", data_type=TensorProto.STRING, dims=[len(texts)], string_data=texts)
    node = helper.make_node("DecodeCharacters", ["held"], ["codes", "lengths"], domain=ops.DOMAIN)
    graph = helper.make_graph(
        [node], "test", [], [helper.make_empty_tensor_value_info(one) for one in node.output], [held]
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(ops.DOMAIN, ops.VERSION)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    codes, lengths = ops.session(model.SerializeToString()).run(None, {})
    made = [row[:length].tolist() for row, length in zip(codes, lengths, strict=True)]
    assert made == [list(map(ord, text.decode("utf-8", "replace"))) for text in texts]


@given(codes=st.lists(st.characters(exclude_categories=["Cs", "Cn"]).map(ord)))
def test_encoded_characters_are_texts(encode, codes):
    assert encode(codes).tolist() == [chr(code) for code in codes]


@pytest.mark.parametrize("code", [-1, 0xD800, 0xDFFF, 0xFDD0, 0xFFFF, 0x10FFFF, 0x110000])
def test_what_is_no_character_is_replaced(encode, code):
    """As tf.strings.unicode_encode does."""
    assert encode([code]).tolist() == ["\ufffd"]


def test_encoding_keeps_the_shape(encode):
    assert encode(np.full((2, 0, 1), 65)).shape == (2, 0, 1)


def test_runs_of_the_first_width_come_first(grams):
    assert grams([list("abc"), ["d"], []], widths=[1, 2], separator=" ") == [["a", "b", "c", "a b", "b c"], ["d"], []]


@given(rows=st.lists(st.lists(st.sampled_from(["", "a", "é"]), max_size=5), max_size=4), width=st.integers(1, 4))
def test_runs_of_words(grams, rows, width):
    wanted = [["-".join(row[i : i + width]) for i in range(len(row) - width + 1)] for row in rows]
    assert grams(rows, widths=[width], separator="-") == wanted


@pytest.mark.parametrize("widths", [[0], [-1, 2]])
def test_a_run_has_at_least_one_word(grams, widths):
    with pytest.raises(Exception, match="WordGrams: the attribute widths holds no numbers from 1"):
        grams([["a"]], widths=widths)


def test_lengths_beyond_the_words_are_refused(load):
    node = helper.make_node("WordGrams", ["words", "lengths"], ["made", "counts"], domain=ops.DOMAIN, widths=[1])
    session = load([node], {"words": (TensorProto.STRING, [None, None]), "lengths": (TensorProto.INT64, [None])})
    with pytest.raises(Exception, match="WordGrams: a length is not within the matrix"):
        session.run(None, {"words": np.full((1, 2), "a", object), "lengths": np.array([3])})


def test_a_matrix_that_no_memory_holds_is_refused(decode):
    with pytest.raises(Exception, match="DecodeCharacters: 5001 rows, the longest of 5000 elements, are more than"):
        decode(["a" * 5000] + ["b"] * 5000)
