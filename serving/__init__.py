"""The model server: TensorFlow Serving's API over ONNX Runtime. Knows servables on disk, never how they were made.

`load(path)` gives a servable in this process, without a server.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estimator_serving.serving.in_process import LoadedServable, load

__all__ = ["LoadedServable", "load"]


def __getattr__(name: str) -> Any:
    # On demand, so that importing one part of the server, its flags for example, does not wait for ONNX Runtime.
    if name in __all__:
        from estimator_serving.serving import in_process

        return getattr(in_process, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
