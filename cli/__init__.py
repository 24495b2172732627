"""The `estimator-serving` command. Stands above every part, and imports one only when its subcommand runs."""

from estimator_serving.cli.main import main

__all__ = ["main"]
