"""Files of records under tf.io's names, and Examples under tf.train's."""

import pytest

from estimator_serving.training import io, train
from estimator_serving.wire.examples import decode_example


@pytest.mark.parametrize("options", [None, "GZIP"])
def test_records_that_are_written_are_read(options, tmp_path):
    features = {"age": train.Feature(int64_list=train.Int64List(value=[3]))}
    example = train.Example(features=train.Features(feature=features)).SerializeToString()
    with io.TFRecordWriter(tmp_path / "records", options) as writer:
        writer.write(example)
        writer.flush()
        writer.write(b"second")
    assert [*io.tf_record_iterator(tmp_path / "records", options)] == [example, b"second"]
    assert decode_example(example) == {"age": [3]}


def test_another_compression_is_refused(tmp_path):
    for call in io.TFRecordWriter, io.tf_record_iterator:
        with pytest.raises(ValueError, match="'ZLIB' is not known; give None or 'GZIP'"):
            call(tmp_path / "records", "ZLIB")
