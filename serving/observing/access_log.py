"""One line of JSON for every inference: the caller, the request, the outcome and the time it took.

Owns the line and the file it goes to. JSON escapes line ends, terminal codes and whatever else a client puts into a
name, so a line is always one entry.
"""

from __future__ import annotations

import errno
import json
import sys
from datetime import UTC, datetime
from typing import Any

from estimator_serving.serving.observing.spool import Spool
from estimator_serving.serving.predictor import Call

STANDARD_OUTPUT = "-"
# Of what a client may choose; the rest is cut off.
TEXT_CHARACTERS_MAX = 256
_LINE_BYTES = 512


class AccessLog:
    """Observes calls, and writes a line for each. `path`: a file that is appended to, or "-" for standard output.

    The file is opened for each few lines anew: one that was moved away is followed by a new one without a signal.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        # Whether the last line is not whole, so that the next must not continue it.
        self._is_cut = False
        self._spool: Spool[dict[str, Any]] = Spool("access log", self._write)

    def __call__(self, call: Call) -> None:
        spec = call.spec
        signature_name = call.request.signature_name if call.request else spec.signature_name if spec else ""
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": call.codec.method,
            "entrypoint": call.codec.entrypoint,
            "model": _cut(spec.name) if spec else "",
            "version": call.servable.version if call.servable else None,
            "signature": _cut(signature_name),
            "code": call.code.name,
            "latency_ms": round(call.elapsed_s * 1e3, 3),
            "request_bytes": len(call.payload),
            "response_bytes": len(call.answer or b""),
            "remote": call.context.remote(),
        }
        if call.context.grant is not None:
            entry["caller"] = call.context.grant.name
        self._spool.put(entry, _LINE_BYTES)

    def close(self) -> None:
        """Write the lines that were taken."""
        self._spool.close()

    def _write(self, entries: list[dict[str, Any]]) -> None:
        lines = [json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in entries]
        # Without a buffer: one write is one piece, so that the lines of several processes do not run into each other.
        if self._path == STANDARD_OUTPUT:
            for line in lines:  # a pipe takes one as a piece, and not many
                sys.stdout.buffer.write(line)
                sys.stdout.flush()
            return
        with open(self._path, "ab", buffering=0) as file:
            content = b"\n" * self._is_cut + b"".join(lines)
            self._is_cut = file.write(content) < len(content)
            if self._is_cut:
                raise OSError(errno.ENOSPC, "the disk is full, and the last line is cut")


def _cut(text: str) -> str:
    return text[:TEXT_CHARACTERS_MAX]
