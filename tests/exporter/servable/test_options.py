"""Options of an export: their bounds and defaults."""

import pytest

from estimator_serving.exporter import ExportOptions
from estimator_serving.exporter.servable.options import DEFAULT_OPTIONS, OPSET_MAX, OPSET_MIN


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"opset": 11}, "opset 11 came; give one from 19 to 23."),
        ({"opset": 24}, "opset 24 came; give one from 19 to 23."),
        ({"parity_tolerance": {"CPUExecutionProvider": -1}}, "parity tolerance of CPUExecutionProvider is -1"),
        ({"parity_tolerance": {"CPUExecutionProvider": float("nan")}}, "is nan; give a number"),
        (
            {"warmup_requests": -1},
            "warmup_requests and external_data_min_bytes count something; give numbers",
        ),
        ({"external_data_min_bytes": -1}, "numbers from 0 on"),
    ],
)
def test_options_that_cannot_be(options, text):
    with pytest.raises(ValueError, match=text):
        ExportOptions(**options)


@pytest.mark.parametrize("opset", [OPSET_MIN, OPSET_MAX])
def test_the_bounds_are_allowed(opset):
    options = ExportOptions(opset, external_data_min_bytes=0, warmup_requests=0)
    assert (options.opset, options.tolerance) == (opset, 1e-5)


def test_a_provider_that_is_not_named_keeps_its_tolerance():
    options = ExportOptions(parity_tolerance={"CPUExecutionProvider": 0.5})
    assert options.tolerance == 0.5
    assert (
        options.parity_tolerance["CUDAExecutionProvider"] == DEFAULT_OPTIONS.parity_tolerance["CUDAExecutionProvider"]
    )
