"""How the bringing in of one release gets on, for whoever reads the log; a terminal may be shown a bar instead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import trio
from typing_extensions import override

from p2pboot.core.events import Event
from p2pboot.core.headway import HeadwayTally, Source
from p2pboot.fetch.progress import NoProgress, Progress

log = logging.getLogger(__name__)

FIRST_S: Final = 5.0
"""What is here sooner is told when it is here."""

INTERVAL_S: Final = 30.0
LONGEST_INTERVAL_S: Final = 600.0
"""While nothing comes it is twice as long from line to line."""

Watch = Callable[[str], AbstractContextManager[Progress | None]]
"""Given what is brought in, shows how it gets on while the context lasts; gives None when the log is to say it."""


@contextmanager
def nobody_watches(_subject: str) -> Iterator[None]:
    """Have the log say it."""
    yield None


class LoggedProgress(NoProgress):
    """A `Progress` that logs a line now and then.

    Args:
        channel, arch, manifest_version: of what is brought in.
    """

    def __init__(self, channel: str, arch: str, manifest_version: int) -> None:
        now = trio.current_time()
        self._channel = channel
        self._arch = arch
        self._version = manifest_version
        self._tally = HeadwayTally(now, transfers=True)
        self._next = now + FIRST_S
        self._pause_s = INTERVAL_S

    @override
    def plan(self, sizes: Mapping[str, int]) -> None:
        self._tally.plan(sizes)

    @override
    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        self._tally.artifact(key, done_bytes, total_bytes, trio.current_time())

    @override
    def arrived(self, peer_id: str, source: Source, size_bytes: int) -> None:
        self._tally.arrived(peer_id, source, size_bytes, trio.current_time())

    @override
    def pulse(self, idle_s: float, peers: int) -> None:
        now = trio.current_time()
        self._tally.pulse(idle_s, peers, now)
        if now >= self._next:
            self._say(now)

    def _say(self, now: float) -> None:
        headway = self._tally.headway(now)
        is_waiting = headway.waiting_s is not None
        self._next = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_INTERVAL_S) if is_waiting else INTERVAL_S
        log.info(
            "%s/%s: %s",
            self._channel,
            self._arch,
            headway.text("fetching"),
            extra=Event.FETCHING(
                channel=self._channel,
                arch=self._arch,
                manifest_version=self._version,
                done_bytes=headway.done_bytes,
                total_bytes=headway.total_bytes,
                rate=round(headway.rate),
                left_s=headway.left_s,
                waiting_s=None if headway.waiting_s is None else round(headway.waiting_s),
                peers=headway.peers,
            ),
        )
