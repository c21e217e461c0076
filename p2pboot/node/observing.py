"""What can be wrong with a node without anything having happened: the date of what it publishes, and what it holds.

Each function looks at the present state and returns all the problems of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Final

from p2pboot import RELEASE_DATE
from p2pboot.core.manifest import Candidate
from p2pboot.core.names import ARCHS
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import MAX_TIME
from p2pboot.errors import Malformed
from p2pboot.node.trust import Offered, Pair
from p2pboot.serving.withheld import Why, Withheld
from p2pboot.store.truststate import Equivocation, TrustState


def publishing_time(wall: int) -> int:
    """The date for what is published now: the clock's, and never before this program was made.

    What this node published before is no evidence of the time: it bears this very clock's readings.
    """
    return min(max(wall, RELEASE_DATE), MAX_TIME)


def expired_problems(withheld: Iterable[Withheld]) -> list[Problem]:
    """What is held and out of date."""
    return [
        Problem(
            Code.EXPIRED,
            f"{one.channel}/{one.arch}",
            f"{one.text}, and is not offered any more",
            "see that its publisher runs, can be reached from here, and renews it; and that this clock is right",
        )
        for one in withheld
        if one.why is Why.EXPIRED
    ]


def equivocation_problems(trust: TrustState, takes: Callable[[Offered], bool]) -> list[Problem]:
    """Trusted keys that signed two manifests of one number, until a higher one is accepted; blocking."""
    return [
        Problem(
            Code.EQUIVOCATION,
            f"{one.channel}/{one.arch}",
            f"two manifests with version {one.manifest_version} are signed: sha256:{first.digest} and"
            f" sha256:{second.digest}",
            "find out whether a key is misused or a publisher's state was lost; a higher version resumes",
        )
        for one in trust.equivocations()
        if _still_counts(trust, one)
        if (first := _read(one.first)) is not None
        and (second := _read(one.second)) is not None
        and takes(first)
    ]


def _still_counts(trust: TrustState, one: Equivocation) -> bool:
    head = trust.head(one.channel, one.arch)
    return head is not None and head.manifest_version <= one.manifest_version


def _read(raw: bytes) -> Candidate | None:
    try:
        return Candidate.decode(raw)
    except Malformed:
        return None


_UNHELD: Final = {
    Code.REFUSED: (Why.REFUSED, "what others offer is refused here (`p2pboot status` there says why)"),
    Code.UNPUBLISHABLE: (
        Why.UNPUBLISHABLE,
        "it can not be published as it is (`p2pboot status` there says why)",
    ),
}


def unheld(
    problems: Iterable[Problem], pairs: Container[Pair], channel: str | None, arch: str | None
) -> list[Withheld]:
    """What is not offered because there is nothing that could be, although the node knows why not.

    The problem's own text stays here: it names paths, and whom the operator trusts.

    Args:
        problems: of the node.
        pairs: what is offered, or withheld for another reason.
        channel: only this one.
        arch: only this (canonical) one.
    """
    found: dict[Pair, Withheld] = {}
    for problem in problems:
        pair, known = pair_of(problem.subject), _UNHELD.get(problem.code)
        if known is None or pair is None or pair in pairs:
            continue
        if channel in (None, pair[0]) and arch in (None, pair[1]):
            found[pair] = Withheld(*pair, *known)
    return list(found.values())


def pair_of(subject: str) -> Pair | None:
    """The channel and arch that a problem is about, where it is about one."""
    channel, _, arch = subject.partition("/")
    return (channel, arch) if channel and arch in ARCHS else None
