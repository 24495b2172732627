"""Feature specs: what constructors and whole specs refuse, the tensors of each kind, the proto form."""

import numpy as np
import pytest

from estimator_serving.wire import dtypes
from estimator_serving.wire.features import (
    ExampleError,
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    SparseFeature,
    UniformRowLength,
    VarLenFeature,
    check_sequence_specs,
    check_spec,
    example_dtypes,
    list_tensors_of,
    spec_from_proto,
    spec_to_proto,
    tensors_of,
)

R = RaggedFeature
EVERY_KIND = {
    "fixed": FixedLenFeature([2], str, ["a", "b"]),
    "var": VarLenFeature("float"),
    "steps": FixedLenSequenceFeature([3], "int64", allow_missing=True, default_value=-1),
    "sparse": SparseFeature("i", "v", "float", 10),
    "sparse2": SparseFeature(["i", "j"], "v", "float", [10, 20], already_sorted=True),
    "listed": SparseFeature(["i"], "v", "float", [10]),
    "plain": R("float"),
    "ragged": R(
        "string",
        "w",
        [R.RowSplits("p0"), R.RowLengths("p1"), R.RowStarts("p2"), R.RowLimits("p3"), R.ValueRowIds("p4")],
        "int32",
        True,
    ),
    "uniform": R("string", "w", [R.RowLengths("p1"), UniformRowLength(2), R.UniformRowLength(3)]),
}


def test_a_spec_survives_as_a_proto():
    assert spec_from_proto(spec_to_proto(EVERY_KIND)) == EVERY_KIND


def test_features_compare_and_hash_by_value():
    assert R("float", "w", [R.RowSplits("p")]) == R(float, "w", (R.RowSplits("p"),))
    assert len({R("float", "w", [R.RowSplits("p")]), R(float, "w", (R.RowSplits("p"),))}) == 1
    assert R("float", "w", [R.RowSplits("p")]) != R("float", "w", [R.RowLimits("p")])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: VarLenFeature("int32"), "Value for attr 'sparse_types' of int32 is not in the list of allowed values"),
        (lambda: FixedLenFeature([None], float), "First dimension of shape for feature <unknown> unknown. Consider"),
        (lambda: FixedLenFeature([2, -1], float), "All dimensions of shape for feature <unknown> need to be known"),
        (lambda: FixedLenFeature([2], float, 1.0), "has 1 values; the shape [2] needs 2"),
        (lambda: FixedLenSequenceFeature([None], int), "The number of steps is not part of the shape"),
        (lambda: FixedLenSequenceFeature([], np.int32), "Value for attr 'Tdense' of int32"),
        (
            lambda: FixedLenSequenceFeature([2], int, True, [1, 2]),
            "Input to reshape is a tensor with 2 values, but the",
        ),
        (lambda: FixedLenSequenceFeature([2], int, True, "a"), "The default 'a' is not of dtype int64"),
        (lambda: SparseFeature("", "v", float, 3), "Missing index_key for SparseFeature"),
        (lambda: SparseFeature("i", "", float, 3), "Missing value_key for SparseFeature"),
        (lambda: SparseFeature("i", "v", None, 3), "Missing dtype for SparseFeature"),
        (lambda: SparseFeature("i", "v", "double", 3), "Value for attr 'sparse_types' of double"),
        (
            lambda: SparseFeature("i", "v", float, [3]),
            "vocab_size has to be a Tensor or Python int. Found <class 'list'>",
        ),
        (
            lambda: SparseFeature("i", "v", float, 2.5),
            "vocab_size has to be a Tensor or Python int. Found <class 'float'",
        ),
        (lambda: SparseFeature("i", "v", float, -1), "vocab_size has to be a Tensor or Python int"),
        (lambda: SparseFeature(["i", "j"], "v", float, [3]), "sp_ids and vocab_size have to have equal lengths"),
        (lambda: SparseFeature(["i"], "v", float, 3), "sp_ids and vocab_size have to have equal lengths"),
        (lambda: R("int32"), "Argument `dtype` must be int64, float32, or bytes; got int32"),
        (lambda: R(float, 3), "Argument `value_key` must be a string; got 3"),
        (lambda: R(float, ""), "Argument `value_key` must not be empty"),
        (lambda: R(float, row_splits_dtype="float"), "Argument `row_splits_dtype` must be int32 or int64; got float"),
        (lambda: R.RowSplits(3), "RowSplits has the key 3"),
        (lambda: R.UniformRowLength(0), "UniformRowLength has the length 0"),
    ],
)
def test_constructors_refuse(make, text):
    with pytest.raises(ExampleError) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"partitions": "x"}, "Argument `partitions` must be a list or tuple"),
        ({"partitions": ["x"]}, "Argument `partitions` must be a list of partition objects RowSplits, RowLengths"),
        ({"validate": 1}, "Argument `validate` must be a bool; got 1"),
    ],
)
def test_ragged_refuses_types(arguments, text):
    with pytest.raises(TypeError, match=text):
        R("float", **arguments)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, "Argument `features` cannot be None."),
        (None, "Argument `features` cannot be None."),
        ({"x": 3}, "Unsupported int 3 for key 'x'"),
        (
            {"x": FixedLenSequenceFeature([], int)},
            "Unsupported: FixedLenSequenceFeature requires allow_missing to be True.",
        ),
        ({"s": EVERY_KIND["sparse"], "i": FixedLenFeature([], int)}, "Dense and sparse keys must not intersect; 'i'"),
        ({"r": EVERY_KIND["ragged"], "w": FixedLenFeature([], str)}, "Dense and ragged keys must not intersect; 'w'"),
        ({"r": EVERY_KIND["ragged"], "w": VarLenFeature(str)}, "Ragged and sparse keys must not intersect; 'w'"),
        ({"s": EVERY_KIND["sparse"], "i": VarLenFeature(str)}, "Conflicting type int64 vs string for feature i."),
        ({"a": R(int, "w"), "w": R(float)}, "Conflicting type int64 vs float for feature w."),
        (
            {"a": R(int, "w"), "w": R(int, row_splits_dtype=int)},
            "Conflicting partition type int32 vs int64 for feature w",
        ),
    ],
)
def test_specs_are_refused(spec, text):
    with pytest.raises(ExampleError) as caught:
        check_spec(spec)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("context", "lists", "text"),
    [
        ({}, {}, "Both `context_features` and `sequence_features` argument are None, but at least one should have"),
        ({"a": FixedLenSequenceFeature([], int, True)}, {}, "Unsupported FixedLenSequenceFeature"),
        ({"a": EVERY_KIND["sparse"]}, {}, "Unsupported SparseFeature"),
        ({}, {"a": FixedLenFeature([], float)}, "Unsupported FixedLenFeature"),
        ({}, {"s": FixedLenSequenceFeature([], int, True, 3)}, "Value feature_list.dense_defaults[s] must be None"),
        ({}, {"a": R(int, "w"), "w": R(float)}, "Conflicting type int64 vs float for feature w."),
    ],
)
def test_specs_of_sequences_are_refused(context, lists, text):
    with pytest.raises(ExampleError) as caught:
        check_sequence_specs(context, lists)
    assert str(caught.value).startswith(text)


