import pytest
from prometheus_client.parser import text_string_to_metric_families

from estimator_serving.serving.errors import Code
from estimator_serving.serving.metrics import BUCKETS_US, Exposition, RequestMetrics


def samples(requests):
    text = Exposition(requests).render().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counts():
    requests = RequestMetrics()
    for code in (Code.OK, Code.OK, Code.NOT_FOUND):
        requests.observe("m", "Predict", "REST", code, 0.001)
    requests.observe("m", "Predict", "GRPC", Code.OK, 0.001)
    found = samples(requests)
    assert found[":tensorflow:serving:request_count", ("model_name", "m"), ("status", "OK")] == 3
    assert found[":tensorflow:serving:request_count", ("model_name", "m"), ("status", "NOT_FOUND")] == 1
    labels = (("API", "Predict"), ("entrypoint", "REST"), ("model_name", "m"))
    assert found[":tensorflow:serving:request_latency_count", *labels] == 2
    assert found[":tensorflow:serving:request_latency_sum", *labels] == pytest.approx(2000)


@pytest.mark.parametrize(("elapsed_us", "index"), [(1, 0), (10, 0), (11, 1), (BUCKETS_US[-1] * 2, 33)])
def test_buckets_hold_their_limit(elapsed_us, index):
    requests = RequestMetrics()
    requests.observe("m", "Predict", "REST", Code.OK, elapsed_us / 1e6)
    bounds = [*(f"{bound:g}" for bound in BUCKETS_US), "+Inf"]
    labels = (("API", "Predict"), ("entrypoint", "REST"))
    counts = [
        samples(requests)[":tensorflow:serving:request_latency_bucket", *labels, ("le", bound), ("model_name", "m")]
        for bound in bounds
    ]
    assert counts == [0.0] * index + [1.0] * (34 - index)


def test_odd_labels_are_legal_text():
    requests = RequestMetrics()
    requests.observe('a"\\\n', "Predict", "REST", Code.OK, 1)
    assert samples(requests)[":tensorflow:serving:request_count", ("model_name", 'a"\\\n'), ("status", "OK")] == 1
