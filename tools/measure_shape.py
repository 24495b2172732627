"""Measures the shape of the sources: function density, helpers used once, long classes, lines of test beside source.

    python tools/measure_shape.py                  a table; exit 1 if a bound below is exceeded
    python tools/measure_shape.py --list PATH ...  the private helpers used once below these paths, by file

Everything is counted from the syntax tree, without generated files (wire/pb). A line is any line of a file. A private
helper is a function or method whose name begins with one underscore; it is used once if its file reads its name exactly
once outside the helper itself. Bodies are counted without signature and docstring.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("wire", "ops", "training", "exporter", "serving", "cli")
FUNCTIONS_PER_1000_LINES_MAX = 60.0
USED_ONCE_SHARE_MAX = 0.10
CLASS_LINES_MAX = 300
EXPORTER_TEST_RATIO_MIN = 0.8

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """One file: its line count, its functions and classes, and the private helpers that it uses once."""

    path: Path
    lines: int
    functions: list[Function]
    classes: list[ast.ClassDef]
    used_once: list[Function]


class Shape(NamedTuple):
    """The figures of a part."""

    files: int
    lines: int
    functions_per_1000_lines: float
    used_once_share: float
    body_median: float
    body_p90: float
    body_max: int


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", nargs="+", metavar="PATH", type=Path, help="list the helpers used once below PATH")
    paths = parser.parse_args().list
    if paths:
        for source in read_all(paths):
            for helper in source.used_once:
                print(f"{_shown(source.path)}:{helper.lineno}: {helper.name}, {_body_lines(helper)} lines")
        return 0
    return _report({part: read_all([ROOT / part]) for part in PARTS})


def read_all(paths: Iterable[Path]) -> list[Source]:
    """The sources below these paths, in order, without generated files."""
    found = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    return [read(file) for file in found if "pb" not in file.parts]


def read(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, Function)]
    reads = Counter(_names_read(tree))
    once = [
        function
        for function in functions
        if function.name.startswith("_")
        and not function.name.startswith("__")
        and reads[function.name] - Counter(_names_read(function))[function.name] == 1
    ]
    return Source(
        path, len(text.splitlines()), functions, [node for node in nodes if isinstance(node, ast.ClassDef)], once
    )


def shape_of(sources: Sequence[Source]) -> Shape:
    functions = [function for source in sources for function in source.functions]
    bodies = [_body_lines(function) for function in functions]
    lines = sum(source.lines for source in sources)
    return Shape(
        len(sources),
        lines,
        1000 * len(functions) / lines,
        sum(len(source.used_once) for source in sources) / len(functions),
        statistics.median(bodies),
        statistics.quantiles(bodies, n=10)[-1],
        max(bodies),
    )


def _report(sources: dict[str, list[Source]]) -> int:
    everything = [source for part in sources.values() for source in part]
    print(f"{'part':10} files   lines  functions/1000  used once   body median / p90 / max")
    for name, part in [*sources.items(), ("all", everything)]:
        shape = shape_of(part)
        print(
            f"{name:10} {shape.files:5} {shape.lines:7} {shape.functions_per_1000_lines:15.1f} "
            f"{shape.used_once_share:10.1%}   {shape.body_median:.0f} / {shape.body_p90:.0f} / {shape.body_max}"
        )
    total = shape_of(everything)
    ratio = _lines_below("tests/exporter") / _lines_below("exporter")
    long_classes = [
        f"{_shown(source.path)}: class {node.name} has {_lines(node)} lines"
        for source in everything
        for node in source.classes
        if _lines(node) > CLASS_LINES_MAX
    ]
    print(f"exporter: {ratio:.2f} lines of test a line of source")
    faults = [
        *(
            [f"{total.functions_per_1000_lines:.1f} functions per 1,000 lines"]
            * (total.functions_per_1000_lines > FUNCTIONS_PER_1000_LINES_MAX)
        ),
        *(
            [f"{total.used_once_share:.1%} of the functions are private and used once"]
            * (total.used_once_share > USED_ONCE_SHARE_MAX)
        ),
        *([f"{ratio:.2f} lines of exporter test a line of source"] * (ratio < EXPORTER_TEST_RATIO_MIN)),
        *long_classes,
    ]
    for fault in faults:
        print(f"out of bounds: {fault}")
    return 1 if faults else 0


def _names_read(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def _body_lines(function: Function) -> int:
    body = function.body
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _lines(node: ast.ClassDef) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def _lines_below(folder: str) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob("*.py"))


def _shown(path: Path) -> Path:
    resolved = path.resolve()
    return resolved.relative_to(ROOT) if ROOT in resolved.parents else path


if __name__ == "__main__":
    sys.exit(main())