def test_every_kind_makes_a_spec():
    check_spec(EVERY_KIND)
    check_sequence_specs({"k": VarLenFeature(int)}, {"k": FixedLenSequenceFeature([], float)})


def test_the_keys_of_an_example():
    names = {key: dtype.name for key, dtype in example_dtypes(EVERY_KIND).items()}
    assert names == {
        "fixed": "string",
        "var": "float",
        "steps": "int64",
        "v": "float",
        "i": "int64",
        "j": "int64",
        "plain": "float",
        "w": "string",
        "p0": "int64",
        "p1": "int64",
        "p2": "int64",
        "p3": "int64",
        "p4": "int64",
    }


def test_the_tensors_of_each_kind():
    found = {
        tensor.name: (tensor.dtype.name, tensor.shape)
        for name in EVERY_KIND
        for tensor in tensors_of(name, EVERY_KIND[name])
    }
    assert found["fixed"] == ("string", ("batch", 2))
    assert found["var/values"] == ("float", ("batch", "var/longest"))
    assert found["var/lengths"] == ("int64", ("batch",))
    assert found["steps"] == ("int64", ("batch", "steps/longest", 3))
    assert found["sparse2/indices"] == ("int64", ("sparse2/count", 3))
    assert found["sparse2/dense_shape"] == ("int64", (3,))
    assert found["uniform/values"] == ("string", ("uniform/count", 2, 3))
    assert found["uniform/row_splits_1"] == ("int32", ("uniform/rows_1+1",))
    assert "uniform/row_splits_2" not in found
    assert found["ragged/row_splits_5"] == ("int32", ("ragged/rows_5+1",))


def test_the_tensors_of_feature_lists():
    kinds = {
        "s": FixedLenSequenceFeature([2], float),
        "t": VarLenFeature(str),
        "r": R(int, row_splits_dtype=dtypes.int64),
    }
    assert {tensor.name: tensor.shape for name in kinds for tensor in list_tensors_of(name, kinds[name])} == {
        "s": ("batch", "s/steps", 2),
        "s/lengths": ("batch",),
        "t/values": ("batch", "t/steps", "t/longest"),
        "t/lengths": ("batch", "t/steps"),
        "r/values": ("r/count",),
        "r/row_splits_0": ("batch+1",),
        "r/row_splits_1": ("r/rows_1+1",),
    }
    with pytest.raises(ExampleError, match="Unsupported FixedLenFeature"):
        list_tensors_of("x", FixedLenFeature([], float))
