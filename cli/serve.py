"""`estimator-serving serve`: the model server, with its flags from the command line and the environment."""

from __future__ import annotations

import argparse
import os

from estimator_serving.serving.config import add_flags, from_settings

__all__ = ["add_flags", "main"]


def main(chosen: argparse.Namespace) -> int:
    """Serves until a signal ends it; returns the exit code."""
    # Imported here because `serve --help` needs neither ONNX Runtime nor gRPC.
    from estimator_serving.serving import server

    return server.main(from_settings(vars(chosen), os.environ))
