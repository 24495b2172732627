"""Every model of the table: exported, asked from Examples with every row it was fitted to, and compared with itself.

    python tests/oracles/models/check.py [--only WORD] [--write docs/reference/library-models.md]

An outcome is `equal` (labels equal, numbers within 1e-5 · max(1, |x|) in every row) or `refused` with the exporter's
sentence. Everything else counts as a failure, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

# Small models: threads of OpenMP would only wait for each other.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

sys.path.insert(0, str(Path(__file__).resolve().parent))
from models import Case, cases, data, fitted

from estimator_serving.exporter import ExportMismatch, build_parsing_serving_input_receiver_fn, export_model
from estimator_serving.serving import load
from estimator_serving.training import FixedLenFeature

TOLERANCE = 1e-5
FOREST_SEEDS = 40
PAGE = """# Library models and their servables

`make oracle-models` fits each of these models to real data that a package ships, exports it, asks the servable with
every row of that data as a `tf.Example`, and compares the answers with the library's for the same rows. `equal` means:
the labels are equal in every row, and every score or prediction differs by at most 1e-5 · max(1, |x|). `refused` means
that `export_model` raised the error of the last column and wrote nothing. There is no third outcome: the
command fails if a row differs.

The last run: {summary}. {seeds}. Versions: {versions}.

| model | data | rows | outcome | |
|---|---|---|---|---|
{table}
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        word: equal, refused or different.
        detail: the largest difference, or the sentence.
        rows: how many rows were asked.
    """

    word: str
    detail: str
    rows: int


def as_frame(rows: Any) -> pd.DataFrame:
    """Rows by the names that clients send them under."""
    return (
        rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows, columns=[f"x{i}" for i in range(rows.shape[1])])
    )


def spec_of(frame: pd.DataFrame) -> dict[str, FixedLenFeature]:
    """The features of a frame's columns: text, whole numbers and booleans, numbers."""
    kinds = {"i": "int64", "u": "int64", "b": "int64", "f": "float32"}
    return {
        str(key): FixedLenFeature([], kinds.get(getattr(dtype, "kind", "O"), "string"))
        for key, dtype in frame.dtypes.items()
    }


