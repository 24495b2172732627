"""ParseExample and ParseSequenceExample against the protobuf library, on bytes nobody thought of.

The oracle is a schema of the same wire format as tensorflow.Example with one difference: keys are `bytes`, because
protobuf refuses keys that are not UTF-8 and the op does not look.
"""

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.wire.examples import (
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    SparseFeature,
    VarLenFeature,
    encode_example,
    encode_sequence_example,
)

InvalidArgument = ort.capi.onnxruntime_pybind11_state.InvalidArgument

KINDS = {"bytes_list": "string", "float_list": "float", "int64_list": "int64"}
KEYS = ["a", "b", ""]
SPECS = {dtype: {key: VarLenFeature(dtype) for key in KEYS} for dtype in KINDS.values()}
OTHER_DTYPE = "Data types don't match. Expected type: "


STEPS = {key: VarLenFeature("int64") for key in KEYS}
# All kinds that are made of int64 columns, and what the oracle's values of one row make of them.
COMPOSITES = {
    "sequence": FixedLenSequenceFeature([2], "int64", allow_missing=True),
    "sparse": SparseFeature("b", "a", "int64", 10),
    "plain": RaggedFeature("int64", "a"),
    "lengths": RaggedFeature("int64", "a", [RaggedFeature.RowLengths("b")]),
    "starts": RaggedFeature("int64", "a", [RaggedFeature.RowStarts("b")]),
    "limits": RaggedFeature("int64", "a", [RaggedFeature.RowLimits("b")]),
    "splits": RaggedFeature("int64", "a", [RaggedFeature.RowSplits("b")]),
    "ids": RaggedFeature("int64", "a", [RaggedFeature.ValueRowIds("b")]),
    "pairs": RaggedFeature("int64", "a", [RaggedFeature.UniformRowLength(2)]),
    "nested": RaggedFeature("int64", "a", [RaggedFeature.RowLengths(""), RaggedFeature.RowLimits("b")]),
    "pairs of rows": RaggedFeature("int64", "a", [RaggedFeature.UniformRowLength(2), RaggedFeature.RowLengths("b")]),
}
SEQUENCE_KEY = "a"


@pytest.fixture(scope="module")
def parsers(parser):
    return {dtype: parser(spec) for dtype, spec in SPECS.items()}


@pytest.fixture(scope="module")
def composites(parser):
    return {
        name: parser({SEQUENCE_KEY if name == "sequence" else "x": feature}) for name, feature in COMPOSITES.items()
    }


@pytest.fixture(scope="module")
def sequence_parser(parser):
    return parser(SPECS["int64"], STEPS)


@pytest.fixture(scope="module")
def oracle():
    """The message classes of the schema above."""
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="oracle.proto", package="oracle", syntax="proto3")

    def add(name: str, *fields: tuple[str, int, str, bool], oneof: bool = False) -> None:
        message = file.message_type.add(name=name)
        if oneof:
            message.oneof_decl.add(name="kind")
        for field_name, number, kind, repeated in fields:
            field = message.field.add(name=field_name, number=number)
            field.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if hasattr(field_type, f"TYPE_{kind.upper()}"):
                field.type = getattr(field_type, f"TYPE_{kind.upper()}")
            else:
                field.type, field.type_name = field_type.TYPE_MESSAGE, f".oracle.{kind}"
            if oneof:
                field.oneof_index = 0

    add("BytesList", ("value", 1, "bytes", True))
    add("FloatList", ("value", 1, "float", True))
    add("Int64List", ("value", 1, "int64", True))
    add(
        "Feature",
        ("bytes_list", 1, "BytesList", False),
        ("float_list", 2, "FloatList", False),
        ("int64_list", 3, "Int64List", False),
        oneof=True,
    )
    add("Entry", ("key", 1, "bytes", False), ("value", 2, "Feature", False))
    add("Features", ("feature", 1, "Entry", True))
    add("Example", ("features", 1, "Features", False))
    add("FeatureList", ("feature", 1, "Feature", True))
    add("ListEntry", ("key", 1, "bytes", False), ("value", 2, "FeatureList", False))
    add("FeatureLists", ("feature_list", 1, "ListEntry", True))
    add("SequenceExample", ("context", 1, "Features", False), ("feature_lists", 2, "FeatureLists", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("Example", "SequenceExample")
    return SimpleNamespace(
        **{name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"oracle.{name}")) for name in names}
    )


