"""Is it working at all? One state and one line, out of a status document (``docs/status.md``)."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from typing import Any

from p2pboot.core.dataclass import dataclass
from p2pboot.core.problems import Severity


class Standing(enum.StrEnum):
    """How a node is, on the whole."""

    WORKING = "working"  # it offers something, and nothing that machines need is wrong
    IN_PART = "working-in-part"  # it offers something, and something else that machines need is not offered
    NOT_READY = "not-ready"  # it offers nothing yet, and nothing is known that would keep it from doing so
    NOT_WORKING = "not-working"  # it offers nothing, and says why


_WORDS = {
    Standing.WORKING: "working",
    Standing.IN_PART: "WORKING IN PART",
    Standing.NOT_READY: "not ready",
    Standing.NOT_WORKING: "NOT WORKING",
}


@dataclass(frozen=True, slots=True)
class Overview:
    """A node at one look.

    Args:
        standing: how it is.
        text: one line for people; it begins with the standing.
    """

    standing: Standing
    text: str


def overview(document: Mapping[str, Any]) -> Overview:
    """Sum a status document up."""
    found = Counter(problem["severity"] for problem in document["problems"])
    releases = sum(map(is_offered, document["heads"]))
    snapshots = 0 if document["snapshots"] is None else document["snapshots"]["held"]
    offers = [
        _counted(count, noun) for count, noun in ((releases, "release"), (snapshots, "snapshot")) if count
    ]
    fetching = len(document["fetching"])
    if offers:
        standing = Standing.IN_PART if found[Severity.ERROR] else Standing.WORKING
        parts = [f"offers {' and '.join(offers)}"]
    else:
        standing = Standing.NOT_WORKING if found[Severity.ERROR] else Standing.NOT_READY
        parts = ["nothing is offered"]
    if fetching:
        parts.append(f"fetching {_counted(fetching, 'release')}")
    parts.append(_counted(document["peers_total"], "peer"))
    parts += [
        _counted(found[severity], noun)
        for severity, noun in (
            (Severity.ERROR, "error"),
            (Severity.WARNING, "warning"),
            (Severity.INFO, "note"),
        )
        if found[severity]
    ] or ["nothing wrong"]
    return Overview(standing, f"{_WORDS[standing]}: {', '.join(parts)}")


def is_offered(head: Mapping[str, Any]) -> bool:
    """Whether a release of `heads` is offered: it is in date, and its signers are trusted still."""
    return not head["expired"] and head["publisher"] is not None


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
