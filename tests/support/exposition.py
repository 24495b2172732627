"""Prometheus' text, as a scrape reads it: names and labels to values."""

from prometheus_client.parser import text_string_to_metric_families

from estimator_serving.serving.metrics import Exposition


def samples(*collectors, **settings):
    # The library's parser, unlike Prometheus, renames a counter that does not end in _total.
    text = Exposition(*collectors, **settings).render().decode().replace(" counter\n", " untyped\n")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