def expected_of(oracle, data: bytes) -> dict[str, tuple[str, list[Any]]] | None:
    """{key: (dtype, values)} of the features that are set; None where the bytes are no Example."""
    try:
        return features_of(oracle.Example.FromString(data).features)
    except DecodeError:
        return None


def features_of(features) -> dict[str, tuple[str, list[Any]]]:
    last = {entry.key: entry.value for entry in features.feature}
    found = {}
    for key in KEYS:
        kind = last[key.encode()].WhichOneof("kind") if key.encode() in last else None
        if kind:
            found[key] = (KINDS[kind], list(getattr(last[key.encode()], kind).value))
    return found


def is_text(values: Sequence[Any]) -> bool:
    """ONNX Runtime's Python hands out strings that are UTF-8 only."""
    try:
        return all(value.decode() is not None for value in values if isinstance(value, bytes))
    except UnicodeDecodeError:
        return False


def is_plain(oracle, data: bytes) -> bool:
    """Whether an Example is as libraries write it. Only another one may be refused although protobuf accepts it."""
    message = oracle.Example.FromString(data)
    message.DiscardUnknownFields()
    are_whole = all(entry.key and entry.HasField("value") for entry in message.features.feature)
    return are_whole and len(message.SerializeToString()) == len(data)


def check_as_protobuf(parsers, rows_of, oracle, data: bytes) -> None:
    """Every spec of one dtype accepts what the oracle accepts, if the dtypes fit, and has the oracle's values.

    It may refuse what TensorFlow refuses; see `is_plain`.
    """
    expected = expected_of(oracle, data)
    for dtype, parse in parsers.items():
        fits = expected is not None and all(found == dtype for found, _ in expected.values())
        if not fits:
            with pytest.raises(InvalidArgument):
                parse([data])
        elif all(is_text(values) for _, values in expected.values()):
            try:
                parsed = parse([data])
            except InvalidArgument:
                assert not is_plain(oracle, data)
                continue
            for key in KEYS:
                _, values = expected.get(key, (dtype, []))
                (row,) = rows_of(parsed, key)
                values = [value.decode() if isinstance(value, bytes) else value for value in values]
                np.testing.assert_array_equal(row, values)  # NaN equals NaN here


# ---- features of several columns ------------------------------------------------------------------------------------


class RefusedError(Exception):
    pass


def cut(kind: str, numbers: list[int], items: int) -> list[range]:
    """The inner rows of one row, each as the items in it. What does not fit is put right as the op promises."""
    if kind == "ids":
        if len(numbers) != items or any(number < 0 for number in numbers) or max(numbers, default=0) >= 1 << 22:
            raise RefusedError
        counts = [numbers.count(row) for row in range(max(numbers, default=-1) + 1)]
        return cut("lengths", counts, items)
    if kind == "starts":
        limits = [*numbers[1:], items] if numbers else []
    elif kind == "splits":
        limits = numbers[1:]
    else:
        limits = numbers
    rows, at = [], max(0, min(numbers[0], items)) if kind == "starts" and numbers else 0
    for number in limits:
        end = at + max(0, min(number, items - at)) if kind == "lengths" else max(at, min(number, items))
        rows.append(range(at, end))
        at = end
    return rows


