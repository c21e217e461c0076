"""Is it working at all? One condition and one line, out of a status document (``docs/status.md``).

Page, terminal and service manager show this line, and none of them judges for itself; nor has any of them words of its
own for what the document has short ones for.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from p2pboot.core.amounts import counted
from p2pboot.core.dataclass import dataclass
from p2pboot.core.headway import SOURCE_WORDS
from p2pboot.core.problems import Severity


class Condition(enum.StrEnum):
    """How a node is, on the whole."""

    WORKING = "working"  # it offers something, and nothing that machines need is wrong
    IN_PART = "working-in-part"  # it offers something, and something else that machines need is not offered
    NOT_READY = "not-ready"  # it offers nothing yet, and nothing is known that would keep it from doing so
    NOT_WORKING = "not-working"  # it offers nothing, and says why


_NAMED: Final = 2  # releases on their way
_WORDS: Final = {
    Condition.WORKING: "working",
    Condition.IN_PART: "WORKING IN PART",
    Condition.NOT_READY: "not ready",
    Condition.NOT_WORKING: "NOT WORKING",
}


CLASS_WORDS: Final[Mapping[str, str]] = {**SOURCE_WORDS, "http": "HTTP"}
"""What `flows` counts apart, for people."""

PATH_WORDS: Final[Mapping[str, str]] = {
    "lan": "LAN",
    "mesh": "mesh",
    "dht": "DHT",
    "bootstrap": "bootstrap",
    "incoming": "incoming",
}
"""The path to a peer, for people."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A node at one look.

    Args:
        condition: how it is.
        text: one line for people; it begins with the condition.
    """

    condition: Condition
    text: str


def overview(document: Mapping[str, Any]) -> Overview:
    """Sum a status document up."""
    found = Counter(problem["severity"] for problem in document["problems"])
    releases = sum(map(is_offered, document["heads"]))
    snapshots = 0 if document["snapshots"] is None else document["snapshots"]["held"]
    offers = [
        counted(count, noun) for count, noun in ((releases, "release"), (snapshots, "snapshot")) if count
    ]
    if offers:
        condition = Condition.IN_PART if found[Severity.ERROR] else Condition.WORKING
        parts = [f"offers {' and '.join(offers)}"]
    else:
        condition = Condition.NOT_WORKING if found[Severity.ERROR] else Condition.NOT_READY
        parts = ["nothing is offered"]
    if document["fetching"]:
        parts.append(f"fetching {_fetching(document['fetching'])}")
    parts.append(counted(document["peers_total"], "peer"))
    parts += [
        counted(found[severity], noun)
        for severity, noun in (
            (Severity.ERROR, "error"),
            (Severity.WARNING, "warning"),
            (Severity.INFO, "note"),
        )
        if found[severity]
    ] or ["nothing wrong"]
    return Overview(condition, f"{_WORDS[condition]}: {', '.join(parts)}")


def is_offered(head: Mapping[str, Any]) -> bool:
    """Whether a release of `heads` is offered; a node of before that was told: in date, and its signers trusted."""
    return bool(head.get("offered", not head["expired"] and head["publisher"] is not None))


def _fetching(pending: Sequence[Mapping[str, Any]]) -> str:
    named = []
    for one in pending[:_NAMED]:
        total = one["bytes_total"]
        done = f" {100 * one['bytes_done'] // total} %" if total else ""
        named.append(f"{one['channel']}/{one['arch']}{done}")
    left = len(pending) - len(named)
    return " and ".join(named) if not left else f"{', '.join(named)} and {left} more"
