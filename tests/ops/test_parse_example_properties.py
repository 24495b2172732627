"""ParseExample against the protobuf library, on bytes nobody thought of.

The oracle is a schema of the same wire format as tensorflow.Example with one difference: keys are `bytes`, because
protobuf refuses keys that are not UTF-8 and the op does not look.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature, encode_example

InvalidArgument = ort.capi.onnxruntime_pybind11_state.InvalidArgument

KINDS = {"bytes_list": "string", "float_list": "float", "int64_list": "int64"}
KEYS = ["a", "b", ""]
SPECS = {dtype: {key: VarLenFeature(dtype) for key in KEYS} for dtype in KINDS.values()}
OTHER_DTYPE = "Data types don't match. Expected type: "


@pytest.fixture(scope="module")
def parsers(parser):
    return {dtype: parser(spec) for dtype, spec in SPECS.items()}


@pytest.fixture(scope="module")
def oracle():
    """The message class of the schema above."""
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
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("oracle.Example"))


def expected_of(oracle, data: bytes) -> dict[str, tuple[str, list[Any]]] | None:
    """{key: (dtype, values)} of the features that are set; None where the bytes are no Example."""
    try:
        example = oracle.FromString(data)
    except DecodeError:
        return None
    last = {entry.key: entry.value for entry in example.features.feature}
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


def check_as_protobuf(parsers, rows_of, oracle, data: bytes) -> None:
    """Every spec of one dtype accepts what the oracle accepts, if the dtypes fit, and has the oracle's values."""
    expected = expected_of(oracle, data)
    for dtype, parse in parsers.items():
        if expected is None:
            with pytest.raises(InvalidArgument, match="Could not parse example input"):
                parse([data])
        elif any(found != dtype for found, _ in expected.values()):
            with pytest.raises(InvalidArgument, match=f"{OTHER_DTYPE}{dtype}"):
                parse([data])
        elif all(is_text(values) for _, values in expected.values()):
            parsed = parse([data])
            for key in KEYS:
                _, values = expected.get(key, (dtype, []))
                (row,) = rows_of(parsed, key)
                values = [value.decode() if isinstance(value, bytes) else value for value in values]
                np.testing.assert_array_equal(row, values)  # NaN equals NaN here


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
    check_as_protobuf(parsers, rows_of, oracle, data)


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
LISTS = fields(sub_message(1, PACKED), sub_message(1, TEXT.map(str.encode)))
FEATURES = fields(*(sub_message(number, LISTS) for number in (1, 2, 3)))
ENTRIES = fields(sub_message(1, st.sampled_from([key.encode() for key in KEYS])), sub_message(2, FEATURES))
WIRE = fields(sub_message(1, fields(sub_message(1, ENTRIES))))


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
