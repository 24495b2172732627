"""What exports of the small estimators must give: TensorFlow's table of signatures, and the numbers of predict."""

from typing import NamedTuple

import numpy as np
from small_estimators import ROWS

from estimator_serving.training import numpy_input_fn


class Expected(NamedTuple):
    """A signature as saved_model_cli shows it for TF 2.15: method, and output aliases."""

    method: str
    outputs: frozenset[str]

    @property
    def of_examples(self):
        """Method, input alias and output aliases behind a parsing receiver."""
        return self.method, "examples" if self.method == "predict" else "inputs", set(self.outputs)


CLASSIFY = Expected("classify", frozenset({"classes", "scores"}))
REGRESS = Expected("regress", frozenset({"outputs"}))


def predict(*outputs):
    return Expected("predict", frozenset(outputs))


_CLASSES = ("logits", "probabilities", "class_ids", "classes", "all_class_ids", "all_classes")
_BINARY_HEAD = (*_CLASSES, "logistic")

BINARY = {
    "serving_default": CLASSIFY,
    "classification": CLASSIFY,
    "regression": REGRESS,
    "predict": predict(*_BINARY_HEAD),
}
MULTICLASS = {"serving_default": CLASSIFY, "classification": CLASSIFY, "predict": predict(*_CLASSES)}
MULTI_LABEL = MULTICLASS | {"predict": predict("logits", "probabilities", "classes")}
REGRESSION = {"serving_default": REGRESS, "regression": REGRESS, "predict": predict("predictions")}
LINKED = REGRESSION | {"predict": predict("predictions", "logits")}
MULTI_HEAD = {
    "serving_default": CLASSIFY,
    "survived": CLASSIFY,
    **{f"survived/{key}": BINARY[key] for key in ("classification", "regression", "predict")},
    "prices": REGRESS,
    **{f"prices/{key}": REGRESSION[key] for key in ("regression", "predict")},
    "predict": predict(*(f"survived/{key}" for key in _BINARY_HEAD), "prices/predictions"),
}
CUSTOM = {"serving_default": predict("probabilities", "best")}

_TABLES = {
    "dnn regressor": REGRESSION,
    "dnn batch_norm": REGRESSION,
    "trees regressor": REGRESSION,
    "linear poisson": LINKED,
    "multi_label": MULTI_LABEL,
    "multi_head": MULTI_HEAD,
    "custom": CUSTOM,
}


def signature_table(kind):
    """The signatures of a kind of estimator behind a parsing receiver, by key."""
    if kind in _TABLES:
        return _TABLES[kind]
    return MULTICLASS if kind == "baseline" or kind.endswith("multiclass") else BINARY


def predict_table(kind):
    """Behind tensors that no Example carries: predict signatures alone, and a default one that answers them."""
    table = {key: one.outputs for key, one in signature_table(kind).items() if one.method == "predict"}
    return {"serving_default": table.get("predict", table.get("serving_default")), **table}


def rows_of(count):
    """The small estimators' rows, over and over."""
    return {key: np.resize(value, (count, *value.shape[1:])) for key, value in ROWS.items()}


def batch_of(estimator, features):
    """What predict gives for features as one batch, by the names that signatures have."""
    inputs = numpy_input_fn(features, shuffle=False, batch_size=1000)
    (batch,) = estimator.predict(inputs, yield_single_examples=False)
    return {"/".join(key) if isinstance(key, tuple) else key: value for key, value in batch.items()}


def assert_near(got, wanted, alias):
    """Equal text and integers; numbers within 1e-5 of each other, or of their size where that is more."""
    assert got.shape == wanted.shape, alias
    if wanted.dtype == object:
        assert [word.encode() for word in got.ravel()] == wanted.ravel().tolist(), alias
    elif wanted.dtype.kind != "f":
        assert np.array_equal(got, wanted), alias
    else:
        assert np.all(np.abs(wanted - got) <= 1e-5 * np.maximum(1, np.abs(wanted))), alias
