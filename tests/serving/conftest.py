"""Models as ONNX text, written where a server looks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx.parser
import pytest

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
# Version N answers x + N.
ADD = "g (float[N] x) => (float[N] y) <float[1] v = {{{version}}}> {{ y = Add(x, v) }}"

WriteModel = Callable[..., Path]


@pytest.fixture
def base_path(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    return path


@pytest.fixture
def write_model(base_path: Path) -> WriteModel:
    """Writes one version as an exporter does, aside and renamed, and returns its directory."""

    def write(version: int, text: str = ADD, **properties: str) -> Path:
        aside = base_path / f"temp-{version}"
        aside.mkdir()
        model = onnx.parser.parse_model(HEAD + text.format(version=version))
        for key, value in properties.items():
            model.metadata_props.add(key=key, value=value)
        (aside / "model.onnx").write_bytes(model.SerializeToString())
        return aside.rename(base_path / str(version))

    return write
