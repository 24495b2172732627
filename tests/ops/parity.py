"""The op against TensorFlow 2.15's parse_example and parse_sequence_example, on random specs and Examples.

    make oracle-ops TF=/path/to/python/with/tensorflow
    python tests/ops/parity.py --tensorflow-python /path/to/python/with/tensorflow [--cases 10000] [--seed 0]

TensorFlow answers in a process of its own (tests/ops/goldens/tensorflow_side.py). Prints, for every kind of fault and
for cases without one, how many were accepted by both with the same tensors, refused by both with the same text, and
answered differently; and of each kind's differences the first. A difference under a name of SETTLED is one that
docs/servables.md lists; any other fails the command. `--record` writes some cases that agree as the golden of
tests/ops/test_parity.py.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "support")]

from nodes import make_parser  # noqa: E402
from parsed_examples import agree, answer  # noqa: E402
from random_examples import make_case  # noqa: E402

GOLDEN = HERE / "goldens" / "random_examples.json"
RECORDED_PER_NAME = 12

# Names of faults that both refuse with texts of their own.
OTHER_TEXT = {
    "a partition that does not fit": "TensorFlow names the check over the whole batch that failed",
    "a step of another length": "TensorFlow counts the values of the whole batch first",
    "indices and values of two lengths": "TensorFlow counts over the whole batch",
}
# Names of faults that the two answer differently on purpose.
SETTLED = {
    "a partition that leaves values over": "TensorFlow lets a row's leftovers run into the next row; the op drops them",
    "a row id or start below 0": "TensorFlow counts it to the row before, if there is one; the op never does",
    "twice, at last without a kind": "TensorFlow takes the earlier entry; the op takes the last, as protobuf does",
}


def answers(python: str, cases: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """TensorFlow's answer to each case."""
    command = [python, str(HERE / "goldens" / "tensorflow_side.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as side:
        assert side.stdin is not None
        assert side.stdout is not None
        for case in cases:
            print(json.dumps(case), file=side.stdin, flush=True)
            yield json.loads(side.stdout.readline())
        side.stdin.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensorflow-python", required=True, help="a Python that has TensorFlow 2.15")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help=f"write {GOLDEN.name}")
    arguments = parser.parse_args()
    rng = Random(arguments.seed)
    cases = [make_case(rng) for _ in range(arguments.cases)]
    counts: Counter[tuple[str, str]] = Counter()
    differences: dict[str, str] = {}
    recorded: dict[str, list[dict[str, Any]]] = {}
    for case, theirs in zip(cases, answers(arguments.tensorflow_python, cases), strict=True):
        ours = answer(make_parser, case)
        both_refuse = "error" in ours and "error" in theirs
        if not agree(ours, theirs) and not (both_refuse and case["name"] in OTHER_TEXT):
            counts[case["name"], "different"] += 1
            differences.setdefault(case["name"], json.dumps({"case": case, "ours": ours, "TensorFlow": theirs}))
            continue
        counts[case["name"], "refused" if "error" in theirs else "accepted"] += 1
        if agree(ours, theirs):
            recorded.setdefault(case["name"], []).append(case | theirs)
    report(counts, differences)
    if arguments.record:
        chosen = [one for name in sorted(recorded) for one in recorded[name][:RECORDED_PER_NAME]]
        GOLDEN.write_text("[\n" + ",\n".join(json.dumps(one, sort_keys=True) for one in chosen) + "\n]\n")
    return 1 if set(differences) - set(SETTLED) else 0


def report(counts: Counter[tuple[str, str]], differences: dict[str, str]) -> None:
    columns = ("accepted", "refused", "different")
    print(f"{'':38}" + "".join(f"{column:>10}" for column in columns))
    for name in sorted({name for name, _ in counts}):
        print(f"{name:38}" + "".join(f"{counts[name, column]:10}" for column in columns))
    print(f"{'all':38}" + "".join(f"{sum(counts[n, c] for n, c in counts if c == column):10}" for column in columns))
    for name, difference in differences.items():
        print(f"\n{name}: {SETTLED.get(name, 'NOT SETTLED')}\n{difference}")


if __name__ == "__main__":
    sys.exit(main())
