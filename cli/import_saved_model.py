"""`estimator-serving import`: a TensorFlow SavedModel becomes a servable.

Owns the flags and what is printed. The conversion is the exporter's.
"""

from __future__ import annotations

import argparse

from estimator_serving.exporter import import_saved_model


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `import`."""
    parser.add_argument("saved_model", metavar="SAVED_MODEL", help="the directory that holds saved_model.pb")
    parser.add_argument("base", metavar="BASE", help="the directory whose numbered children are versions")
    parser.add_argument(
        "--tag", action="append", metavar="TAG", help="a tag of the graph to read; repeat it for each tag (serve)"
    )
    parser.add_argument(
        "--signature", action="append", metavar="KEY", help="a signature to import; repeat it for several (all)"
    )
    parser.add_argument("--name", help="write the version below BASE/NAME")
    parser.add_argument(
        "--skip-unsupported",
        action="store_true",
        help="leave out signatures with operations that are not converted, and import the others",
    )
    parser.add_argument(
        "--no-warmup", action="store_true", help="write no warmup requests where the SavedModel has none"
    )


def main(chosen: argparse.Namespace) -> int:
    """Imports, prints the path of the version and, on stderr, what was left out."""
    print(
        import_saved_model(
            chosen.saved_model,
            chosen.base,
            tags=chosen.tag or ("serve",),
            signatures=chosen.signature,
            name=chosen.name,
            skip_unsupported=chosen.skip_unsupported,
            warmup=not chosen.no_warmup,
        )
    )
    return 0
