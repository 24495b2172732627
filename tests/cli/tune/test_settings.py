"""Settings as the server reads them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_serving.cli.tune.settings import STAGES, Batching, Setting, Space, with_queue_for
from estimator_serving.serving import config
from estimator_serving.serving.running import batch_parameters

COUNTS = st.integers(1, 5000)
BATCHINGS = st.builds(Batching, COUNTS, st.integers(0, 100_000), st.integers(0, 64), COUNTS)
SETTINGS = st.builds(Setting, st.integers(0, 64), st.integers(0, 64), st.none() | BATCHINGS)
SPACES = st.builds(Space, st.integers(1, 256), st.booleans(), st.booleans(), st.integers(1, 3000), st.integers(1, 512))


@given(BATCHINGS)
def test_the_server_reads_the_parameters_as_they_are_meant(batching):
    read = batch_parameters.parse(batching.as_text(), "file")
    assert read.batch_rows_max == batching.rows_max
    assert read.max_enqueued_batches == batching.queue
    assert round(read.batch_timeout_s * 1e6) == batching.timeout_micros
    assert read.num_batch_threads == (batching.threads or config.cpus())
    # A request that was served before is served with any of these, too.
    assert read.max_batch_size >= batch_parameters.BatchParameters().max_batch_size


@settings(max_examples=20)
@given(SETTINGS)
def test_the_server_takes_the_flags(setting):
    words = [f"--{name}={value}" for name, value in setting.flags("parameters.txt").items()]
    read = config.parse([*words, "--model_base_path=m"], {})
    assert read.tensorflow_intra_op_parallelism == setting.threads
    assert read.worker_processes == setting.workers
    assert read.enable_batching == (setting.batching is not None)


def test_the_defaults_have_no_flags():
    assert Setting().flags("f") == {}
    assert str(Setting()) == "defaults"


@given(SPACES, st.floats(0.001, 1))
def test_stages_stay_within_the_machine_and_the_requests(space, latency_s):
    tuned = Setting(batching=Batching(rows_max=max(1000, space.rows)))
    for best in (Setting(), Setting(threads=1), tuned):
        for setting in (setting for stage in STAGES for setting in stage(best, space, latency_s)):
            assert max(setting.threads, setting.workers) <= space.cores
            assert setting.batching is None or space.rows <= setting.batching.rows_max
            assert setting.batching is None or setting.batching.timeout_micros <= latency_s * 1e6 / 4


@given(BATCHINGS, COUNTS, st.integers(1, 100))
def test_a_queue_for_rows_takes_no_more_than_before(batching, rows, rows_of_request):
    bounded = with_queue_for(Setting(batching=batching), rows, rows_of_request).batching
    assert bounded.queue <= batching.queue
    assert bounded.rows_max <= batching.rows_max
    assert bounded.rows_max >= min(rows_of_request, batching.rows_max)
