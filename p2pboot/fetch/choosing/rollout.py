"""Which of two manifests a machine takes: that of the channel it asked for, or what is rolled out into it.

Each passed every check of its own pair, or is not here. What is decided between them is `core.rollouts`'s.
"""

from __future__ import annotations

import contextlib

from p2pboot.core.manifest import Manifest
from p2pboot.core.names import next_channel
from p2pboot.core.rollouts import Decision, Machine, decide
from p2pboot.core.verify import Question, Refused
from p2pboot.errors import NotFoundError
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
        paused_since=None if statement is None else statement.body.paused_since,
    )


def candidate(machine: Machine, into: Found, rolled_out: Found, question: Question) -> Manifest | None:
    """What a machine would take if nothing more came; arguments as for `choose`."""
    first, second = into.candidate(), rolled_out.candidate()
    if first is None or second is None:
        return first
    return second if decide_for(machine, first, second, question).takes_next else first


def choose(
    machine: Machine, into: FoundManifest, rolled_out: Found, question: Question
) -> tuple[FoundManifest, Decision | None]:
    """What a machine takes, and why.

    Args:
        machine: it.
        into: what it takes of the channel that it asked for, where nothing is rolled out.
        rolled_out: what was found of that channel's ``.next``.
        question: of the ``.next``.

    Returns:
        The manifest, and the decision; None in its place where nothing that may be used is rolled out. What is refused
        of a roll-out never keeps a machine from what its channel has.
    """
    with contextlib.suppress(Refused, NotFoundError):
        found = rolled_out.choose(question)
        decision = decide_for(machine, into.manifest, found.manifest, question)
        return (found if decision.takes_next else into), decision
    return into, None


def channel_beside(channel: str, machine: Machine | None) -> str | None:
    """The channel that is asked for beside another one, on behalf of a machine; None for none."""
    return None if machine is None else next_channel(channel)
