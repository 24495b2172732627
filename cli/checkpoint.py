"""`estimator-serving checkpoint show`: the tensors of a checkpoint, and which of them an estimator takes.

Owns the text and JSON output, and imports the estimator from the user's program.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from estimator_serving.training import CheckpointFit, Estimator, load_checkpoint
from estimator_serving.training.checkpoints.reader import verify_checkpoint
from estimator_serving.training.nn.variables import SLOTS

Shape = Iterable[int]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `checkpoint`."""
    parser.add_argument("action", choices=["show"], help="show: list the tensors of a checkpoint")
    parser.add_argument(
        "path", help="a model_dir, or a checkpoint without the ending of its files; this project's or TensorFlow's"
    )
    parser.add_argument(
        "--estimator",
        metavar="MODULE:FUNCTION",
        help="a function without arguments that returns an Estimator, or a pair of an Estimator and its input_fn; "
        "shows which tensors the estimator takes, lacks and leaves",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def main(chosen: argparse.Namespace) -> int:
    """Prints what the flags ask for. Returns 1 if the checkpoint lacks something that the estimator asks for, else 0.

    Raises ValueError if there is no checkpoint or it is damaged, or if the function does not return an estimator.
    """
    reader = load_checkpoint(chosen.path)
    verify_checkpoint(reader.path)
    dtypes = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    tensors = {name: {"dtype": dtypes[name].name, "shape": shapes[name]} for name in sorted(shapes)}
    described: dict[str, Any] = {"path": reader.path, "tensors": tensors}
    if chosen.estimator is None:
        lines = [f"{reader.path}\n", *(f"  {name}  {dtypes[name].name} {_shape(shapes[name])}" for name in tensors)]
        _print(chosen, described, lines)
        return 0
    estimator, input_fn = _make_estimator(chosen.estimator)
    fit = estimator.checkpoint_fit(reader.path, input_fn)
    described["estimator"] = {
        "takes": fit.taken,
        "as": fit.renamed,
        "lacks": fit.lacking,
        "other_shapes": {
            name: {"estimator": wanted, "checkpoint": found} for name, (wanted, found) in fit.misshapen.items()
        },
        "leaves": fit.left,
        "has_slots": fit.has_slots,
    }
    _print(chosen, described, _fit_lines(reader.path, fit))
    return 0 if fit.fits else 1


def _print(chosen: argparse.Namespace, described: Mapping[str, Any], lines: Iterable[str]) -> None:
    print(json.dumps(described, indent=2) if chosen.json else "\n".join(lines))


def _make_estimator(named: str) -> tuple[Estimator, Callable[..., Any] | None]:
    module_name, _, function_name = named.partition(":")
    if not module_name or not function_name:
        raise ValueError(f"--estimator={named} names no function. Write it as MODULE:FUNCTION, for example train:make.")
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error} (asked for by --estimator={named}). Run the command in the directory of the module, or install "
            "what it imports."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(f"{module_name} has no function {function_name}. Name one that returns an Estimator.")
    made = function()
    estimator, input_fn = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(estimator, Estimator):
        raise ValueError(
            f"{named} returned {type(estimator).__name__}. It must return an Estimator, or a pair of an Estimator and "
            "its input_fn."
        )
    return estimator, input_fn


# -- text -------------------------------------------------------------------------------------------------------------


def _fit_lines(path: str, fit: CheckpointFit) -> Iterator[str]:
    yield path
    yield from _group(
        "The estimator takes", fit.taken, lambda name: f"  as {fit.renamed[name]}" if name in fit.renamed else ""
    )
    yield from _group("The estimator asks for, and the checkpoint lacks", fit.lacking)
    if fit.misshapen:
        yield f"\nThe checkpoint has with another shape ({len(fit.misshapen)})"
        for name, (wanted, found) in sorted(fit.misshapen.items()):
            yield f"  {name}  {_shape(found)}, and the estimator asks for {_shape(wanted)}"
    yield from _group("The estimator leaves", fit.left)
    start = "The estimator can start from it (warm_start_from)"
    if not fit.fits and not all(name.startswith(SLOTS) for name in (*fit.lacking, *fit.misshapen)):
        yield (
            "\nThe estimator cannot start from it as it is. WarmStartSettings can leave variables out, rename them, or "
            "move their rows by a vocabulary."
        )
    elif not fit.has_slots:
        yield f"\n{start}. The slots of its optimizer are not known without data; return its input_fn as well."
    elif not fit.fits:
        yield (
            f"\n{start}. Training cannot continue in its model_dir, because the checkpoint lacks slots of the "
            "estimator's optimizer."
        )
    else:
        yield f"\n{start}, and training can continue in its model_dir."


def _group(title: str, shapes: Mapping[str, Shape], more: Callable[[str], str] = lambda _: "") -> Iterator[str]:
    if shapes:
        yield f"\n{title} ({len(shapes)})"
        yield from (f"  {name}  {_shape(shapes[name])}{more(name)}" for name in sorted(shapes))


def _shape(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"
