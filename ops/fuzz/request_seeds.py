"""Writes the seeds of the fuzz targets that read requests: `python ops/fuzz/request_seeds.py DIRECTORY`.

They are the plain requests of each form, below DIRECTORY/json and DIRECTORY/predict; the fuzzers do the rest.
"""

from __future__ import annotations

import sys
from pathlib import Path

SEEDS = {
    "json/tensor": b'{"signature_name": "s", "instances": [[1, -2.5e3], [0, 1e-7]]}',
    "json/rows": b'{"instances": [{"f": 1.5, "s": ["a", "b"], "i": []}, {"f": 2, "i": 3}]}',
    "json/columns": b'{"inputs": {"a": [1, 2], "b": 3.5}}',
    # Version 7 of model m, signature s, a filter, and inputs of float, int64 and string.
    "predict/all": bytes.fromhex(
        "0a0a0a016d120208071a0173121b0a016612160801120812020801120208022a080000803f00000040"
        "121b0a016912160809120412020802520cffffffffffffffffff01ac0212120a0174120d08071204120208024201784200"
        "1a0179"
    ),
}


def main() -> None:
    for name, content in SEEDS.items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
