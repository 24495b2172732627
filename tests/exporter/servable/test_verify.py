"""The comparison of an export: what is near enough, and the sentence for what is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from estimator_serving.exporter.servable.draft import noise_of
from estimator_serving.exporter.servable.verify import ExportMismatch, check_outputs

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (np.float32([1, NAN, np.inf]), np.float32([1 + 1e-6, NAN, np.inf])),
        (np.float32([1e4]), np.float32([1e4 + 0.05])),
        (np.array(["a"], object), np.array(["a"], object)),
        (np.int64([]), np.int64([])),
        (np.float32(2), np.float32(2)),
        (np.float32([-INF]), np.float32([-INF])),
        (np.bool_([True]), np.bool_([True])),
    ],
)
def test_what_agrees(wanted, got):
    check_outputs({"y": wanted}, {"y": got}, "a batch")


@pytest.mark.parametrize(
    ("wanted", "got", "text"),
    [
        (np.float32([1, 2]), np.float32([1, 2.1]), r"at \[1\] np.float32\(2.0\) became np.float32\(2.1\)"),
        (np.float32([NAN]), np.float32([0]), "nan"),
        (np.float32([0]), np.float32([NAN]), "nan"),
        (np.float32([[1]]), np.float32([1]), r"shape \[1, 1\] became \[1\]"),
        (np.array(["a"], object), np.array(["b"], object), "'a' became 'b'"),
        (np.int64([3]), np.int64([4]), "3"),
        (np.float32([INF]), np.float32([5]), r"inf.* became np.float32\(5.0\)"),
        (np.float32([INF]), np.float32([-INF]), "inf.* became .*-inf"),
        (np.float32([3e38]), np.float32([-3e38]), "became"),
        (np.float32([3e38]), np.float32([INF]), "became .*inf"),
        (np.float32([[1, 2], [3, 4]]), np.float32([[1, 0], [0, 4]]), r"at \[0, 1\] .* \(2 of 4 values differ\)"),
    ],
)
def test_what_differs(wanted, got, text):
    with pytest.raises(ExportMismatch, match=f"'y'.*{text}.*Nothing was written"):
        check_outputs({"y": wanted}, {"y": got}, "a batch")


def test_the_sentence_says_what_to_do():
    with pytest.raises(ExportMismatch) as raised:
        check_outputs({"p": np.int64([0])}, {"p": np.int64([1])}, "16 sample rows")
    assert str(raised.value) == (
        "The exported graph does not agree with the model on 16 sample rows: output 'p', at [0] np.int64(0) became "
        "np.int64(1) (1 of 1 values differ). Nothing was written. The usual cause is a model_fn, normalizer_fn or "
        "module that reads more than its arguments; make it a function of the features only. Where sums differ only by "
        "their order or precision, allow more: ExportOptions(parity_tolerance={'CPUExecutionProvider': 1e-4})."
    )


def test_the_first_output_that_differs_is_named():
    wanted = {"a": np.int64([1]), "b": np.int64([1]), "c": np.int64([1])}
    with pytest.raises(ExportMismatch, match="output 'b'"):
        check_outputs(wanted, {**wanted, "b": np.int64([2]), "c": np.int64([2])}, "a batch")


def test_outputs_that_are_not_expected_are_not_compared():
    check_outputs({}, {"loss": np.float32([NAN])}, "a batch")


NUMBERS = arrays.arrays(np.float32, st.integers(0, 4), elements=st.floats(-1e6, 1e6, width=32))


def agrees(wanted, got, tolerance):
    try:
        check_outputs({"y": wanted}, {"y": got}, "a batch", tolerance)
    except ExportMismatch:
        return False
    return True


@given(NUMBERS, st.floats(0, 0.1))
def test_numbers_agree_with_themselves(wanted, tolerance):
    assert agrees(wanted, wanted.copy(), tolerance)


@given(NUMBERS, st.floats(-3, 3))
def test_the_tolerance_grows_with_the_number_from_one_on(wanted, times):
    """Within the bound or not, by a margin that float32 can hold."""
    wide = wanted.astype(np.float64)
    got = wide + times * 1e-3 * np.maximum(1, np.abs(wide))
    if abs(times) <= 0.99:
        assert agrees(wide, got, 1e-3)
    if abs(times) >= 1.01 and len(wide):
        assert not agrees(wide, got, 1e-3)


@given(arrays.arrays(np.int64, st.integers(1, 4)), st.integers(1, 9))
def test_integers_have_no_tolerance(wanted, difference):
    assert not agrees(wanted, wanted ^ difference, 1e9)


def test_a_tie_has_no_class():
    wanted = {"probabilities": np.float32([[0.5, 0.5], [0.9, 0.1]]), "class_ids": np.int64([[0], [0]])}
    check_outputs(wanted, {**wanted, "class_ids": np.int64([[1], [0]])}, "a batch")
    with pytest.raises(ExportMismatch, match=r"'class_ids', at \[1, 0\]"):
        check_outputs(wanted, {**wanted, "class_ids": np.int64([[1], [1]])}, "a batch")


def test_a_sum_that_cancels_may_be_off_by_its_rounding():
    wanted, got = {"y": np.float32([3.0])}, {"y": np.float32([3.0001])}
    check_outputs(wanted, got, "a batch", noise=lambda: {"y": np.float32([2e-5])})
    with pytest.raises(ExportMismatch):
        check_outputs(wanted, got, "a batch", noise=lambda: {"y": np.float32([1e-6])})


def test_noise_is_large_where_large_numbers_cancel():
    def answer(inputs):
        return {"y": inputs["x"].sum(axis=1, dtype=np.float32), "id": np.int64([0, 0])}

    noise = noise_of(answer, {"x": np.float32([[1e6, -1e6], [1, 2]])})
    assert set(noise) == {"y"}
    assert 0.05 < noise["y"][0] < 1
    assert noise["y"][1] < 1e-5
