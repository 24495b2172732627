"""Writes the seeds of the fuzz targets that read requests: `python ops/fuzz/request_seeds.py DIRECTORY`.

They are the plain requests of each form, below DIRECTORY/json, DIRECTORY/inference, DIRECTORY/predict and
DIRECTORY/http; the fuzzers do the rest.
"""

from __future__ import annotations

import sys
from pathlib import Path

SEEDS = {
    "json/tensor": b'{"signature_name": "s", "instances": [[1, -2.5e3], [0, 1e-7]]}',
    "json/rows": b'{"instances": [{"f": 1.5, "s": ["a", "b"], "i": []}, {"f": 2, "i": 3}]}',
    "json/columns": b'{"inputs": {"a": [1, 2], "b": 3.5}}',
    "inference/numbers": b'{"id": "a", "outputs": [{"name": "y"}],'
    b'"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, -2.5]]}]}',
    "inference/others": b'{"inputs": [{"name": "b", "shape": [2], "datatype": "BOOL", "data": [true, false]},'
    b'{"data": ["a"], "datatype": "BYTES", "shape": [1, 1], "name": "s"}]}',
    # Version 7 of model m, signature s, a filter, and inputs of float, int64 and string.
    "predict/all": bytes.fromhex(
        "0a0a0a016d120208071a0173121b0a016612160801120812020801120208022a080000803f00000040"
        "121b0a016912160809120412020802520cffffffffffffffffff01ac0212120a0174120d08071204120208024201784200"
        "1a0179"
    ),
    # Two Examples for signature s of model m.
    "predict/examples": bytes.fromhex("0a060a016d1a017312080a060a0261620a00"),
    "http/plain": b"POST /v1/models/m:predict?q HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n"
    b"Content-Type: application/json\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
}


def main() -> None:
    for name, content in SEEDS.items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
