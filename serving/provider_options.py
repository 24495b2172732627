"""The options of ONNX Runtime's CUDA execution provider, as an operator writes them.

Owns their names and the form of their values, so that a slip ends the start of a server and not its first load. What a
value means, ONNX Runtime says when it opens a model. Source: ONNX Runtime 1.31, cuda_execution_provider_info.
"""

from __future__ import annotations

import re

_WHOLE = r"\d+"
_BOOLEAN = "0|1|true|false|True|False"
_FORMS = {
    "device_id": _WHOLE,
    "gpu_mem_limit": _WHOLE,
    "arena_extend_strategy": "kNextPowerOfTwo|kSameAsRequested",
    "cudnn_conv_algo_search": "EXHAUSTIVE|HEURISTIC|DEFAULT",
    "cudnn_conv_use_max_workspace": _BOOLEAN,
    "cudnn_conv1d_pad_to_nc1d": _BOOLEAN,
    "do_copy_in_default_stream": _BOOLEAN,
    "enable_cudnn": _BOOLEAN,
    "enable_skip_layer_norm_strict_mode": _BOOLEAN,
    "external_data_loader_reading_threads": _WHOLE,
    "fuse_conv_bias": _BOOLEAN,
    "prefer_nhwc": _BOOLEAN,
    "sdpa_kernel": _WHOLE,
    "tunable_op_enable": _BOOLEAN,
    "tunable_op_max_tuning_duration_ms": _WHOLE,
    "tunable_op_tuning_enable": _BOOLEAN,
    "use_ep_level_unified_stream": _BOOLEAN,
    "use_tf32": _BOOLEAN,
}
NAMES = frozenset(_FORMS)
# What stands behind these is an address in this process, or decided elsewhere.
_NOT_HERE = {
    "enable_cuda_graph": "give --enable_cuda_graphs, which also keeps the buffers that a graph needs",
    "has_user_compute_stream": "leave it out; it is for programs that have a stream of CUDA",
    "user_compute_stream": "leave it out; it is for programs that have a stream of CUDA",
    "gpu_external_alloc": "leave it out; it is for programs that have an allocator",
    "gpu_external_free": "leave it out; it is for programs that have an allocator",
    "gpu_external_empty_cache": "leave it out; it is for programs that have an allocator",
}
NOT_HERE = frozenset(_NOT_HERE)
_WORDS = {_WHOLE: "a whole number", _BOOLEAN: "0 or 1"}


def parse(text: str) -> dict[str, str]:
    """The options of `name=value,name=value`. Raises ValueError with a sentence for a wrong name, form or value."""
    options: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not part.strip():
            continue
        if not name or not equals or not value:
            raise ValueError(f"{part.strip()!r} is no option; write name=value,name=value.")
        if name in _NOT_HERE:
            raise ValueError(f"{name} cannot be used; {_NOT_HERE[name]}.")
        if name not in _FORMS:
            raise ValueError(f"{name} is no option of ONNX Runtime's CUDA provider; give {', '.join(sorted(_FORMS))}.")
        if name in options:
            raise ValueError(f"{name} stands there twice; give it once.")
        form = _FORMS[name]
        if not re.fullmatch(form, value, re.ASCII):
            wanted = _WORDS.get(form) or form.replace("|", " or ")
            raise ValueError(f"{name}={value} cannot be used; give {wanted}.")
        options[name] = value
    return options
