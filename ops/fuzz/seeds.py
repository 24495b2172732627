"""Writes the seed corpus of the fuzz target: `python ops/fuzz/seeds.py DIRECTORY`.

Each seed is what decode_example.cc expects: a byte that chooses the spec, a byte with the number of splits, the
splits, the values. The messages are put together field by field, because most of what is worth fuzzing no protobuf
library would write. What fuzzing found beside them lies in corpus.tar.xz, minimised, and is unpacked to the same place.
"""

from __future__ import annotations

import struct
import sys
import tarfile
from pathlib import Path

VARINT, FIXED64, BYTES, START_GROUP, END_GROUP, FIXED32 = range(6)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def tag(field: int, wire_type: int) -> bytes:
    return varint(field << 3 | wire_type)


def message(field: int, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return tag(field, BYTES) + varint(len(payload)) + payload


def entry(key: bytes, *feature: bytes) -> bytes:
    return message(1, message(1, key), message(2, *feature))


def floats(*values: float) -> bytes:
    return message(2, message(1, struct.pack(f"<{len(values)}f", *values)))


def ints(*values: int) -> bytes:
    return message(3, message(1, *map(varint, values)))


def strings(*values: bytes) -> bytes:
    return message(1, *(message(1, value) for value in values))


def feature_list(key: bytes, *steps: bytes) -> bytes:
    return message(1, message(1, key), message(2, *(message(1, step) for step in steps)))


FLOAT, INT, STRING = entry(b"f", floats(1.5)), entry(b"i", ints(-7)), entry(b"s", strings(b"a", b"\xff"))

EXAMPLES = {
    "empty": b"",
    "fixed": message(1, FLOAT, INT, STRING),
    "longer": message(
        1, entry(b"f", floats(1, 2, 3, 4)), entry(b"i", ints(1, 2, 1 << 40)), entry(b"s", strings(b"only"))
    ),
    "present_and_empty": message(1, entry(b"f", floats()), entry(b"i", ints()), entry(b"s", strings())),
    "kind_unset": message(1, entry(b"f"), entry(b"i"), message(1, message(1, b"s"))),
    "other_dtypes": message(1, entry(b"i", floats(1)), entry(b"s", ints(1)), entry(b"f", strings(b"1"))),
    "unpacked": message(
        1,
        entry(b"f", message(2, tag(1, FIXED32) + b"\0\0\x80?", message(1, b"\0\0\0@"))),
        entry(b"i", message(3, tag(1, VARINT) + varint(5), message(1, varint(6)))),
    ),
    "split": message(1, entry(b"f", floats(1), floats(2, 3), floats(4))) + message(1, INT),
    "twice": message(1, FLOAT, entry(b"f", floats(9)), entry(b"i", floats(1), ints(2), ints(3))),
    "value_before_key": message(1, message(1, message(2, floats(1)), message(1, b"x"), message(1, b"f"))),
    "unknown": message(9, b"?")
    + message(1, FLOAT, tag(7, FIXED64) + b"12345678")
    + tag(5, START_GROUP)
    + tag(2, VARINT)
    + b"\x01"
    + tag(6, START_GROUP)
    + tag(6, END_GROUP)
    + tag(5, END_GROUP),
    "partitions": message(
        1, entry(b"s", strings(b"a", b"b", b"c")), entry(b"i", ints(1, 2)), entry(b"j", ints(0, 0, 2))
    ),
    "wild_partitions": message(
        1, entry(b"s", strings(b"a", b"b")), entry(b"i", ints(-1, 9)), entry(b"j", ints(1 << 40, 1 << 63))
    ),
    "splits": message(1, entry(b"s", strings(b"a", b"b")), entry(b"i", ints(0, 1, 2)), entry(b"j", ints(1, 1))),
    "lists": message(1, FLOAT, INT)
    + message(
        2,
        feature_list(b"s", strings(b"a", b"b"), b"", strings()),
        feature_list(b"i", ints(1, 1), b"", ints(1)),
        feature_list(b"j", ints(0, 2), ints(0), b""),
        feature_list(b"f", floats(1), floats(2)),
    ),
    "lists_twice": message(2, feature_list(b"s", strings(b"a")))
    + message(2, message(1, message(1, b"s"), message(2, message(1, b"")), message(2, message(1, strings(b"b"))))),
    "lists_of_another_dtype": message(2, feature_list(b"s", strings(b"a"), ints(1)), feature_list(b"i", ints(1, 2))),
    "unknown_key": message(1, entry(b"other", strings(b"value")), entry(b"", ints(1))),
}


SPECS = 14
CORPUS = Path(__file__).with_name("corpus.tar.xz")


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(CORPUS) as corpus:
        corpus.extractall(directory, filter="data")
    for spec in range(SPECS):
        for name, example in EXAMPLES.items():
            batch = bytes([spec, 2, len(example) & 0xFF, len(example) & 0xFF]) + 2 * example
            (directory / f"{spec}_{name}").write_bytes(bytes([spec, 0]) + example)
            (directory / f"{spec}_{name}_batch").write_bytes(batch)
            (directory / f"{spec}_{name}_cut").write_bytes(bytes([spec, 0]) + example[:-1])
    (directory / "nonsense_splits").write_bytes(b"\0\x83\x00\x05\x02" + EXAMPLES["fixed"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
