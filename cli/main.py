"""The table of subcommands, and how their errors reach a terminal.

Owns the command line. A subcommand is a module of this package with two functions, `add_flags(parser)` and
`main(chosen) -> exit code`, and a row of COMMANDS. Its module, and the part of the product behind it, is imported only
when that subcommand runs: `--help` and every other subcommand stay quick.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

# What a user can mend: shown as one sentence, without a stack.
USER_ERRORS = (ValueError, OSError, ModuleNotFoundError)

# The exit code a shell reports for a program that SIGPIPE ended.
_BROKEN_PIPE_CODE = 141


class Command(NamedTuple):
    """A subcommand: its module, its line in `--help`, the start of its own help, and the extra it needs installed."""

    module: str
    summary: str
    description: str
    extra: str | None = None


COMMANDS = {
    "serve": Command(
        "estimator_serving.cli.serve",
        "serve a model over REST and gRPC",
        "Serves models: one with --model_base_path, several with --model_config_file. The flags are those of "
        "tensorflow_model_server. Each can also be given as an environment variable of the same name in capitals.",
    ),
    "key": Command(
        "estimator_serving.cli.key",
        "make a key for a protected server",
        "Makes a key, and prints it and the line for the server's file of keys (--auth_file). The line holds only a "
        "digest of the key, and the rights that it gives.",
    ),
    "show": Command(
        "estimator_serving.cli.show",
        "show the signatures, features and provenance of a servable",
        "Shows which requests a servable answers, which features its Examples carry, and where it comes from. Of a "
        "model on a running server it shows the signatures.",
    ),
    "run": Command(
        "estimator_serving.cli.run",
        "make one prediction in this process, without a server",
        "Runs a servable once in this process, and prints the answer as JSON or writes it to .npy files.",
    ),
    "tune": Command(
        "estimator_serving.cli.tune",
        "measure which flags of the server suit a model on this machine",
        "Starts the server with different threads, workers and batching, puts a load on each, and recommends the flags "
        "that answer most requests within a latency. Writes them, and the file of batching parameters. (training.tune, "
        "which searches hyperparameters, is something else.)",
    ),
    "import": Command(
        "estimator_serving.cli.import_saved_model",
        "turn a TensorFlow SavedModel into a servable, without TensorFlow",
        "Reads a SavedModel and writes a servable with the same signatures. TensorFlow is not needed. Signatures with "
        "operations that are not converted are refused by name; --skip-unsupported imports the others.",
        extra="training",
    ),
    "compare": Command(
        "estimator_serving.cli.compare",
        "send the same requests to two models and report every difference",
        "Sends the same Examples or tensors to two models, each a running server or a servable on disk, and reports "
        "every difference by signature, output and row. Exits with 1 if an answer differs by more than the tolerance.",
    ),
    "checkpoint": Command(
        "estimator_serving.cli.checkpoint",
        "list the tensors of a checkpoint, and which of them an estimator takes",
        "Reads a checkpoint of this project or of TensorFlow and lists its tensors. With --estimator, reports which of "
        "them the estimator takes, lacks and leaves, and exits with 1 if it lacks any.",
        extra="training",
    ),
    "report": Command(
        "estimator_serving.cli.report",
        "write one HTML page about the runs in a model_dir",
        "Writes one page that needs no network: learning curves, metrics by step, what the last evaluation found "
        "(calibration, curves, confusion matrix or residuals, coverage of the columns), and hyperparameters.",
        extra="training,report",
    ),
    "sagemaker": Command(
        "estimator_serving.cli.sagemaker",
        "train or serve as a container on SageMaker",
        "The entry points of an image that SageMaker runs: `train` runs a program with the job's hyperparameters and "
        "data, `serve` answers /invocations and /ping with the model that it left.",
    ),
    "demo": Command(
        "estimator_serving.cli.demo",
        "train on the Titanic's passenger list, export, serve, ask",
        "Runs the whole line once: trains, evaluates, exports, serves, asks over REST and gRPC, and compares.",
        extra="training",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns the exit code of the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="estimator-serving",
        description="Serve exported estimators with TensorFlow Serving's API, and see the whole line at work.",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=command.summary, description=command.description, allow_abbrev=name != "serve"
        )
        if words[:1] == [name]:
            try:
                module = importlib.import_module(command.module)
            except ModuleNotFoundError as error:
                extra = f"[{command.extra}]" if command.extra else ""
                print(
                    f"estimator-serving {name}: the package {error.name} is missing. "
                    f"Install it with: pip install 'estimator-serving{extra}'",
                    file=sys.stderr,
                )
                return 1
            module.add_flags(subparser)
            subparser.set_defaults(run=module.main)
    chosen, unknown = parser.parse_known_args(words)
    if unknown:
        of_command = subparsers.choices.get(chosen.command, parser)
        flags = [flag for action in of_command._actions for flag in action.option_strings]
        near = [flag for word in unknown for flag in get_close_matches(word.partition("=")[0], flags, n=1)]
        question = f". Did you mean {', '.join(near)}?" if near else ""
        of_command.error(f"unrecognized arguments: {' '.join(unknown)}; --help lists them{question}")
    if not hasattr(chosen, "run"):
        parser.print_help()
        return 2
    try:
        code: int = chosen.run(chosen)
        sys.stdout.flush()
    except BrokenPipeError:
        # stdout was closed, for example by `head`. Python would complain about unwritten output when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE_CODE
    except USER_ERRORS as error:
        print(f"estimator-serving {chosen.command}: {error}", file=sys.stderr)
        return 1
    return code
