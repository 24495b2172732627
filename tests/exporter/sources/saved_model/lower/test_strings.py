"""Text: hashes, lower case, numbers as text, punctuation, words."""

from functools import cache

import numpy as np
import pytest
from features import Sparse, feature, filled, looked_up
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered import Const, Fed, Op, load, refusal, run, run_rows, why_not

TEXTS = np.array(["", "a", "Ünïcode ☃", "the quick brown fox", " \t\n"], object)
KEY = [0xDECAFCAFFE, -1]
TABLE = np.arange(10, dtype=np.float32).reshape(5, 2)


def texts(*values):
    return np.array(values, object)


# ---- hashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("buckets", "wanted"),
    [
        (1, [0, 0, 0, 0, 0]),
        (10, [3, 9, 4, 1, 0]),
        (2**40, [254201053263, 436859794915, 121662711890, 979531754801, 332559194962]),
        (
            2**63 - 1,
            [
                1936946117179621456,
                3694432073954588132,
                2101354858830997587,
                3343755477575298354,
                4555667333063023443,
            ],
        ),
    ],
)
def test_buckets_by_fingerprints(buckets, wanted):
    assert run_rows("StringToHashBucketFast", [TEXTS], "int64", num_buckets=buckets).tolist() == wanted


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (KEY, [62, 115, 740, 604, 706]),
        ([0, 0], [367, 905, 288, 478, 437]),
        ([2**63 - 1, -(2**63)], [719, 647, 370, 857, 972]),
    ],
)
def test_buckets_by_keyed_hashes(key, wanted):
    assert run_rows("StringToHashBucketStrong", [TEXTS], "int64", num_buckets=1000, key=key).tolist() == wanted


@pytest.mark.parametrize("shape", [(), (5,), (0,), (1, 5), (5, 1), (0, 3), (5, 1, 1)])
def test_buckets_of_any_shape(shape):
    given = TEXTS[: int(np.prod(shape))].reshape(shape)
    for op, key in ("StringToHashBucketFast", {}), ("StringToHashBucketStrong", {"key": KEY}):
        made = run_rows(op, [given], "int64", num_buckets=7, **key)
        flat = run(op, [TEXTS], "int64", num_buckets=7, **key)
        assert made.tolist() == flat[: given.size].reshape(shape).tolist()


def test_buckets_of_a_feature_are_looked_up():
    words = feature([[b"a", b"b"], [], [b""]], "string")
    ids = Op("StringToHashBucketFast", [words.values], {"num_buckets": 5})
    found = load([(looked_up(TABLE, Sparse(words.indices, ids, words.shape), "sum"), "float32"), (ids, "int64")])()
    assert [one.tolist() for one in found] == [[[12.0, 14.0], [0.0, 0.0], [6.0, 7.0]], [4, 2, 3]]


def test_buckets_of_filled_rows():
    words, _ = filled(feature([[b"a"], []], "string"), np.array(b"?", object))
    made = Op("StringToHashBucketFast", [words.values], {"num_buckets": 1000})
    assert load([(made, "int64")])()[0].tolist() == [939, 65]


# ---- case and characters --------------------------------------------------------------------------------------------


def test_only_ascii_letters_are_lowered():
    assert run_rows("StringLower", [texts("", "A", "ÜN ☃", "AZ[`", "ß İ")]).tolist() == ["", "a", "Ün ☃", "az[`", "ß İ"]
    assert run("StringLower", [Const(texts(b"A", b"z", b""))], "string").tolist() == ["a", "z", ""]


def test_unicode_is_not_lowered():
    assert refusal("StringLower", [TEXTS], "string", encoding="utf-8") == (
        "it treats text as Unicode; only A to Z are converted"
    )


