"""Who sent what is not what was signed: pieces with another digest, manifests that no honest node sends.

Nothing of it is used, so nothing is lost; but somebody's disk or memory is broken, or somebody means harm, and an
operator wants to know who. What strangers send must not fill log and status: peers are remembered up to a number, named
up to a smaller one, and the text changes only with the first of them.
"""

from __future__ import annotations

from typing import Final

import trio

from p2pboot.core.amounts import counted
from p2pboot.core.dataclass import dataclass
from p2pboot.core.problems import Code, Problem

KEPT_S: Final = 86_400.0  # after the last time; whoever looks once a day sees it
REMEMBERED: Final = 256  # peers
COUNTED: Final = 16  # and so many are told apart from "more": peer ids cost nothing
NAMED: Final = 3
_MAX_WHAT: Final = 200  # characters of what one sent


@dataclass(frozen=True, slots=True)
class _Poisoner:
    what: str  # it sent the first time
    last_at: float  # trio's clock


class Poisoners:
    """The peers that did so in the last day; for the event loop's thread."""

    def __init__(self) -> None:
        self._poisoners: dict[str, _Poisoner] = {}  # the first of them comes first
        self.times = 0
        """How often any peer did, since the start."""

    def __len__(self) -> int:
        return len(self._poisoners)

    def note(self, peer_id: str, what: str) -> None:
        """A peer sent something that is not what was signed.

        Args:
            peer_id: of the peer.
            what: it was; one line for people.
        """
        self.times += 1
        known = self._poisoners.get(peer_id)
        if known is None and len(self._poisoners) >= REMEMBERED:
            return  # the first are known already, and tell more than a hundred made-up ids
        first = what[:_MAX_WHAT] if known is None else known.what
        self._poisoners[peer_id] = _Poisoner(first, trio.current_time())

    def problems(self) -> list[Problem]:
        """One for all of them; none a day after the last time."""
        now = trio.current_time()
        self._poisoners = {
            peer_id: one for peer_id, one in self._poisoners.items() if now - one.last_at < KEPT_S
        }
        if not self._poisoners:
            return []
        count = len(self._poisoners)
        many = f"more than {COUNTED} peers" if count > COUNTED else counted(count, "peer")
        named = [f"{peer_id} ({one.what})" for peer_id, one in list(self._poisoners.items())[:NAMED]]
        more = "" if count <= NAMED else ", and others"
        return [
            Problem(
                Code.POISONERS,
                "network",
                f"{many} sent what is not what was signed: {', '.join(named)}{more}",
                "nothing of it was used, and they were dropped; look at those machines' disks and memory, or keep out"
                " whom you do not know (--allow-peer, --swarm-key)",
            )
        ]
