"""Whether it is working at all, in one line: the first thing that somebody wants to know who looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from p2pboot.core.amounts import duration_text, size_text
from p2pboot.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """The line.

    Args:
        level: `ok`, `busy`, `warning` or `error`; for its colour, and said in the text as well.
        text: one sentence or two.
    """

    level: str
    text: str


def verdict(document: Mapping[str, Any]) -> Verdict:
    """What the status document comes to."""
    severe = [one["severity"] for one in document["problems"]]
    offered = [head for head in document["heads"] if not head["expired"]]
    snapshots = (document["snapshots"] or {}).get("held", 0)
    told = [_offer(offered, snapshots), *_fetching(document["fetching"]), _who(document)]
    text = " ".join(told)
    if "error" in severe:
        return Verdict("error", f"Not all is well: {_counted(severe.count('error'), 'error')}. {text}")
    if "warning" in severe:
        return Verdict("warning", f"Working, with {_counted(severe.count('warning'), 'warning')}. {text}")
    if document["fetching"] or not (offered or snapshots):
        return Verdict("busy", text)
    return Verdict("ok", f"Working. {text}")


def _offer(offered: Sequence[Mapping[str, Any]], snapshots: int) -> str:
    if not offered and not snapshots:
        return "Nothing is offered here yet."
    first = min((head["expires_in_s"] for head in offered), default=None)
    kinds = [_counted(len(offered), "release")] if offered else []
    kinds += [_counted(snapshots, "snapshot")] if snapshots else []
    soon = "" if first is None else f", the first of them for {duration_text(first)} more"
    return f"{' and '.join(kinds)} {'is' if len(offered) + snapshots == 1 else 'are'} offered{soon}."


def _fetching(fetching: Sequence[Mapping[str, Any]]) -> list[str]:
    if not fetching:
        return []
    done, total = (sum(one[key] for one in fetching) for key in ("bytes_done", "bytes_total"))
    said = f"{_counted(len(fetching), 'release')} on the way, {size_text(done)} of {size_text(total)}"
    under_way = [one for each in fetching for one in each["artifacts"] if one["done"] < one["size"]]
    waits = [one["waiting_s"] for one in under_way]
    if waits and None not in waits:
        return [f"{said}; waiting for a peer, {duration_text(min(waits))}."]
    return [f"{said}."]


def _who(document: Mapping[str, Any]) -> str:
    peers = _counted(document["peers_total"], "peer")
    machines = len(document["clients"])
    booted = f", and {_counted(machines, 'machine')} that booted lately" if machines else ""
    return f"{peers}{booted}."


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
