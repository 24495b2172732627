"""The public names of tf.estimator and tf.feature_column with their arguments.

    python tests/training/goldens/make_signatures.py      in an environment with tensorflow 2.15

Writes signatures.json beside this file: dotted name -> [[argument, its default as text], …], [argument] without one.
Objects are written by their names: a dtype float32, a function relu.
"""

import inspect
import json
import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

METHODS = [
    "train", "evaluate", "predict", "export_saved_model", "experimental_export_all_saved_models", "latest_checkpoint",
    "get_variable_names", "get_variable_value", "eval_dir",
]  # fmt: skip


def arguments(function):
    """Every parameter but self and what takes the rest."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [
        [one.name] if one.default is one.empty else [one.name, text_of(one.default)]
        for one in parameters
        if one.name != "self" and one.kind not in kinds
    ]


def text_of(value):
    for attribute in ("__name__", "name"):
        if isinstance(getattr(value, attribute, None), str):
            return getattr(value, attribute)
    return "unset" if type(value) is object else repr(value)


def main():
    import tensorflow as tf

    signatures = {}
    for prefix, module in {
        "": tf.estimator,
        "feature_column.": tf.feature_column,
        "export.": tf.estimator.export,
    }.items():
        for name in sorted(name for name in dir(module) if not name.startswith("_")):
            if callable(value := getattr(module, name)):
                signatures[prefix + name] = arguments(value)
    hook = "InMemoryEvaluatorHook"
    signatures[f"experimental.{hook}"] = arguments(getattr(tf.estimator.experimental, hook))
    for name in METHODS:
        signatures[f"Estimator.{name}"] = arguments(getattr(tf.estimator.Estimator, name))
    signatures["Head.create_estimator_spec"] = arguments(tf.estimator.Head.create_estimator_spec)
    Path(__file__).with_name("signatures.json").write_text(json.dumps(signatures, indent=1) + "\n")


if __name__ == "__main__":
    main()
