"""How an export is made and checked: the settings a user may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from estimator_serving.training.columns.onnx_export import OPSET
from estimator_serving.wire.signatures import PARITY_TOLERANCE

CPU = "CPUExecutionProvider"
OPSET_MIN = 19
"""The oldest ONNX opset whose operators can say what the graphs need."""
OPSET_MAX = 23
"""The newest that ONNX Runtime runs without restrictions."""


@dataclass(frozen=True)
class ExportOptions:
    """Settings of an export.

    Attributes:
        opset: the ONNX opset of the graph, 19 to 23, for a runtime that knows no newer one.
        external_data_min_bytes: weights that are larger together go to `model.onnx.data`; one file of protobuf holds
            less than 2 GB.
        parity_tolerance: execution provider -> how far its answers may be from the expected ones,
            |a - b| <= tolerance · max(1, |a|). What is not named keeps its default. The CPU's is that of the check at
            export, too.
        warmup_requests: how many sample requests a signature gets in the warmup file; 0 writes none.

    Raises ValueError for a value that cannot be.
    """

    opset: int = OPSET
    external_data_min_bytes: int = 1 << 30
    parity_tolerance: Mapping[str, float] = field(default_factory=lambda: PARITY_TOLERANCE)
    warmup_requests: int = 2

    def __post_init__(self) -> None:
        if not OPSET_MIN <= self.opset <= OPSET_MAX:
            raise ValueError(f"opset {self.opset} came; give one from {OPSET_MIN} to {OPSET_MAX}.")
        for provider, tolerance in self.parity_tolerance.items():
            if not tolerance >= 0:
                raise ValueError(f"The parity tolerance of {provider} is {tolerance}; give a number from 0 on.")
        if self.warmup_requests < 0 or self.external_data_min_bytes < 0:
            raise ValueError("warmup_requests and external_data_min_bytes count something; give numbers from 0 on.")
        object.__setattr__(self, "parity_tolerance", {**PARITY_TOLERANCE, **self.parity_tolerance})

    @property
    def tolerance(self) -> float:
        """What the check at export allows."""
        return self.parity_tolerance[CPU]


DEFAULT_OPTIONS = ExportOptions()
