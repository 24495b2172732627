"""The op's answers to random cases, TensorFlow's being recorded; tests/ops/parity.py asks it about thousands."""

import json
from pathlib import Path

import pytest
from parsed_examples import agree, answer

GOLDEN = Path(__file__).parent / "goldens" / "random_examples.json"
CASES = json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", sorted({case["name"] for case in CASES}))
def test_random_cases_as_tensorflow(parser, name):
    for case in CASES:
        if case["name"] == name:
            found = answer(parser, case)
            expected = {part: case[part] for part in ("outputs", "error") if part in case}
            assert agree(found, expected), (case, found)