@pytest.mark.parametrize(
    ("pattern", "rewrite", "text", "wanted"),
    [
        ("[ab]", "", "cabbage ü", "cge ü"),
        ("[a-c]", "-", "abcd", "---d"),
        ("[!-/]", "", "a,b(c)!", "abc"),
        (r"[!\"#$%&()\*\+,-\./:;<=>?@\[\\\]^_`{|}~\']", "", "It's [a] ~test~; \\o/ *ü*", "Its a test o ü"),
        ("[-a]", "x", "a-b", "xxb"),
        ("[a-]", "x", "a-b", "xxb"),
        (r"[\-]", "", "a-b", "ab"),
        ("[ ]", "", " a  b ", "ab"),
        ("[a]", "bb", "aca", "bbcbb"),
    ],
)
def test_a_class_of_characters_is_replaced(pattern, rewrite, text, wanted):
    made = run_rows("StaticRegexReplace", [texts(text, "")], pattern=pattern, rewrite=rewrite)
    assert made.tolist() == [wanted, ""]


@pytest.mark.parametrize("pattern", ["a", "a+", "[^a]", "[[:alpha:]]", r"[\d]", "[ä]", "[a", "[]", "[a][b]", "(?i)[a]"])
def test_other_patterns_are_refused(pattern):
    reason = refusal("StaticRegexReplace", [TEXTS], "string", pattern=pattern, rewrite="")
    assert reason == f"its pattern is {pattern!r}; only a class of ASCII characters is converted"


@pytest.mark.parametrize("attributes", [{"rewrite": r"\0"}, {"rewrite": "", "replace_global": False}])
def test_other_replacements_are_refused(attributes):
    reason = refusal("StaticRegexReplace", [TEXTS], "string", pattern="[a]", **attributes)
    assert reason == "its pattern is '[a]'; only a class of ASCII characters is converted"


# ---- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "values", "wanted"),
    [
        ("int64", [0, -1, 2**63 - 1, -(2**63)], ["0", "-1", "9223372036854775807", "-9223372036854775808"]),
        ("int32", [7, -(2**31)], ["7", "-2147483648"]),
        ("int8", [-128, 127], ["-128", "127"]),
        ("uint8", [255, 0], ["255", "0"]),
        ("bool", [True, False], ["true", "false"]),
        ("int64", [], []),
    ],
)
def test_whole_numbers_as_text(dtype, values, wanted):
    numbers = np.array(values, dtype)
    assert run_rows("AsString", [numbers], "string").tolist() == wanted
    assert run("AsString", [Const(numbers)], "string").tolist() == wanted


# ---- words ----------------------------------------------------------------------------------------------------------


def split(given, separator=b"", maxsplit=-1):
    made = Op("StringSplitV2", [Fed(given, (None,)), Const(np.array(separator, object))], {"maxsplit": maxsplit})
    return Sparse(*(made.at(index) for index in range(3)))


@cache
def splitter():
    words = split(TEXTS)
    return load([(words.indices, "int64"), (words.values, "string"), (words.shape, "int64")])


def words_of(given):
    return [one.tolist() for one in splitter()(given)]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["one two"], [[[0, 0], [0, 1]], ["one", "two"], [1, 2]]),
        ([" a \t\n\v\f\r b "], [[[0, 0], [0, 1]], ["a", "b"], [1, 2]]),
        (["", "ü x", "  "], [[[1, 0], [1, 1]], ["ü", "x"], [3, 2]]),
        (["a\u00a0b"], [[[0, 0]], ["a\u00a0b"], [1, 1]]),
        ([""], [[], [], [1, 0]]),
        ([], [[], [], [0, 0]]),
    ],
)
def test_words_between_white_space(given, wanted):
    assert words_of(texts(*given)) == wanted


def test_words_are_looked_up():
    words = split(texts("a b", "", "a a a"))
    ids = Op("StringToHashBucketFast", [words.values], {"num_buckets": 5})
    made = looked_up(TABLE, Sparse(words.indices, ids, words.shape), "mean")
    assert load([(made, "float32")])()[0].tolist() == [[6.0, 7.0], [0.0, 0.0], [8.0, 9.0]]


@pytest.mark.parametrize(("separator", "maxsplit"), [(b",", -1), (b" ", -1), (b"", 1)])
def test_other_separators_are_refused(separator, maxsplit):
    words = split(TEXTS, separator, maxsplit)
    assert why_not(lambda: load([(words.values, "string")])) == "it splits at something else than white space"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), max_size=3))
def test_words_of_any_text(given):
    ascii_words = [text.encode().split() for text in given]
    assert words_of(np.array(given, object).reshape(-1))[1] == [word.decode() for row in ascii_words for word in row]
