"""The subcommands, their flags, and how their errors reach a terminal.

Owns the command line. What a subcommand does is in the part it belongs to.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

# What a user can mend: shown as one sentence, without a stack.
USER_ERRORS = (ValueError, OSError, ModuleNotFoundError)

# What a shell reports for a program that SIGPIPE ended.
_READER_LEFT = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the process's exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = _build_parser(words[:1])
    chosen, unknown = parser.parse_known_args(words)
    if unknown:
        commands.get(chosen.command, parser).error(f"unrecognized arguments: {' '.join(unknown)}; --help lists them")
    if not hasattr(chosen, "run"):
        parser.print_help()
        return 2
    try:
        code: int = chosen.run(chosen)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` does. Python would complain of what is left when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_LEFT
    except USER_ERRORS as error:
        print(f"estimator-serving {chosen.command}: {error}", file=sys.stderr)
        return 1
    return code


def _build_parser(command: Sequence[str]) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and those of its subcommands; only the one of `command` knows its flags."""
    parser = argparse.ArgumentParser(
        prog="estimator-serving",
        description="Serve exported estimators with TensorFlow Serving's API, and see the whole line at work.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve a model over REST and gRPC",
        description="Serves models: one by --model_base_path, several by --model_config_file. The flags are "
        "tensorflow_model_server's; each can be given as an environment variable of the same name in capitals.",
        allow_abbrev=False,
    )
    serve.set_defaults(run=_serve)
    if command == ["serve"]:
        _add_server_flags(serve)
    show = commands.add_parser(
        "show",
        help="signatures, features and provenance of a servable",
        description="Shows what a servable can be asked, the features its Examples carry, and where it comes from.",
    )
    show.set_defaults(run=_show)
    if command == ["show"]:
        _add_flags_of("show", show)
    run = commands.add_parser(
        "run",
        help="one prediction in this process, without a server",
        description="Asks a servable once, in this process, and prints the answer as JSON or writes it to .npy files.",
    )
    run.set_defaults(run=_run)
    if command == ["run"]:
        _add_flags_of("run", run)
    checkpoint = commands.add_parser(
        "checkpoint",
        help="what stands in a checkpoint, and what of it an estimator takes",
        description="Lists the tensors of a checkpoint, this project's or TensorFlow's. With --estimator it tells "
        "which of them the estimator takes, lacks and leaves, and exits with 1 where it lacks any.",
    )
    checkpoint.set_defaults(run=_checkpoint)
    if command == ["checkpoint"]:
        _add_flags_of("checkpoint", checkpoint)
    demo = commands.add_parser(
        "demo",
        help="train on the Titanic's passenger list, export, serve, ask",
        description="Runs the whole line once: trains, evaluates, exports, serves, asks over REST and gRPC, compares.",
    )
    demo.add_argument("--directory", default="estimator-serving-demo", help="where model and servable go (%(default)s)")
    demo.set_defaults(run=_demo)
    return parser, commands.choices


def _add_server_flags(parser: argparse.ArgumentParser) -> None:
    """The server's own flags; imported here so that other subcommands do not wait for it."""
    from estimator_serving.serving.config import add_flags

    add_flags(parser)


def _add_flags_of(command: str, parser: argparse.ArgumentParser) -> None:
    """A subcommand's own flags; imported here so that other subcommands do not wait for it."""
    if command == "show":
        from estimator_serving.cli import show

        show.add_flags(parser)
    elif command == "checkpoint":
        _checkpoint_module().add_flags(parser)
    else:
        from estimator_serving.cli import run

        run.add_flags(parser)


def _show(chosen: argparse.Namespace) -> int:
    from estimator_serving.cli import show

    return show.main(chosen)


def _run(chosen: argparse.Namespace) -> int:
    from estimator_serving.cli import run

    return run.main(chosen)


def _checkpoint(chosen: argparse.Namespace) -> int:
    code: int = _checkpoint_module().main(chosen)
    return code


def _checkpoint_module() -> ModuleType:
    try:
        from estimator_serving.cli import checkpoint
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Checkpoints are read by the training part, which needs {error.name}; "
            "install it with: pip install 'estimator-serving[training]'."
        ) from error
    return checkpoint


def _serve(chosen: argparse.Namespace) -> int:
    from estimator_serving.serving import server
    from estimator_serving.serving.config import from_settings

    return server.main(from_settings(vars(chosen), os.environ))


def _demo(chosen: argparse.Namespace) -> int:
    try:
        from estimator_serving.cli.demo import run_demo
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The demo trains a model and needs {error.name}; "
            "install it with: pip install 'estimator-serving[training]'."
        ) from error
    return run_demo(chosen.directory)
