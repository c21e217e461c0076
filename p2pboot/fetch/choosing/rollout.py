"""Which of two manifests a machine takes: that of the channel it asked for, or what is rolled out into it.

Each passed every check of its own pair, or is not here. What is decided between them is `core.rollouts`'s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from p2pboot.core.freshness import paused_since
from p2pboot.core.manifest import Manifest
from p2pboot.core.names import next_channel
from p2pboot.core.rollouts import Decision, Machine, decide
from p2pboot.core.verify import Question, Refused
from p2pboot.errors import NotFoundError
from p2pboot.fetch.asking.search import HeadSearch
from p2pboot.fetch.choosing.manifest import Found, FoundManifest


def decide_for(machine: Machine, into: Manifest, rolled_out: Manifest, question: Question) -> Decision:
    """Say which of the two a machine takes.

    Args:
        machine: it.
        into: of the channel that it asked for.
        rolled_out: of that channel's ``.next``.
        question: of the ``.next``, with the clock and the statement that count for it.
    """
    statement = question.freshness.statement
    return decide(
        into,
        rolled_out,
        machine,
        now=question.clock.now,
        paused_since=paused_since(statement),
    )


def candidate(machine: Machine | None, search: HeadSearch, found: Sequence[Found]) -> Manifest | None:
    """What a machine would take if nothing more came.

    Args:
        machine: it; None for one that takes no part.
        search: for the channel and its ``.next``, or for the channel alone.
        found: by it, in this order.
    """
    into, rolled_out = (one.candidate() for one in found) if len(found) > 1 else (found[0].candidate(), None)
    if machine is None or into is None or rolled_out is None:
        return into
    return rolled_out if decide_for(machine, into, rolled_out, search.offers[1].question).takes_next else into


def choose(
    machine: Machine | None, search: HeadSearch, into: FoundManifest
) -> tuple[FoundManifest, Question, Decision | None]:
    """What a machine takes, and why.

    Args:
        machine: it; None for one that takes no part.
        search: is over; for the channel and its ``.next``, or for the channel alone.
        into: what it takes of the channel where nothing is rolled out.

    Returns:
        The manifest; the question that decided of it; and the decision between the two, None where nothing that may be
        used is rolled out. What is refused of a roll-out never keeps a machine from what its channel has.
    """
    if machine is not None and len(search.offers) > 1:
        question = search.offers[1].question
        with contextlib.suppress(Refused, NotFoundError):
            found = search.found_of(*search.offers[1].statements.pair).choose(question)
            decision = decide_for(machine, into.manifest, found.manifest, question)
            if decision.takes_next:
                return found, question, decision
            return into, search.question, decision
    return into, search.question, None


def channel_beside(channel: str, machine: Machine | None) -> str | None:
    """The channel that is asked for beside another one, on behalf of a machine; None for none."""
    return None if machine is None else next_channel(channel)
