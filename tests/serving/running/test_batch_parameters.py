import logging

import pytest

from estimator_serving.serving.running import batch_parameters
from estimator_serving.serving.running.batch_parameters import BatchParameters, BatchParametersError

EVERY_KNOB = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 1500 }
max_enqueued_batches { value: 7 }
num_batch_threads { value: 3 }
thread_pool_name { value: "pool" }
allowed_batch_sizes: 8
allowed_batch_sizes: 64
pad_variable_length_inputs: true
enable_large_batch_splitting { value: true }
max_execution_batch_size { value: 64 }
padding_value: -1
"""


def test_every_knob():
    assert batch_parameters.parse(EVERY_KNOB, "f") == BatchParameters(
        max_batch_size=128, batch_timeout_s=0.0015, max_enqueued_batches=7, num_batch_threads=3,
        thread_pool_name="pool", allowed_batch_sizes=(8, 64), pad_variable_length_inputs=True,
        enable_large_batch_splitting=True, max_execution_batch_size=64, padding_value=-1.0,
    )  # fmt: skip


def test_defaults_are_tensorflow_servings():
    parameters = batch_parameters.parse("", "f")
    assert (parameters.max_batch_size, parameters.max_enqueued_batches, parameters.batch_timeout_s) == (1000, 10, 0)
    assert parameters.thread_pool_name == "model_server_batch_threads"
    assert parameters.num_batch_threads >= 1
    assert parameters.padding_value is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("max_batch_size: 3", "f:1:17: "),
        ("max_batch_size { value: 0 }", "f: Batching parameters cannot be used: max_batch_size is 0; give"),
        ("max_enqueued_batches { value: -1 }", "max_enqueued_batches is -1; give"),
        ("num_batch_threads { value: 0 }", "num_batch_threads is 0; give"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros is -1; give 0"),
        ("allowed_batch_sizes: 4", "must be equal to max_batch_size; it is 4 and max_batch_size is 1000"),
        ("allowed_batch_sizes: 1000 allowed_batch_sizes: 1000", "monotonically increasing order"),
        ("allowed_batch_sizes: 0 allowed_batch_sizes: 1000", "monotonically increasing order"),
        ("max_execution_batch_size { value: 1001 }", "up to max_batch_size, which is 1000"),
        ("max_execution_batch_size { value: 0 }", "leave it out instead"),
        (
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 8 } "
            "allowed_batch_sizes: 1000",
            "must be equal to max_execution_batch_size; it is 1000",
        ),
    ],
)
def test_refused(text, sentence):
    with pytest.raises(BatchParametersError) as raised:
        batch_parameters.parse(text, "f")
    assert sentence in str(raised.value)


WRAPPED = (
    "allowed_batch_sizes, pad_variable_length_inputs and padding_value take plain values, as in allowed_batch_sizes: "
    "64; the others are wrapped, as in max_batch_size { value: 128 }."
)


@pytest.mark.parametrize("text", ["allowed_batch_sizes { value: 64 }", "max_batch_size: 3"])
def test_text_that_cannot_be_parsed_is_answered_with_both_kinds_of_fields(text):
    with pytest.raises(BatchParametersError) as raised:
        batch_parameters.parse(text, "f")
    assert str(raised.value).endswith(f"Invalid protobuf file: 'f'; correct it there. {WRAPPED}")


def test_an_unknown_field_is_answered_with_the_known_ones():
    with pytest.raises(BatchParametersError) as raised:
        batch_parameters.parse("foo: 3", "f")
    assert 'has no field named "foo"; its fields are allowed_batch_sizes, batch_timeout_micros, ' in str(raised.value)
    assert WRAPPED not in str(raised.value)


def test_without_splitting_the_execution_size_says_nothing(caplog):
    with caplog.at_level(logging.WARNING):
        parameters = batch_parameters.parse("max_execution_batch_size { value: 8 }", "f")
    assert parameters.batch_rows_max == 1000
    assert "has no effect without enable_large_batch_splitting" in caplog.text


@pytest.mark.parametrize(("rows", "padded"), [(1, 8), (8, 8), (9, 64), (64, 64)])
def test_padded_rows(rows, padded):
    assert batch_parameters.parse(EVERY_KNOB, "f").padded_rows(rows) == padded


def test_a_versions_own(tmp_path):
    common = BatchParameters(num_batch_threads=5, thread_pool_name="shared", max_batch_size=3)
    assert batch_parameters.of_version(tmp_path, common) is None
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 16 }")
    own = batch_parameters.of_version(tmp_path, common)
    assert own == BatchParameters(num_batch_threads=5, thread_pool_name="shared", max_batch_size=16)


def test_a_versions_own_that_cannot_be_read(tmp_path):
    (tmp_path / "batching_params.pbtxt").write_bytes(b"\xff")
    with pytest.raises(BatchParametersError, match="cannot be read"):
        batch_parameters.of_version(tmp_path, BatchParameters())