def examples_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as Examples: missing text is ''."""
    spec = spec_of(frame)
    words = [key for key, feature in spec.items() if feature.dtype.is_string]
    plain = frame.assign(**{key: frame[key].astype(object).where(frame[key].notna(), "") for key in words})
    return plain.to_dict("records")


def library_answer(model: Any, rows: Any) -> tuple[list[str] | None, np.ndarray]:
    """The labels, None where the model has no classes, and the scores or predictions."""
    kind = f"{type(model).__module__.split('.')[0]}.{type(model).__name__}"
    if kind == "xgboost.Booster":
        import xgboost

        values = model.predict(xgboost.DMatrix(rows))
        is_label = "softmax" in model.save_config()
        return ([str(int(one)) for one in values] if is_label else None), np.empty(0) if is_label else values
    if hasattr(model, "predict_proba") and len(getattr(model, "classes_", ())):
        predicted = np.asarray(model.predict(rows)).ravel()
        return [str(one) for one in predicted], np.asarray(model.predict_proba(rows))
    values = np.asarray(model.predict(rows))
    if len(getattr(model, "classes_", ())):
        return [str(one) for one in values.ravel()], np.empty(0)
    return None, values


def forests() -> str:
    """Forests with an even number of trees, of which several seeds meet ties: each is exported."""
    rows, labels = data("breast_cancer")
    for seed in range(FOREST_SEEDS):
        model = RandomForestClassifier(20 if seed % 2 else 40, max_depth=3, random_state=seed).fit(rows, labels)
        with tempfile.TemporaryDirectory() as folder:
            export_model(model, folder, build_parsing_serving_input_receiver_fn(spec_of(as_frame(rows))))
    return f"{FOREST_SEEDS} forests of 20 or 40 trees, one for each seed: all exported"


def check(case: Case, folder: Path) -> Outcome:
    """Exports a case and asks it with all its rows."""
    model, (rows, _) = fitted(case), data(case.data)
    rows = (
        rows[list(model.feature_names_in_)]
        if isinstance(rows, pd.DataFrame)
        and hasattr(model, "feature_names_in_")
        and set(model.feature_names_in_) <= set(rows)
        else rows
    )
    named = getattr(model, "feature_name_", None) if isinstance(rows, pd.DataFrame) else None
    if named is not None and len(named) < rows.shape[1]:
        rows = rows[named]
    frame = as_frame(rows)
    if type(model).__name__ == "IsotonicRegression":
        rows, frame = rows[:, 0], frame[["x0"]]
    if type(model).__name__.startswith(("LGBM", "XGB")) and any(
        str(dtype) in ("object", "str") for dtype in frame.dtypes
    ):
        rows = rows.assign(**{key: rows[key].astype("category") for key in ("island", "sex")})
    if type(model).__module__.startswith("catboost") and isinstance(rows, pd.DataFrame):
        rows = frame = rows[model.feature_names_]
        rows = rows.fillna({key: "" for key in rows if rows[key].dtype.kind not in "fiub"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            path = export_model(model, folder, build_parsing_serving_input_receiver_fn(spec_of(frame)))
        except (ValueError, TypeError, ExportMismatch) as error:
            return Outcome("refused", f"{type(error).__name__}: {error}".replace("\n", " "), len(frame))
        got = load(path).signatures["predict"](examples=examples_of(frame))
        labels, scores = library_answer(model, rows)
        return compare(got, labels, scores, len(frame))


def compare(got: dict[str, Any], labels: list[str] | None, scores: np.ndarray, rows: int) -> Outcome:
    """An outcome: the labels in all rows, and the scores in all rows."""
    if labels is not None:
        served = (
            [str(one) for one in got["classes"].ravel()]
            if "classes" in got
            else [str(int(one)) for one in got["predictions"].ravel()]
        )
        wrong = [index for index, (a, b) in enumerate(zip(served, labels, strict=True)) if a != b]
        if wrong:
            return Outcome(
                "different",
                f"{len(wrong)} labels, the first in row {wrong[0]}: {served[wrong[0]]} for {labels[wrong[0]]}",
                rows,
            )
    if not scores.size:
        return Outcome("equal", "labels", rows)
    values = (
        got["probabilities" if labels is not None and "probabilities" in got else "predictions"]
        .astype(np.float64)
        .reshape(rows, -1)
    )
    wanted = np.asarray(scores, np.float64).reshape(rows, -1)
    off = np.abs(values - wanted) / np.maximum(1.0, np.abs(wanted))
    if not (off <= TOLERANCE).all():
        row = int(np.argmax(np.nan_to_num(off, nan=np.inf).max(axis=1)))
        return Outcome(
            "different",
            f"{int((off > TOLERANCE).any(axis=1).sum())} rows, the worst {row}: {values[row]} for {wanted[row]}",
            rows,
        )
    return Outcome("equal", f"{off.max():.0e}", rows)


def line(case: Case, outcome: Outcome) -> str:
    """A row of the table in Markdown."""
    detail = outcome.detail.replace("|", "\\|") if outcome.word != "equal" else f"largest difference {outcome.detail}"
    return f"| {case.name} | {case.data} | {outcome.rows} | {outcome.word} | {detail} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the cases whose names hold this word")
    parser.add_argument("--write", type=Path, help="the page to write the table to")
    options = parser.parse_args()
    lines, counts = [], {"equal": 0, "refused": 0, "different": 0}
    for case in (one for one in cases() if options.only.lower() in one.name.lower()):
        with tempfile.TemporaryDirectory() as folder:
            outcome = check(case, Path(folder) / "servable")
        counts[outcome.word] += 1
        lines.append(line(case, outcome))
        print(f"{outcome.word:10}{case.name:45}{case.data:20}{outcome.rows:5}  {outcome.detail}", flush=True)
    summary = ", ".join(f"{count} {word}" for word, count in counts.items())
    seeds = forests()
    print(f"{summary}; {seeds}")
    if options.write:
        names = ("scikit-learn", "skl2onnx", "xgboost-cpu", "lightgbm", "catboost", "onnxruntime-gpu")
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
        options.write.write_text(PAGE.format(summary=summary, seeds=seeds, versions=versions, table="\n".join(lines)))
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
