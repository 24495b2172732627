"""What the process of a server sets for its libraries."""

import importlib
import os

import pytest

from estimator_serving.serving import process


@pytest.mark.parametrize(("chosen", "read"), [(None, "-event_engine_listener"), ("work_serializer", "work_serializer")])
def test_grpc_reads_on_the_thread_of_the_queue_unless_told_otherwise(monkeypatch, chosen, read):
    monkeypatch.setenv("GRPC_EXPERIMENTS", "")  # so that it is put back
    monkeypatch.delenv("GRPC_EXPERIMENTS")
    if chosen:
        monkeypatch.setenv("GRPC_EXPERIMENTS", chosen)
    importlib.reload(process)
    assert os.environ["GRPC_EXPERIMENTS"] == read
