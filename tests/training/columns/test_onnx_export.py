"""torch's exporter reads its operators once a process, and gives the graphs that it gives without that."""

import logging
import warnings
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.onnx._internal.exporter import _registration

from estimator_serving.training.columns import onnx_export

SHAPES = ({0: torch.export.Dim("n")},)


def program():
    return torch.export.export(torch.nn.Linear(3, 2), (torch.ones(4, 3),), dynamic_shapes=SHAPES)


def test_operators_are_read_once(monkeypatch):
    onnx_export.to_onnx(program())
    monkeypatch.setattr(_registration._torchlib_registry, "get_torchlib_ops", None)
    onnx_export.to_onnx(program())


def test_torch_keeps_its_own_function():
    own = vars(_registration.ONNXRegistry)["from_torchlib"]
    onnx_export.to_onnx(program())
    assert vars(_registration.ONNXRegistry)["from_torchlib"] is own


def test_threads_export_one_after_the_other():
    talkers = [logging.getLogger(name) for name in onnx_export._TALKERS]
    levels, own = [one.level for one in talkers], vars(_registration.ONNXRegistry)["from_torchlib"]
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(onnx_export.to_onnx, [program()] * 4)
    assert all(one == first for one in others)
    assert [one.level for one in talkers] == levels
    assert vars(_registration.ONNXRegistry)["from_torchlib"] is own


def test_a_torch_without_that_table_gives_the_same_graph(monkeypatch):
    traced = program()
    shared = onnx_export.to_onnx(traced)
    monkeypatch.setattr(onnx_export, "_operators", lambda registry: vars(registry)["another name"])
    with warnings.catch_warnings(action="error"):
        assert onnx_export.to_onnx(traced) == shared
