"""What a fetch tells whoever watches it. Nothing here prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from typing_extensions import override

from p2pboot.core.headway import Source

STALLED_S: Final = 10.0
"""When nothing has arrived for so long it is told why, and again after as long at the earliest."""


class Progress(Protocol):
    """Called from the fetch's own tasks, often: an implementation must be quick and must not raise."""

    def plan(self, sizes: Mapping[str, int]) -> None:
        """All that is wanted, bytes by artifact, before anything is said of one; again when that changes."""

    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        """So much of an artifact is verified and on the disk; at first, what was there before, or is zeros."""

    def arrived(self, peer_id: str, source: Source, size_bytes: int) -> None:
        """So much of an artifact came from a peer, useful or not."""

    def pulse(self, idle_s: float, peers: int) -> None:
        """Now and then: for how long nothing came although peers were waited for, and how many are connected."""

    def note(self, text: str) -> None:
        """Something that a person may like to know, one line."""

    def peer(self, peer_id: str, text: str) -> None:
        """Something about one peer, one line: it was dropped, or its signature file was."""

    def stalled(self, why: str | None) -> None:
        """Nothing has arrived for a while, and why, one line; None: it goes on."""


class NoProgress:
    """A `Progress` for who does not watch."""

    def plan(self, sizes: Mapping[str, int]) -> None:
        """Do nothing."""

    def arrived(self, peer_id: str, source: Source, size_bytes: int) -> None:
        """Do nothing."""

    def pulse(self, idle_s: float, peers: int) -> None:
        """Do nothing."""

    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def peer(self, peer_id: str, text: str) -> None:
        """Do nothing."""

    def stalled(self, why: str | None) -> None:
        """Do nothing."""


class Passing:
    """A `Progress` that passes everything on to another one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def plan(self, sizes: Mapping[str, int]) -> None:
        """Pass it on."""
        self._progress.plan(sizes)

    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        """Pass it on."""
        self._progress.artifact(key, done_bytes, total_bytes)

    def arrived(self, peer_id: str, source: Source, size_bytes: int) -> None:
        """Pass it on."""
        self._progress.arrived(peer_id, source, size_bytes)

    def pulse(self, idle_s: float, peers: int) -> None:
        """Pass it on."""
        self._progress.pulse(idle_s, peers)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._progress.note(text)

    def peer(self, peer_id: str, text: str) -> None:
        """Pass it on."""
        self._progress.peer(peer_id, text)

    def stalled(self, why: str | None) -> None:
        """Pass it on: it is over when there is a result."""
        self._progress.stalled(why)


class Recorder(Passing):
    """A `Progress` that passes everything on and keeps what belongs into a job's result."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self.warnings: list[str] = []
        """Notes, and what was said of peers, in the order in which it came."""

    @override
    def note(self, text: str) -> None:
        self.warnings.append(text)
        super().note(text)

    @override
    def peer(self, peer_id: str, text: str) -> None:
        self.warnings.append(f"peer {peer_id}: {text}")
        super().peer(peer_id, text)


class Stall:
    """Decides when a job tells that nothing arrives: seldom, and only what is new."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told: str | None = None
        self._told_at = -math.inf

    def look(self, now: float, idle_s: float, peers: int, why: Callable[[], str]) -> None:
        """To be called every now and then.

        Args:
            now: clock of the job, seconds.
            idle_s: for how long nothing has arrived.
            peers: that are connected.
            why: makes the line; asked only when it may be told.
        """
        self._progress.pulse(idle_s, peers)
        if idle_s < STALLED_S:
            if self._told is not None:
                self._told = None
                self._progress.stalled(None)
        elif now - self._told_at >= STALLED_S and (text := why()) != self._told:
            self._told, self._told_at = text, now
            self._progress.stalled(text)
