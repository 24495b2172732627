"""SavedModels with TensorFlow's recorded answers, and the comparison of an imported servable with them.

A case is a directory: `saved_model/`, `inputs.json` (base64 by input; `*` for the serialized Examples of any string
input), `inputs.npz` (numbers by input), `answers.npz` (`signature|output|batch`) and `signatures.json`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from estimator_serving import ops
from estimator_serving.wire import signatures
from estimator_serving.wire.examples import join_examples

GOLDENS = Path(__file__).parent.parent / "exporter" / "goldens" / "savedmodels"
ROWS = {"all": 24, "one": 1, "none": 0}
TOLERANCE = 1e-5


@dataclass
class Compared:
    """By signature: how it differs from TensorFlow's answers, nothing where it does not; those that are not there."""

    differences: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def equal(self) -> list[str]:
        return [key for key, found in self.differences.items() if not found]

    @property
    def wrong(self) -> dict[str, list[str]]:
        return {key: found for key, found in self.differences.items() if found}


def compare(case: Path, version: str | Path) -> Compared:
    """Runs every signature of a servable on the rows of a case."""
    session = ops.session(Path(version) / "model.onnx")
    metadata = signatures.from_properties(session.get_modelmeta().custom_metadata_map)
    graph_inputs = {one.name for one in (*session.get_inputs(), *session.get_overridable_initializers())}
    answers = np.load(case / "answers.npz")
    wanted: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for name in answers.files:
        key, alias, batch = name.rsplit("|", 2)
        wanted.setdefault(key, {}).setdefault(batch, {})[alias] = answers[name]
    compared = Compared()
    for key, batches in wanted.items():
        if key not in metadata.signatures:
            compared.missing.append(key)
            continue
        signature = metadata.signatures[key]
        names = [info.value_name for info in signature.outputs.values()]
        found = compared.differences.setdefault(key, [])
        for batch, expected in batches.items():
            try:
                got = session.run(names, _feeds(case, signature, graph_inputs, ROWS[batch]))
            except Exception as error:
                found.append(f"{key} {batch}: {ops.own_text(error)}")
                continue
            for alias, array in zip(signature.outputs, got, strict=True):
                found.extend(_difference(f"{key} {alias} {batch}", expected[alias], array))
    return compared


def _feeds(case: Path, signature: signatures.Signature, graph_inputs: set[str], rows: int) -> dict[str, np.ndarray]:
    encoded = json.loads((case / "inputs.json").read_text())
    numbers = np.load(case / "inputs.npz") if (case / "inputs.npz").is_file() else {}
    feeds: dict[str, np.ndarray] = {}
    for alias, info in signature.inputs.items():
        if info.ragged_names[0] in graph_inputs:
            examples = [base64.b64decode(one) for one in encoded.get(alias, encoded.get("*"))[:rows]]
            feeds |= dict(zip(info.ragged_names, join_examples(examples), strict=True))
        elif info.dtype.is_string:
            feeds[info.value_name] = np.array(_text(encoded[alias]), object)[:rows]
        else:
            feeds[info.value_name] = numbers[alias][:rows]
    return feeds


def _text(value):
    return [_text(one) for one in value] if isinstance(value, list) else base64.b64decode(value).decode()


def _difference(where: str, wanted: np.ndarray, got: np.ndarray) -> list[str]:
    if wanted.shape != got.shape:
        return [f"{where}: shape {list(wanted.shape)} became {list(got.shape)}"]
    if wanted.dtype.kind in "SO":
        text = np.array([bytes(one).decode() for one in wanted.ravel()], object).reshape(wanted.shape)
        same = np.equal(text, got)
    elif wanted.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            near = np.abs(wanted - got) <= TOLERANCE * np.maximum(1, np.abs(wanted))
        same = near | (wanted == got) | (np.isnan(wanted) & np.isnan(got))
    else:
        same = wanted == got
    places = np.argwhere(~np.asarray(same, bool))
    if not len(places):
        return []
    first = tuple(places[0])
    return [f"{where}: {len(places)} of {wanted.size} differ, at {first} {wanted[first]!r} became {got[first]!r}"]
