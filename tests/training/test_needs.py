"""What an installation of the server alone says to a program that trains or exports."""

import subprocess
import sys

import pytest

WITHOUT_TORCH = "import sys; sys.modules['torch'] = sys.modules['spox'] = None\n"


@pytest.mark.parametrize("module", ["training", "exporter"])
def test_a_missing_package_is_named_with_the_extra_that_has_it(module):
    program = WITHOUT_TORCH + f"from estimator_serving import {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: The package torch is missing. Install it with: pip install 'estimator-serving[training]'"
    )
