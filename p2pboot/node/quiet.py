"""Whether a channel and arch of the artifacts directory is being written to: what is half copied is not published.

Files tell by their dates, whoever or whatever asks for a look; nothing here remembers a change that it was told of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from p2pboot.core.trust import Pair
from p2pboot.node.adoption import OUTBID_S
from p2pboot.node.inforce import InForce
from p2pboot.node.watching import touched_within
from p2pboot.publish.scan import Tree, Unfit, recently_changed

SETTLED_S: Final = 2.0  # at the start, a file younger than this may still be being written
QUIET_S: Final = 10.0  # later, nothing must have changed for so long, whoever or whatever asks for a build


class Quiet:
    """See above.

    Args:
        in_force: what the publisher has in force; what another machine made of it is waited for longer.
        wall: the machine's clock, unix seconds; called in threads.
        look_within: has the publisher look again after so many seconds at the latest.
    """

    def __init__(
        self, in_force: InForce, wall: Callable[[], float], look_within: Callable[[float], None]
    ) -> None:
        self._in_force = in_force
        self._wall = wall
        self._look_within = look_within
        self._settling: set[Pair] | None = None  # what was there at the start and has not been quiet yet

    def begin(self, pairs: set[Pair]) -> None:
        """Of what the first look finds, wait less; every look says what it found."""
        if self._settling is None:
            self._settling = pairs

    async def is_busy(self, of: Tree | Unfit) -> bool:
        """Whether a pair is being written to; one that was there at the start is waited for less."""
        pair = (of.channel, of.arch)
        settling = self._settling if self._settling is not None else set()
        quiet_s = SETTLED_S if pair in settling else QUIET_S
        if pair not in settling and await trio.to_thread.run_sync(self._in_force.is_from_elsewhere, pair):
            quiet_s += OUTBID_S  # who shares the directory and the key is to publish the change
        if await trio.to_thread.run_sync(self._changed_within, of, quiet_s):
            self._look_within(quiet_s / 4)
            return True
        settling.discard(pair)
        return False

    def _changed_within(self, of: Tree | Unfit, quiet_s: float) -> bool:
        now_ns = int(self._wall() * 1e9)
        if isinstance(of, Tree):
            return recently_changed(of, now_ns, quiet_s)
        return touched_within(of.directory, now_ns, quiet_s)
