"""TFRecord framing: the round trip, and every way a file can be cut or changed."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.wire.records import RecordError, frame_record, masked_crc32c, read_records, write_records


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_round_trip(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("records") / "x.tfrecord"
    write_records(path, records)
    assert list(read_records(path)) == records


def test_bytes_on_disk(tmp_path):
    """One record b'abc', as TensorFlow 2.15's TFRecordWriter writes it."""
    write_records(tmp_path / "x", [b"abc"])
    assert (tmp_path / "x").read_bytes().hex() == EXPECTED


EXPECTED = "0300000000000000b099490e6162636e57f121"


def test_the_mask_is_tensorflows():
    # CRC32C of b"123456789" is 0xe3069283; rotated and shifted by hand.
    assert masked_crc32c(b"123456789") == (((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("length", [1, 11, 12, 14, 18])
def test_a_cut_file_is_refused(tmp_path, length):
    write_records(tmp_path / "x", [b"abc"])
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:length])
    with pytest.raises(RecordError, match="ends inside the record at byte 0"):
        list(read_records(tmp_path / "x"))


@pytest.mark.parametrize(("index", "text"), [(0, "not a TFRecord file"), (8, "not a TFRecord file"), (12, "changed")])
def test_a_changed_byte_is_found(tmp_path, index, text):
    write_records(tmp_path / "x", [b"abc"])
    content = bytearray((tmp_path / "x").read_bytes())
    content[index] ^= 1
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(RecordError, match=text):
        list(read_records(tmp_path / "x"))


@pytest.mark.parametrize("is_gzip", [False, True])
def test_records_larger_than_a_piece(tmp_path, is_gzip):
    records = [b"a" * 700_000, b"", b"b" * 262_144, b"c", b"d" * 300_000]
    whole = b"".join(map(frame_record, records))
    # A gzip file may have several members.
    (tmp_path / "x").write_bytes(gzip.compress(whole[:1000]) + gzip.compress(whole[1000:]) if is_gzip else whole)
    assert list(read_records(tmp_path / "x", is_gzip=is_gzip)) == records


def test_a_large_file_that_was_cut_gives_its_whole_records(tmp_path):
    frame = frame_record(bytes(1000))
    (tmp_path / "x").write_bytes((frame * 900)[:-1])
    records = read_records(tmp_path / "x")
    assert [len(next(records)) for _ in range(899)] == [1000] * 899
    with pytest.raises(RecordError, match=f"ends inside the record at byte {899 * len(frame)}"):
        next(records)


def test_a_length_beyond_the_file_reads_nothing(tmp_path):
    length = (2**60).to_bytes(8, "little")
    (tmp_path / "x").write_bytes(length + masked_crc32c(length).to_bytes(4, "little") + b"abc")
    with pytest.raises(RecordError, match="ends inside"):
        list(read_records(tmp_path / "x"))
