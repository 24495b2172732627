"""The public names of TensorFlow 2.15's modules that Estimator programs use.

    python tests/training/goldens/make_names.py      in an environment with tensorflow 2.15

Writes names.json beside this file: module below `tf` -> its public names that are no modules.
"""

import json
import os
import types
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

ROOTS = ["estimator", "feature_column"]
V1_ROOTS = [
    "estimator", "feature_column", "data", "initializers", "io", "layers", "lookup", "losses", "metrics",
    "nn.rnn_cell", "summary", "train",
]  # fmt: skip


def main():
    import tensorflow as tf

    found = {}

    def walk(path, module):
        names = [name for name in sorted(dir(module)) if not name.startswith("_")]
        inner = [name for name in names if isinstance(getattr(module, name), types.ModuleType)]
        found[path] = [name for name in names if name not in inner]
        for name in inner:
            walk(f"{path}.{name}", getattr(module, name))

    for path in [*ROOTS, *(f"compat.v1.{root}" for root in V1_ROOTS)]:
        module = tf
        for part in path.split("."):
            module = getattr(module, part)
        walk(path, module)
    (Path(__file__).parent / "names.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
