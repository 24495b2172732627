"""`estimator-serving compare`: the same requests to two models, and every difference between their answers.

A team proves a migration with it: left is the running tensorflow_model_server, right the imported or retrained
servable. Owns the comparison and its report. `peers` knows how a side is asked, `generated_inputs` which requests are
made up.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.cli import generated_inputs
from estimator_serving.cli.peers import (
    SIDE,
    TIMEOUT_S,
    Peer,
    Refusal,
    add_credential_flags,
    open_peer,
    read_credentials,
)
from estimator_serving.serving.models.warmup import EXPECTED_FILE, RECORDS_MAX, WARMUP_FILE
from estimator_serving.wire.features import FeatureSpec
from estimator_serving.wire.prediction_logs import LOG_FIELDS, log_of
from estimator_serving.wire.records import read_records, write_records
from estimator_serving.wire.signatures import EXAMPLES_TENSOR, PREDICT_METHOD

Array = npt.NDArray[Any]

ROWS_GENERATED = 200
BATCH_ROWS = 32
TOLERANCE = 1e-5
DIFFERENCES_SHOWN = 5


@dataclass
class Output:
    """What the comparison of one output found.

    Attributes:
        rows: how many rows were compared.
        differing: how many of them differ by more than the tolerance.
        largest: the largest |left - right| / max(1, |left|) of all numbers; 0 for text.
        examples: for the first differing rows, the row's number and both values.
    """

    rows: int = 0
    differing: int = 0
    largest: float = 0.0
    examples: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass
class Report:
    """The comparison of one signature.

    Attributes:
        rows: rows sent.
        outputs: by alias.
        refused_by_both: rows that both sides refuse.
        refusals: rows that one side refuses: the row's number, the side, code and text.
    """

    rows: int = 0
    outputs: dict[str, Output] = field(default_factory=dict)
    refused_by_both: int = 0
    refusals: list[tuple[int, str, str, str]] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return not self.refusals and not any(output.differing for output in self.outputs.values())


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `compare`."""
    parser.add_argument("--left", required=True, metavar="SIDE", help=f"the model that is right by definition: {SIDE}")
    parser.add_argument("--right", required=True, metavar="SIDE", help=f"the model to check: {SIDE}")
    parser.add_argument("--signature", action="append", metavar="KEY", help="a signature to compare (default: all)")
    parser.add_argument("--examples", metavar="FILE", help="serialized tf.Examples to send, as TFRecords")
    parser.add_argument(
        "--generate",
        type=int,
        metavar="ROWS",
        help=f"make up this many rows from the feature spec, edge values included (default: {ROWS_GENERATED}, "
        "or none with --examples)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the generated rows (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=BATCH_ROWS, help="rows of one request (default: %(default)s)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="how far floats may differ, relative to max(1, |left|) (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout_s", type=float, default=TIMEOUT_S, help="deadline of a request (default: %(default)s)"
    )
    add_credential_flags(parser)
    parser.add_argument(
        "--store", action="store_true", help="store left's answers as the expected answers of the servable on the right"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def main(chosen: argparse.Namespace) -> int:
    """Compares and prints the report; returns 1 if an answer differs by more than the tolerance, otherwise 0."""
    credentials = read_credentials(chosen)
    left, right = (open_peer(side, chosen.timeout_s, credentials) for side in (chosen.left, chosen.right))
    if chosen.batch < 1 or (chosen.generate is not None and chosen.generate < 1):
        raise ValueError("--batch and --generate take numbers above 0.")
    if chosen.store and right.directory is None:
        raise ValueError(f"--store writes into a servable, and --right is {chosen.right}; give the path of a servable.")
    given = list(read_records(chosen.examples)) if chosen.examples else []
    generate = chosen.generate or (0 if given else ROWS_GENERATED)
    reports, logs = {}, []
    for key in _signatures(left, right, chosen.signature):
        inputs = _inputs(left, right, key, given, generate, chosen.seed)
        reports[key] = Report()
        for first, batch in _batches(inputs, chosen.batch):
            logs += _compare(reports[key], left, right, key, first, batch, chosen.tolerance)
    if chosen.store and right.directory is not None:
        kept = logs[:RECORDS_MAX]
        for file, records in (
            (WARMUP_FILE, [log_of(method, key, inputs) for method, key, inputs, _ in kept]),
            (EXPECTED_FILE, [log_of(method, key, inputs, outputs) for method, key, inputs, outputs in kept]),
        ):
            aside = right.directory / f"{file}.tmp"
            aside.parent.mkdir(exist_ok=True)
            write_records(aside, [record.SerializeToString(deterministic=True) for record in records])
            aside.replace(right.directory / file)
    missing = [key for key in _comparable(left) if key not in right.signatures and not chosen.signature]
    if chosen.json:
        print(
            json.dumps({"missing": missing, "signatures": {key: asdict(one) for key, one in reports.items()}}, indent=2)
        )
    else:
        print("\n".join(_lines(reports, missing)))
    return 0 if not missing and all(report.agrees for report in reports.values()) else 1


def _comparable(peer: Peer) -> list[str]:
    return [key for key, signature in peer.signatures.items() if signature.method_name in LOG_FIELDS]


def _signatures(left: Peer, right: Peer, wanted: Sequence[str] | None) -> list[str]:
    common = [key for key in _comparable(left) if key in right.signatures]
    for key in wanted or ():
        if key not in common:
            raise ValueError(
                f"There is no signature {key!r} on both sides. Left has {', '.join(_comparable(left))}; "
                f"right has {', '.join(_comparable(right))}."
            )
    if not common:
        raise ValueError("The two sides have no signature in common; check that both serve the same model.")
    return list(wanted or common)


def _inputs(left: Peer, right: Peer, key: str, given: Sequence[bytes], generate: int, seed: int) -> dict[str, Array]:
    """The rows to send to a signature: the given Examples, then generated rows."""
    signature = left.signatures[key]
    spec: FeatureSpec | None = right.feature_spec or left.feature_spec
    directory = right.directory or left.directory
    words = generated_inputs.words_of(directory) if directory is not None else []
    names = [info.value_name for info in signature.inputs.values()]
    is_one_of_examples = len(names) == 1 and names[0].startswith(EXAMPLES_TENSOR)
    if signature.method_name == PREDICT_METHOD and not is_one_of_examples:
        return generated_inputs.tensors(signature, words, generate or ROWS_GENERATED, seed)
    if generate and spec is None:
        raise ValueError(
            f"The signature {key} takes Examples, and neither side says which features they carry. "
            "Give --examples FILE, or a servable as one of the sides."
        )
    rows = [*given, *(generated_inputs.examples(spec, words, generate, seed) if generate and spec else ())]
    array = np.empty(len(rows), object)
    array[:] = rows
    return dict.fromkeys(signature.inputs, array)


def _batches(inputs: Mapping[str, Array], size: int) -> Iterator[tuple[int, dict[str, Array]]]:
    rows = len(next(iter(inputs.values())))
    for first in range(0, rows, size):
        yield first, {alias: array[first : first + size] for alias, array in inputs.items()}


def _compare(
    report: Report, left: Peer, right: Peer, key: str, first: int, batch: Mapping[str, Array], tolerance: float
) -> list[Any]:
    """Sends one batch to both sides and adds what they answer to the report; returns the logs of left's answers.

    A refused batch is sent again row by row, because one bad row refuses a whole request.
    """
    answers = {"left": left.ask(key, batch), "right": right.ask(key, batch)}
    rows = len(next(iter(batch.values())))
    refusals = {side: answer for side, answer in answers.items() if isinstance(answer, Refusal)}
    if refusals and rows > 1:
        return [
            log
            for row, one in _batches(batch, 1)
            for log in _compare(report, left, right, key, first + row, one, tolerance)
        ]
    report.rows += rows
    if len(refusals) == 2:
        report.refused_by_both += 1
        return []
    if refusals:
        report.refusals += [(first, side, refusal.code, refusal.text) for side, refusal in refusals.items()]
        return []
    expected, actual = (answer for answer in answers.values() if not isinstance(answer, Refusal))
    for alias in sorted(expected.keys() | actual.keys()):
        output = report.outputs.setdefault(alias, Output())
        _add(output, first, rows, expected.get(alias), actual.get(alias), tolerance)
    return [(left.signatures[key].method_name, key, batch, expected)]


def _add(output: Output, first: int, rows: int, left: Array | None, right: Array | None, tolerance: float) -> None:
    output.rows += rows
    if left is None or right is None or left.shape != right.shape or (left.dtype == object) != (right.dtype == object):
        output.differing += rows
        output.largest = math.inf
        output.examples.append((first, _form(left), _form(right)))
        return
    if left.dtype == object:
        equal = np.array([_bytes(a) == _bytes(b) for a, b in zip(left.ravel(), right.ravel(), strict=True)], bool)
    elif left.dtype.kind in "iub":
        equal = (left == right).ravel()
    else:
        expected, actual = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
        with np.errstate(invalid="ignore"):
            distance = np.abs(expected - actual) / np.maximum(1.0, np.abs(expected))
        # NaN equals NaN, and an infinity equals itself.
        distance[(expected == actual) | (np.isnan(expected) & np.isnan(actual))] = 0.0
        distance[np.isnan(distance)] = math.inf
        output.largest = max(output.largest, float(distance.max(initial=0.0)))
        equal = distance <= tolerance
    has_rows = left.ndim > 0 and len(left) == rows
    by_row = equal.reshape(rows, -1).all(axis=1) if has_rows else np.atleast_1d(equal.all())
    for row in np.flatnonzero(~by_row).tolist():
        output.differing += 1
        if len(output.examples) < DIFFERENCES_SHOWN:
            values = (left[row], right[row]) if has_rows else (left, right)
            output.examples.append((first + row, _shown(values[0]), _shown(values[1])))


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _form(array: Array | None) -> str:
    return "no such output" if array is None else f"{array.dtype} of shape {list(array.shape)}"


def _shown(value: Any) -> str:
    return np.array2string(np.asarray(value), threshold=8, precision=9).replace("\n", "")


def _lines(reports: Mapping[str, Report], missing: Sequence[str]) -> Iterator[str]:
    for key in missing:
        yield f"{key}: the right side has no such signature"
    for key, report in reports.items():
        verdict = "agrees" if report.agrees else "DIFFERS"
        refused = f", {report.refused_by_both} refused by both" if report.refused_by_both else ""
        yield f"{key}: {verdict}, {report.rows} rows{refused}"
        for alias, output in report.outputs.items():
            if not output.differing:
                yield f"  {alias}: {output.rows} rows equal, largest difference {output.largest:.2g}"
                continue
            yield f"  {alias}: {output.differing} of {output.rows} rows differ, largest difference {output.largest:.2g}"
            yield from (f"    row {row}: left {left}, right {right}" for row, left, right in output.examples)
        for row, side, code, text in report.refusals[:DIFFERENCES_SHOWN]:
            yield f"  row {row}: only {side} refuses it: {code}: {text}"
        if len(report.refusals) > DIFFERENCES_SHOWN:
            yield f"  {len(report.refusals) - DIFFERENCES_SHOWN} more rows are refused by one side"
