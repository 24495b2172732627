"""`estimator-serving run`: one prediction in this process.

Owns the forms of inputs and outputs on the command line. Input expressions are JSON and are never executed.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.serving.dialects.json_text import is_base64, read_base64
from estimator_serving.serving.errors import ServingError
from estimator_serving.serving.in_process import CallableSignature, load
from estimator_serving.wire.records import read_records
from estimator_serving.wire.signatures import DEFAULT_SIGNATURE_KEY

Array = npt.NDArray[Any]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `run`, after saved_model_cli's."""
    parser.add_argument("path", help="a version directory, or the base path above it")
    parser.add_argument("--signature_def", default=DEFAULT_SIGNATURE_KEY, help="which signature (%(default)s)")
    parser.add_argument(
        "--inputs",
        action="append",
        default=[],
        metavar="NAME=FILE.npy",
        help="an input from a file, or NAME=FILE.npz[ARRAY]",
    )
    parser.add_argument(
        "--input_exprs", metavar="JSON", help='inputs by name: {"x": [[1, 2]]}; bytes as {"b64": "…"}, here as below'
    )
    parser.add_argument(
        "--input_examples", metavar="JSON", help='feature dicts for the input of Examples: [{"age": 22, "sex": "m"}]'
    )
    parser.add_argument("--input_tfrecord", metavar="FILE", help="serialized tf.Examples, one a record")
    parser.add_argument("--outdir", metavar="DIRECTORY", help="write every output to DIRECTORY/NAME.npy instead")


def main(chosen: argparse.Namespace) -> int:
    """Runs the signature once, then prints or writes its outputs. Raises ValueError for wrong paths or inputs."""
    try:
        signatures = load(chosen.path).signatures
        if chosen.signature_def not in signatures:
            raise ValueError(
                f"There is no signature {chosen.signature_def!r}; "
                f"--signature_def takes {', '.join(sorted(signatures))}."
            )
        signature = signatures[chosen.signature_def]
        outputs = signature(**_inputs(chosen, signature))
    except (ServingError, TypeError) as error:
        raise ValueError(str(error)) from error
    if chosen.outdir:
        directory = Path(chosen.outdir)
        directory.mkdir(parents=True, exist_ok=True)
        for alias, array in outputs.items():
            file = directory / f"{alias.replace('/', '_')}.npy"
            np.save(file, array.astype(str) if array.dtype == object else array, allow_pickle=False)
            print(file)
    else:
        print(json.dumps({alias: _jsonable(array.tolist()) for alias, array in outputs.items()}, ensure_ascii=False))
    return 0


def _inputs(chosen: argparse.Namespace, signature: CallableSignature) -> dict[str, Any]:
    given = [_named_array(one) for one in chosen.inputs]
    if chosen.input_exprs is not None:
        expressions = _json("--input_exprs", chosen.input_exprs)
        if not isinstance(expressions, dict):
            raise ValueError(f"--input_exprs takes a JSON object of inputs by name; got {chosen.input_exprs[:80]!r}.")
        given += expressions.items()
    examples: Sequence[Any] | None = None
    if chosen.input_examples is not None and chosen.input_tfrecord is not None:
        raise ValueError("--input_examples and --input_tfrecord both give Examples; use one of them.")
    if chosen.input_tfrecord is not None:
        examples = list(read_records(chosen.input_tfrecord))
    elif chosen.input_examples is not None:
        examples = _json("--input_examples", chosen.input_examples)
        if not isinstance(examples, list) or not all(isinstance(one, dict | bytes) for one in examples):
            raise ValueError(f"--input_examples takes a JSON list of objects; got {chosen.input_examples[:80]!r}.")
    if examples is not None:
        aliases = [alias for alias in signature.signature.inputs if signature.takes_examples(alias)]
        if not aliases:
            raise ValueError(
                f"The signature {signature.key} takes {', '.join(signature.signature.inputs)} and no Examples; "
                "give --inputs or --input_exprs."
            )
        given.append((aliases[0], examples))
    inputs = dict(given)
    if len(inputs) < len(given):
        names = [name for name, _ in given]
        twice = ", ".join(sorted(name for name in inputs if names.count(name) > 1))
        raise ValueError(f"The flags give {twice} more than once; give each input by one of them.")
    return inputs


def _named_array(given: str) -> tuple[str, Any]:
    alias, _, place = given.partition("=")
    found = re.fullmatch(r"(?P<file>.+?)(\[(?P<array>[^\[\]]+)\])?", place)
    if not found:
        raise ValueError(f"--inputs {given!r} is not NAME=FILE.npy; write the input's name, = and the file.")
    file, name = Path(found["file"]), found["array"]
    try:
        with open(file, "rb") as stream:
            read: Any = np.load(stream, allow_pickle=False)
            arrays: Mapping[str | None, Array] = dict(read) if isinstance(read, Mapping) else {None: read}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{file} is not a .npy file of numbers or text ({error}). Write it with numpy.save."
        ) from error
    if name not in arrays:
        names = [str(one) for one in arrays if one is not None]
        known = f"holds {', '.join(names)}; write {file}[{names[0]}]" if names else f"holds one array; write {file}"
        raise ValueError(f"{file} {known}.")
    return alias, arrays[name]


def _json(flag: str, text: str) -> Any:
    try:
        return json.loads(text, object_hook=lambda value: read_base64(value) if is_base64(value) else value)
    except ServingError as error:
        raise ValueError(f'{flag}: {error}; bytes are written as {{"b64": "aGk="}}.') from error
    except ValueError as error:
        example = '{"x": [[1, 2]]}' if flag == "--input_exprs" else '[{"age": 22.0}]'
        raise ValueError(f"{flag} is not JSON ({error}); write for example '{example}'.") from error


def _jsonable(value: Any) -> Any:
    """The value with NaN and infinities as text, which Python's float reads back: JSON has no such numbers."""
    if isinstance(value, list):
        return [_jsonable(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
