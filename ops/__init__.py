"""The ONNX Runtime op library: where it is, and a session that has it.

Owns the path of the shared library, its registration, and where an op's own sentence begins in ONNX Runtime's errors.
What the ops do is documented in the C++ beside this file; what graphs are built around them is not known here, so
`onnx` is never imported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

DOMAIN = "estimator.ops"
VERSION = 1

_LIBRARY = Path(__file__).with_name("libestimator_ops.so")
# What ONNX Runtime writes in front: a code, and which node it was.
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_NODE = re.compile(r"Non-zero status code returned while running (\S+) node\..*?Status Message: ", re.DOTALL)


def library_path() -> str:
    """Path of the shared library, for `SessionOptions.register_custom_ops_library` and its kin in other languages.

    Raises FileNotFoundError where the library was not built.
    """
    if not _LIBRARY.is_file():
        raise FileNotFoundError(
            f"The op library {_LIBRARY} is not there; in a checkout run "
            "`cmake -S ops -B build/ops && cmake --build build/ops`, elsewhere reinstall estimator-serving."
        )
    return str(_LIBRARY)


def session(
    model: bytes | str | Path,
    *,
    options: ort.SessionOptions | None = None,
    providers: Sequence[str | tuple[str, dict[str, str]]] = ("CPUExecutionProvider",),
) -> ort.InferenceSession:
    """An ONNX Runtime session of a model (its bytes, or its path) that may use the ops of domain `estimator.ops`.

    Its threads sleep while they wait: spinning, they would take the cores from those that have work. `options` gets the
    library registered, which ONNX Runtime allows once: make new ones for every session. A provider is a name, or a name
    and its options.

    Raises FileNotFoundError where the library was not built, and what ONNX Runtime raises for a model it cannot load:
    RuntimeException with a sentence where a node's attributes are wrong.
    """
    options = options or ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.register_custom_ops_library(library_path())
    # Else an error would be printed, and the model loaded a second time without the provider.
    return ort.InferenceSession(model, options, providers=list(providers), enable_fallback=0)


def own_text(error: Exception) -> str:
    """What an op, or ONNX Runtime itself, has to say, without the code and the node in front of it."""
    return _NODE.sub("", _CODE.sub("", str(error)))


def failed_node(error: Exception) -> str:
    """The type of the node that failed; empty where the error is not of one node."""
    match = _NODE.search(str(error))
    return match[1] if match else ""
