"""`estimator-serving key`: a new key for a protected server, and the line for the server's file of keys.

Owns the flags and what is printed. The form of the line is the server's.
"""

from __future__ import annotations

import argparse
import sys

from estimator_serving.serving.access.key_file import (
    CERTIFICATE_FORMS,
    MODEL_RIGHTS,
    Entry,
    KeyFileError,
    digest,
    make_key,
    parse,
    read_moment,
    write_line,
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `key`."""
    parser.add_argument("name", metavar="NAME", help="who gets the key, for logs")
    for right in MODEL_RIGHTS:
        parser.add_argument(
            f"--{right.value}",
            action="append",
            default=[],
            metavar="MODEL",
            help=f"a model, or a pattern with *, for which the key has the right `{right.value}`; may be repeated",
        )
    parser.add_argument("--metrics", action="store_true", help="the key may read the metrics")
    parser.add_argument(
        "--expires",
        metavar="DATE",
        help="from when on the key is not valid, as 2027-01-31 or 2027-01-31T12:00+00:00",
    )
    parser.add_argument(
        "--certificate",
        metavar="TEXT",
        default="",
        help="make no key; the line is for clients whose certificate says this: "
        f"{', '.join(f'{form}…' for form in CERTIFICATE_FORMS)}",
    )


def main(chosen: argparse.Namespace) -> int:
    """Prints the key and the line on standard output, what they are on standard error. Raises ValueError."""
    models = {right: tuple(names) for right in MODEL_RIGHTS if (names := getattr(chosen, right.value))}
    if not models and not chosen.metrics:
        raise ValueError("The key would have no right; give --predict, --metadata, --management or --metrics.")
    key = "" if chosen.certificate else make_key()
    sha256 = digest(key.encode()) if key else ""
    expires = read_moment(chosen.expires)
    line = write_line(Entry(chosen.name, sha256, chosen.certificate, models, chosen.metrics, expires))
    try:
        parse(line)
    except KeyFileError as error:
        raise ValueError(f"The server could not read the line. {error}") from None
    if key:
        print("The key. It is stored nowhere; give it to the client:", file=sys.stderr, flush=True)
        print(key, flush=True)
    print("The line for the file that the server reads with --auth_file:", file=sys.stderr, flush=True)
    print(line)
    return 0
