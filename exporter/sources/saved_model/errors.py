"""What can be wrong with a SavedModel: it cannot be read, or it holds what is not converted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


class SavedModelError(ValueError):
    """A SavedModel that cannot be read, or a wish it cannot fulfil; a sentence with the next step."""


class Unsupported(Exception):  # noqa: N818 - a refusal of one node; users see UnsupportedOps
    """A node that is not converted, and why."""

    def __init__(self, op: str, node: str, reason: str) -> None:
        super().__init__(f"{op} at {node}: {reason}")
        self.op = op
        self.node = node
        self.reason = reason


class UnsupportedOps(SavedModelError):  # noqa: N818 - the name that users of the exporter know
    """The ops that keep signatures from being converted; nothing was written."""

    def __init__(self, blocked: Mapping[str, Sequence[Unsupported]], converted: Sequence[str]) -> None:
        self.blocked = blocked
        super().__init__(describe(blocked, converted))


def describe(blocked: Mapping[str, Sequence[Unsupported]], converted: Sequence[str]) -> str:
    """One text of all that is refused: op, how often, why, the signatures it blocks, and what to do."""
    by_op: dict[str, dict[str, Unsupported]] = {}
    signatures: dict[str, list[str]] = {}
    for signature, refusals in blocked.items():
        for one in refusals:
            by_op.setdefault(one.op, {})[one.node] = one
            if signature not in signatures.setdefault(one.op, []):
                signatures[one.op].append(signature)
    lines = []
    for op, nodes in sorted(by_op.items()):
        reasons = Counter(one.reason for one in nodes.values())
        first = next(iter(nodes.values()))
        times = f"{len(nodes)} times, first" if len(nodes) > 1 else "once,"
        lines.append(
            f"  {op} ({times} at {first.node}): {'; '.join(reasons)}. It blocks {', '.join(sorted(signatures[op]))}."
        )
    if converted:
        todo = f"Pass --skip-unsupported to import the others ({', '.join(sorted(converted))}) without them."
    else:
        todo = "No signature is left to import; export the model without these ops, or retrain it with this project."
    return "\n".join(["The SavedModel holds what is not converted:", *lines, todo])