def expected_rows(name: str, a: list[int], b: list[int], outer: list[int]) -> Any:
    """One row of a composite as nested lists."""
    if name == "sequence":
        if len(a) % 2:
            raise RefusedError
        return a
    if name == "sparse":
        if len(a) != len(b):
            raise RefusedError
        return sorted(zip(b, a, strict=True), key=lambda pair: pair[0])
    if name == "plain":
        return a
    if name == "pairs":
        if len(a) % 2:
            raise RefusedError
        return [a[i : i + 2] for i in range(0, len(a), 2)]
    if name in ("nested", "pairs of rows"):
        inner = [[a[i] for i in row] for row in cut("limits" if name == "nested" else "lengths", b, len(a))]
        lengths = outer if name == "nested" else [2] * (len(inner) // 2)
        return [[inner[i] for i in row] for row in cut("lengths", lengths, len(inner))]
    return [[a[i] for i in row] for row in cut(name, b, len(a))]


def found_rows(name: str, parsed: dict[str, Any]) -> Any:
    """The only row of the batch, as nested lists."""
    if name == "sequence":
        return parsed["a"][0].ravel().tolist()
    if name == "sparse":
        return list(zip(parsed["x/indices"][:, 1].tolist(), parsed["x/values"].tolist(), strict=True))
    rows = parsed["x/values"].tolist()
    levels = sorted((key for key in parsed if "row_splits" in key), reverse=True)
    for level in levels:
        splits = parsed[level].tolist()
        rows = [rows[begin:end] for begin, end in pairwise(splits)]
    return rows[0]


def check_composites(composites, oracle, data: bytes) -> None:
    expected = expected_of(oracle, data)
    if expected is None or any(dtype != "int64" for dtype, _ in expected.values()):
        return
    a, b, outer = ([*map(int, expected.get(key, ("", []))[1])] for key in ("a", "b", ""))
    for name, parse in composites.items():
        if name == "ids" and 1000 < max(b, default=0) < 1 << 22:
            continue  # millions of empty rows, which the op makes and Python takes seconds to count
        try:
            rows = expected_rows(name, a, b, outer)
        except RefusedError:
            with pytest.raises(InvalidArgument):
                parse([data])
        else:
            try:
                found = found_rows(name, parse([data]))
            except InvalidArgument:
                assert not is_plain(oracle, data)
            else:
                assert found == rows, name


SMALL = st.integers(-2, 5)


@given(st.fixed_dictionaries({key: st.lists(SMALL, max_size=6) for key in KEYS}))
def test_composites_of_small_numbers(composites, oracle, values):
    check_composites(composites, oracle, encode_example(values))


@given(st.lists(st.fixed_dictionaries({key: st.lists(SMALL, max_size=4) for key in KEYS}), min_size=2, max_size=4))
def test_rows_do_not_reach_into_each_other(composites, values):
    examples = [encode_example(one) for one in values]
    for name, parse in composites.items():
        alone = []
        for example in examples:
            try:
                alone.append(found_rows(name, parse([example])))
            except InvalidArgument:
                break
        if len(alone) < len(examples):
            with pytest.raises(InvalidArgument):
                parse(examples)
        elif name not in ("sequence", "sparse"):
            together = parse(examples)
            rows = together["x/values"].tolist()
            for level in sorted((key for key in together if "row_splits" in key), reverse=True):
                rows = [rows[begin:end] for begin, end in pairwise(together[level].tolist())]
            assert rows == alone


# ---- SequenceExamples -----------------------------------------------------------------------------------------------


def check_sequence(parse, oracle, data: bytes) -> None:
    try:
        example = oracle.SequenceExample.FromString(data)
    except DecodeError:
        with pytest.raises(InvalidArgument, match="Invalid protocol message input"):
            parse([data])
        return
    context = features_of(example.context)
    last = {entry.key: entry.value for entry in example.feature_lists.feature_list}
    steps = {
        key: [step.WhichOneof("kind") for step in last[key.encode()].feature] for key in KEYS if key.encode() in last
    }
    kinds = [*(dtype for dtype, _ in context.values()), *(KINDS[one] for each in steps.values() for one in each if one)]
    if any(kind != "int64" for kind in kinds):
        with pytest.raises(InvalidArgument, match=r"Data types don't match. Expected type: int64"):
            parse([data])
        return
    parsed = parse([data])
    for key in KEYS:
        lengths = parsed[f"lists/{key}/lengths"][0]
        rows = [row[:length].tolist() for row, length in zip(parsed[f"lists/{key}/values"][0], lengths, strict=True)]
        assert (
            rows == [list(step.int64_list.value) for step in last[key.encode()].feature] if key in steps else not rows
        )
        assert parsed[f"{key}/values"][0].tolist() == context.get(key, ("", []))[1]


STEP_LISTS = st.dictionaries(st.sampled_from(KEYS), st.lists(st.lists(SMALL, max_size=3), max_size=3))
SEQUENCES = st.builds(
    encode_sequence_example, st.dictionaries(st.sampled_from(KEYS), st.lists(SMALL, max_size=3)), STEP_LISTS
)


@given(SEQUENCES)
def test_sequence_examples_as_protobuf(sequence_parser, oracle, data):
    check_sequence(sequence_parser, oracle, data)


# ---- ordinary Examples --------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=8),
    st.lists(st.floats(width=32), max_size=8),
    st.lists(TEXT, max_size=8),
)
EXAMPLES = st.dictionaries(st.one_of(st.sampled_from(KEYS), TEXT), VALUES, max_size=6).map(encode_example)


