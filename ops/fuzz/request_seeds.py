"""Writes the seeds of the fuzz targets that read requests and models: `python ops/fuzz/request_seeds.py DIRECTORY`.

They are the plain requests of each form, below DIRECTORY/json, DIRECTORY/inference, DIRECTORY/predict and
DIRECTORY/http, and a model below DIRECTORY/onnx; the fuzzers do the rest.
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
    # A model with a sequence as input, an If, words, external data, a sparse tensor and a function.
    "onnx/all": bytes.fromhex(
        "08093aaa010a5c0a01731201791a00220249662a400a0b7468656e5f6272616e6368322e0a2912017a2208436f6e7374616e"
        "742a180a0576616c75652a0c0801100122040000803f4200a001043a00120167a001052a0a0a01774a0261624a01633a0012"
        "01672a184201746a110a086c6f636174696f6e1205772e62696e70015a140a0173120f220d0a0b0a09080112050a0312014e"
        "62100a0179120b0a09080112050a0312014e7a050a0342017042040a00101172060a016b120176ca010a0a01663a05220347"
        "5255"
    ),
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
