"""`python -m estimator_serving.cli`."""

import sys

from estimator_serving.cli.main import main

sys.exit(main())