@given(EXAMPLES)
def test_examples_as_protobuf(parsers, rows_of, oracle, data):
    """Never refused, if the dtypes fit, although an empty key is not what `is_plain` takes."""
    check_as_protobuf(parsers, rows_of, oracle, data)
    dtypes = {dtype for dtype, _ in expected_of(oracle, data).values()}
    for dtype in dtypes if len(dtypes) == 1 else ():
        parsers[dtype]([data])


@given(st.lists(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=2, max_size=2), max_size=5))
def test_fixed_len_batches(parser, rows):
    parsed = parser({"a": FixedLenFeature([2], "int64")})([encode_example({"a": row}) for row in rows])
    assert parsed["a"].tolist() == rows


# ---- bytes with the shape of protobuf -----------------------------------------------------------------------------


def varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def delimited(field: int, payload: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def group(field: int, payload: bytes) -> bytes:
    return varint(field << 3 | 3) + payload + varint(field << 3 | 4)


FIELD_NUMBERS = st.integers(1, 5)
SCALAR_FIELDS = st.one_of(
    st.builds(lambda field, value: varint(field << 3) + varint(value), FIELD_NUMBERS, st.integers(0, (1 << 64) - 1)),
    st.builds(lambda field, value: varint(field << 3 | 1) + value, FIELD_NUMBERS, st.binary(min_size=8, max_size=8)),
    st.builds(lambda field, value: varint(field << 3 | 5) + value, FIELD_NUMBERS, st.binary(min_size=4, max_size=4)),
)


def fields(*known: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """The bytes of a message: its known fields in any order and number, among them what does not belong there."""
    unknown = st.one_of(SCALAR_FIELDS, st.builds(group, FIELD_NUMBERS, SCALAR_FIELDS))
    return st.lists(st.one_of(*known, *known, *known, unknown), max_size=4).map(b"".join)


def sub_message(field: int, payload: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return payload.map(lambda data: delimited(field, data))


PACKED = st.one_of(
    st.lists(st.integers(0, (1 << 64) - 1).map(varint), max_size=4).map(b"".join),
    st.lists(st.binary(min_size=4, max_size=4), max_size=3).map(b"".join),
    st.binary(max_size=6),
)
NUMBER_LISTS = fields(sub_message(1, st.lists(st.integers(0, 7).map(varint), max_size=4).map(b"".join)))
LISTS = fields(sub_message(1, PACKED), sub_message(1, TEXT.map(str.encode)))
FEATURES = fields(*(sub_message(number, LISTS) for number in (1, 2, 3)))
ENTRIES = fields(sub_message(1, st.sampled_from([key.encode() for key in KEYS])), sub_message(2, FEATURES))
WIRE = fields(sub_message(1, fields(sub_message(1, ENTRIES))))
KEY_FIELDS = sub_message(1, st.sampled_from([key.encode() for key in KEYS]))
NUMBER_ENTRIES = fields(KEY_FIELDS, sub_message(2, fields(sub_message(3, NUMBER_LISTS))))
NUMBERS_WIRE = fields(sub_message(1, fields(sub_message(1, NUMBER_ENTRIES))))
STEPS_WIRE = fields(
    sub_message(2, fields(sub_message(3, NUMBER_LISTS)).flatmap(lambda one: fields(st.just(delimited(1, one)))))
)
SEQUENCE_WIRE = fields(
    sub_message(1, fields(sub_message(1, NUMBER_ENTRIES))),
    sub_message(2, fields(sub_message(1, fields(KEY_FIELDS, STEPS_WIRE)))),
)


@given(WIRE)
def test_any_fields_as_protobuf(parsers, rows_of, oracle, data):
    check_as_protobuf(parsers, rows_of, oracle, data)


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    data = bytearray(draw(source))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["set", "insert", "delete", "cut"])):
            case "set" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=4))
            case "delete":
                del data[at : at + draw(st.integers(1, 4))]
            case "cut":
                del data[at:]
    return bytes(data)


@given(st.one_of(mutated(EXAMPLES), mutated(WIRE), st.binary(max_size=64)))
def test_mutated_bytes_as_protobuf(parsers, rows_of, oracle, data):
    check_as_protobuf(parsers, rows_of, oracle, data)


@given(st.one_of(NUMBERS_WIRE, mutated(NUMBERS_WIRE)))
def test_composites_of_any_fields(composites, oracle, data):
    check_composites(composites, oracle, data)


@given(st.one_of(SEQUENCE_WIRE, mutated(SEQUENCE_WIRE), mutated(SEQUENCES)))
def test_any_sequence_fields_as_protobuf(sequence_parser, oracle, data):
    check_sequence(sequence_parser, oracle, data)
