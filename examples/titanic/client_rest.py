"""Asks the served Titanic model over REST, three ways. Needs nothing but Python.

python examples/titanic/client_rest.py [http://localhost:8501]
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.request import Request, urlopen

PASSENGER = {
    "gender": "female",
    "age": 22,
    "class": "3rd",
    "embarked": "Southampton",
    "fare": 7.25,
    "sibsp": 1,
    "parch": 0,
}


def ask(url: str, verb: str, body: dict[str, Any]) -> Any:
    """Posts a body to the model and returns the parsed answer."""
    request = Request(f"{url}/v1/models/titanic:{verb}", json.dumps(body).encode())
    with urlopen(request, timeout=10) as response:
        return json.load(response)


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8501"
    classified = ask(url, "classify", {"examples": [PASSENGER]})
    print("classify:", classified["results"])
    regressed = ask(url, "regress", {"signature_name": "regression", "examples": [PASSENGER]})
    print("regress: ", regressed["results"])
    predicted = ask(url, "predict", {"signature_name": "predict", "instances": [PASSENGER]})
    print("predict: ", predicted["predictions"])


if __name__ == "__main__":
    main()
