"""What the operator wants to have here, of which there may be nothing yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.problems import Code, Problem
from p2pboot.node.observing import pair_of
from p2pboot.store.offering import SOON_S

_OF_PAIRS: Final = (Code.UNPUBLISHABLE, Code.STILL_CHANGING, Code.WITHDRAWN)


@dataclass(frozen=True, slots=True)
class Awaited:
    """A channel that the operator wants to have here.

    Args:
        channel: its name.
        arch: its canonical name; None where whatever there is will do.
        text: what is waited for, one line for a person; without anything that only the operator may know.
        retry_after_s: when it makes sense to ask again; None where the operator has to do something first.
    """

    channel: str
    arch: str | None
    text: str
    retry_after_s: int | None = SOON_S


def awaited(wanted: Iterable[tuple[str, str | None]], problems: Iterable[Problem]) -> list[Awaited]:
    """What is wanted, there already or not.

    Args:
        wanted: what is followed and published, as (channel, arch).
        problems: of the node; they tell what can not be published, and what was taken back.
    """
    found = {
        pair: one.code
        for one in problems
        if one.code in _OF_PAIRS and (pair := pair_of(one.subject)) is not None
    }
    withdrawn = {pair for pair, code in found.items() if code is Code.WITHDRAWN}  # taken back: wanted no more
    return [
        _awaited(channel, arch, found.get((channel, arch or "")))
        for channel, arch in sorted({*wanted, *found} - withdrawn, key=lambda pair: (pair[0], pair[1] or ""))
    ]


def _awaited(channel: str, arch: str | None, problem: Code | None) -> Awaited:
    name = channel if arch is None else f"{channel}/{arch}"
    if problem is Code.UNPUBLISHABLE:
        return Awaited(channel, arch, f"{name} can not be published as it is", retry_after_s=None)
    return Awaited(channel, arch, f"no manifest of {name} is complete here yet")
