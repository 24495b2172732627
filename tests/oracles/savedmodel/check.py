"""Imports the SavedModels that make.py and make_models.py made, and compares every signature with TensorFlow's answers.

    python tests/oracles/savedmodel/check.py DIRECTORY

Exits with 1 where a signature is wrong, or where more than one of twenty is refused.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

import saved_models

from estimator_serving.exporter import UnsupportedOps, import_saved_model

REFUSED_MAX = 0.05


def main() -> int:
    totals, ops = Counter(), Counter()
    for case in sorted(path.parent for path in Path(sys.argv[1]).glob("*/signatures.json")):
        keys = json.loads((case / "signatures.json").read_text())["signatures"]
        totals["models"] += 1
        totals["signatures"] += len(keys)
        with tempfile.TemporaryDirectory() as base:
            try:
                version = import_saved_model(case / "saved_model", base, skip_unsupported=True)
            except UnsupportedOps as error:
                ops.update({one.op for refusals in error.blocked.values() for one in refusals})
                totals["refused"] += len(keys)
                print(f"{case.name}: {error}")
                continue
            compared = saved_models.compare(case, version)
        totals["equal"] += len(compared.equal)
        totals["wrong"] += len(compared.wrong)
        totals["refused"] += len(compared.missing)
        for differences in compared.wrong.values():
            print(f"{case.name}: {'; '.join(differences)}")
    print(", ".join(f"{count} {what}" for what, count in totals.items()))
    if ops:
        print("refused:", ", ".join(f"{op} ({count})" for op, count in ops.most_common()))
    is_good = totals["signatures"] > 0 and not totals["wrong"]
    return 0 if is_good and totals["refused"] <= REFUSED_MAX * totals["signatures"] else 1


if __name__ == "__main__":
    sys.exit(main())
