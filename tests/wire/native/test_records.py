"""TFRecord's frames by the compiled codec: whole records, pieces, checksums, and bytes of any kind."""

import google_crc32c
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.wire import native
from estimator_serving.wire.ragged import RaggedBytes
from estimator_serving.wire.records import frame_record, masked_crc32c


@given(st.binary(max_size=200))
def test_both_checksums_are_crc32c(data):
    assert native.crc32c(data) == native.crc32c(data, True) == google_crc32c.value(data)


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(0, 300))
def test_the_whole_records_of_a_piece_are_read(records, cut):
    frames = [frame_record(record) for record in records]
    ends = np.cumsum([len(frame) for frame in frames]).tolist()
    piece = b"".join(frames)[:cut]
    whole = sum(end <= len(piece) for end in ends)
    rows, consumed, next_bytes, fault = native.read_frames(piece)
    assert list(RaggedBytes.from_native(rows)) == records[:whole]
    assert (consumed, fault) == ([0, *ends][whole], 0)
    behind = len(piece) - consumed
    assert next_bytes == (0 if not behind else 12 if behind < 12 else len(frames[whole]))


@given(st.binary(max_size=60))
def test_any_bytes_end_in_an_answer(data):
    rows, consumed, _, fault = native.read_frames(data)
    assert consumed == sum(len(row) + 16 for row in RaggedBytes.from_native(rows))
    assert fault in (0, 1, 2)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=20))
def test_any_length_with_its_checksum_ends_in_an_answer(length, behind):
    header = length.to_bytes(8, "little")
    piece = header + masked_crc32c(header).to_bytes(4, "little") + behind
    _, consumed, next_bytes, fault = native.read_frames(piece)
    if length + 16 > len(piece):
        assert (consumed, next_bytes, fault) == (0, min(length + 16, 2**64 - 1), 0)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_changed_byte_is_found(record, data):
    frame = bytearray(frame_record(record))
    place = data.draw(st.integers(0, len(frame) - 1))
    frame[place] ^= data.draw(st.integers(1, 255))
    assert native.read_frames(frame)[3] == (1 if place < 12 else 2)
