"""How far a piece of long work is: what its tasks report, as what people are shown of it, and in which words.

Pure: the clock is an argument. The forms (a bar, lines, a log) are elsewhere; they all say this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Final, Literal

from p2pboot.core.amounts import counted, duration_text, rate_text, size_text
from p2pboot.core.dataclass import dataclass
from p2pboot.core.estimate import WINDOW_S, RateWindow, left_s

Source = Literal["lan", "mesh", "publisher"]
"""Where bytes come from: the publisher itself, wherever it is; else a peer that is near; else any other."""


def source_of(*, is_publisher: bool, near: Callable[[], bool]) -> Source:
    """Whose bytes a peer's are; `near` is asked only where that decides."""
    if is_publisher:
        return "publisher"
    return "lan" if near() else "mesh"


SOURCE_WORDS: Final[Mapping[str, str]] = {"lan": "LAN", "mesh": "mesh", "publisher": "publisher"}
"""As people are told, of a fetch and of all that passes."""

WAITING_S: Final = 3.0
"""When nothing has come for so long, that is what is said, and no time left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headway:
    """How far it is at one moment.

    Args:
        done_bytes: of `total_bytes`, with what was there at the beginning and what consists of zeros.
        total_bytes: 0 while nobody knows.
        here_bytes: what of it nobody had to bring or read: it was there, or is zeros.
        rate: bytes per second lately, of what was brought or read.
        left_s: seconds that the rest takes; None when nobody can tell.
        waiting_s: seconds since anything came, when that is long; else None.
        peers: that are connected; None where none are needed.
        givers: peers that gave anything lately.
        shares: percent of what was brought, by source; the most first, none of 0.
    """

    done_bytes: int = 0
    total_bytes: int = 0
    here_bytes: int = 0
    rate: float = 0.0
    left_s: int | None = None
    waiting_s: float | None = None
    peers: int | None = None
    givers: int = 0
    shares: Mapping[Source, int] = field(default_factory=dict)

    @property
    def percent(self) -> int:
        """How much is done, rounded down: 100 is all of it."""
        return 100 * self.done_bytes // self.total_bytes if self.total_bytes else 0

    def parts(self, doing: str) -> Sequence[str]:
        """What is to be said, the most important first.

        Args:
            doing: what is being done: "fetching".
        """
        if not self.total_bytes:
            return (self._nothing_yet(),)
        said = [f"{doing} {self.percent} % of {size_text(self.total_bytes)}"]
        if self.done_bytes >= self.total_bytes:
            pass
        elif self.waiting_s is not None:
            said.append(self._waiting(self.waiting_s))
        elif self.rate > 0:
            said.append(rate_text(self.rate))
            if self.left_s is not None:
                said.append(f"{duration_text(self.left_s)} left")
            if self.givers:
                said.append(counted(self.givers, "peer"))
        if self.shares:
            said.append(shares_text(self.shares))
        if self.here_bytes:
            said.append(
                f"{size_text(self.here_bytes)} {'known already' if self.peers is None else 'were here'}"
            )
        return tuple(said)

    def text(self, doing: str, width: int | None = None) -> str:
        """The same as one line.

        Args:
            doing: as above.
            width: characters that there are; what is least important is left out. None: as many as it takes.
        """
        parts = self.parts(doing)
        line = ", ".join(parts)
        while width is not None and len(line) > width and len(parts) > 1:
            parts = parts[1:] if len(parts) == 2 and self._is_waiting else parts[:-1]
            line = ", ".join(parts)
        return line if width is None else line[:width]

    @property
    def _is_waiting(self) -> bool:
        return self.waiting_s is not None and self.done_bytes < self.total_bytes

    def _nothing_yet(self) -> str:
        since = "" if self.waiting_s is None else f", {duration_text(self.waiting_s)}"
        if self.peers:
            return f"{counted(self.peers, 'peer')} asked, nothing found yet{since}"
        return f"waiting for a peer{since}" if self.peers == 0 else f"waiting{since}"

    def _waiting(self, waiting_s: float) -> str:
        since = duration_text(waiting_s)
        if self.peers is None:
            return f"nothing for {since}"
        if not self.peers:
            return f"waiting for a peer, {since}"
        return f"waiting for {counted(self.peers, 'peer')}, no byte for {since}"


class HeadwayTally:
    """Adds up what the tasks of one piece of work report.

    Args:
        now: seconds, of the clock that all methods are given.
        transfers: whether peers bring it: then `arrived` says what came and `pulse` whether anything does, and what
            grows otherwise (zeros, what is found to be here) counts into no rate. Without, what grows is what was read.
    """

    def __init__(self, now: float, *, transfers: bool) -> None:
        self._transfers = transfers
        self._window = RateWindow(now)
        self._sizes: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._here: dict[str, int] = {}
        self._sources: dict[Source, int] = {}
        self._gave_at: dict[str, float] = {}  # peers of the window, the last to give last
        self._idle_since = now
        self._peers: int | None = 0 if transfers else None

    def plan(self, sizes: Mapping[str, int]) -> None:
        """All that is wanted, bytes by name; what was planned before and is not in it is not wanted any more."""
        for key in [key for key in self._sizes if sizes.get(key) != self._sizes[key]]:
            self._forget(key)
        self._sizes.update(sizes)

    def artifact(self, key: str, done_bytes: int, total_bytes: int, now: float) -> None:
        """So much of one part is done; what the first word of it says was there before."""
        if self._sizes.get(key) != total_bytes and self._transfers:
            self._forget(key)  # another version of it
        self._sizes[key] = total_bytes
        before = self._done.get(key)
        self._done[key] = done_bytes
        if before is None:
            self._here[key] = done_bytes
        elif not self._transfers and done_bytes > before:
            self._window.note(done_bytes - before, now)
            self._idle_since = now

    def known(self, key: str, size_bytes: int) -> None:
        """So much of one part needs no work, as turned out on the way."""
        self._done[key] = self._done.get(key, 0) + size_bytes
        self._here[key] = self._here.get(key, 0) + size_bytes

    def arrived(self, peer_id: str, source: Source, size_bytes: int, now: float) -> None:
        """So much came from a peer, whether it is of use or not."""
        self._window.note(size_bytes, now)
        self._idle_since = now
        self._sources[source] = self._sources.get(source, 0) + size_bytes
        self._gave_at.pop(peer_id, None)
        self._gave_at[peer_id] = now
        self._forget_givers(now)

    def pulse(self, idle_s: float, peers: int, now: float) -> None:
        """For how long nothing came although peers were waited for, and how many are connected."""
        self._idle_since = now - idle_s
        self._peers = peers

    def headway(self, now: float) -> Headway:
        """How far it is."""
        self._forget_givers(now)
        total, done = sum(self._sizes.values()), sum(self._done.values())
        idle_s = now - self._idle_since
        waiting_s = idle_s if idle_s >= WAITING_S else None
        rate = self._window.rate(now)
        return Headway(
            done_bytes=done,
            total_bytes=total,
            here_bytes=sum(self._here.values()),
            rate=rate,
            left_s=None if waiting_s is not None else left_s(total - done, rate),
            waiting_s=waiting_s,
            peers=self._peers,
            givers=len(self._gave_at),
            shares=shares_of(self._sources),
        )

    def _forget(self, key: str) -> None:
        for amounts in (self._sizes, self._done, self._here):
            amounts.pop(key, None)

    def _forget_givers(self, now: float) -> None:
        while self._gave_at:
            peer_id = next(iter(self._gave_at))
            if self._gave_at[peer_id] > now - WINDOW_S:
                return
            del self._gave_at[peer_id]


def shares_of(sources: Mapping[Source, int]) -> dict[Source, int]:
    """Whole percent of the bytes by source, the most first; together 100, and nobody who gave something has none."""
    given = {source: count for source, count in sources.items() if count > 0}
    total = sum(given.values())
    ordered = sorted(given, key=lambda source: -given[source])
    shares = {source: max(1, 100 * given[source] // total) for source in ordered}
    if ordered:
        shares[ordered[0]] += 100 - sum(shares.values())  # what rounding took from the others
    return shares


def shares_text(shares: Mapping[Source, int]) -> str:
    """Where it came from: "80 % LAN, 20 % publisher"."""
    return ", ".join(f"{percent} % {SOURCE_WORDS[source]}" for source, percent in shares.items())
