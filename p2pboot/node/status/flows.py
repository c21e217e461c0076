"""Where bytes come from and go to: over five minutes, by class of who is at the other end; and how fast lately.

Nothing is added where bytes pass: every few seconds what `transport.traffic` counted is compared with what it was.
What it does not remember singly any more counts as the mesh's, so that classes always add up to all that passed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.transport.traffic import HTTP as HTTP_KIND
from p2pboot.transport.traffic import RECEIVED, SENT, Traffic

LAN: Final = "lan"
MESH: Final = "mesh"
PUBLISHER: Final = "publisher"
HTTP: Final = "http"

CLASSES: Final = (LAN, MESH, PUBLISHER, HTTP)
"""Each byte is of one class: that of HTTP clients, else of publishers, else of near peers, else of all others."""

INTERVAL_S: Final = 5
INTERVALS: Final = 60

DIRECTIONS: Final = (RECEIVED, SENT)

_RATED: Final = 2
"""Intervals that a rate is over, together with what has passed of the one that is not over."""

Sizes = Mapping[str, tuple[int, int]]
"""Bytes received and sent since the start, by peer id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowsFacts:
    """Bytes by class of who is at the other end, in intervals of one length.

    Args:
        interval_s: seconds of each.
        ended_s: seconds since the last one ended.
        received, sent: by class, the oldest interval first; all have the same number of intervals.
        totals: since the start, by direction ("received" or "sent") and class.
    """

    interval_s: int
    ended_s: float
    received: Mapping[str, tuple[int, ...]]
    sent: Mapping[str, tuple[int, ...]]
    totals: Mapping[str, Mapping[str, int]]


class Flows:
    """The intervals; the caller says when one is over.

    Args:
        traffic: what is counted.
        class_of: LAN, MESH or PUBLISHER for a peer id; asked about those with which something was exchanged.
        now: seconds, of the clock that all methods are given; the first interval begins.
    """

    def __init__(self, traffic: Traffic, class_of: Callable[[str], str], now: float) -> None:
        self._traffic = traffic
        self._class_of = class_of
        self._ended_at = now
        self._peers: deque[tuple[float, Sizes]] = deque([(now, traffic.of_peers())], maxlen=_RATED)
        self._all = [_all_of(traffic, direction) for direction in DIRECTIONS]
        self._http = [traffic[HTTP_KIND, direction] for direction in DIRECTIONS]
        self._rings = {
            direction: {one: deque[int](maxlen=INTERVALS) for one in CLASSES} for direction in DIRECTIONS
        }
        self._totals = {direction: dict.fromkeys(CLASSES, 0) for direction in DIRECTIONS}

    @property
    def ends_at(self) -> float:
        """When the interval that is under way ends."""
        return self._ended_at + INTERVAL_S

    def end_interval(self, now: float) -> None:
        """An interval is over; where the machine slept meanwhile, those before it were empty."""
        over = max(1, int((now - self._ended_at) / INTERVAL_S))
        self._ended_at += over * INTERVAL_S
        for _ in range(min(over - 1, INTERVALS)):
            self._append({direction: dict.fromkeys(CLASSES, 0) for direction in DIRECTIONS})
        self._append(self._passed(now))

    def facts(self, now: float) -> FlowsFacts:
        """All intervals that are over."""
        received, sent = (
            {one: tuple(sizes) for one, sizes in self._rings[direction].items()} for direction in DIRECTIONS
        )
        return FlowsFacts(
            interval_s=INTERVAL_S,
            ended_s=max(0.0, now - self._ended_at),
            received=received,
            sent=sent,
            totals={direction: dict(sizes) for direction, sizes in self._totals.items()},
        )

    def rates(self, now: float) -> tuple[Sizes, Mapping[str, tuple[float, float]]]:
        """What was exchanged with each peer that is remembered.

        Returns:
            Bytes received and sent since the start, and bytes per second of both over the last 5 to 10 s; by peer id.
        """
        since, before = self._peers[0]
        sizes = self._traffic.of_peers()
        elapsed_s = max(now - since, 1.0)
        rates = {}
        for peer, counted in sizes.items():
            received, sent = _grown(counted, before.get(peer, (0, 0)))
            rates[peer] = received / elapsed_s, sent / elapsed_s
        return sizes, rates

    def _passed(self, now: float) -> Mapping[str, Mapping[str, int]]:
        """What passed since the last interval, by direction and class."""
        before, sizes = self._peers[-1][1], self._traffic.of_peers()
        self._peers.append((now, sizes))
        by_class = {one: [0, 0] for one in CLASSES}
        for peer, counted in sizes.items():
            if counted != before.get(peer):
                which = by_class[self._class_of(peer)]
                for number, size in enumerate(_grown(counted, before.get(peer, (0, 0)))):
                    which[number] += size
        for number, direction in enumerate(DIRECTIONS):
            all_of_it, http = _all_of(self._traffic, direction), self._traffic[HTTP_KIND, direction]
            by_class[HTTP][number] = http - self._http[number]
            known = by_class[LAN][number] + by_class[PUBLISHER][number]
            by_class[MESH][number] = max(0, all_of_it - self._all[number] - known)
            self._all[number], self._http[number] = all_of_it, http
        return {
            direction: {one: by_class[one][number] for one in CLASSES}
            for number, direction in enumerate(DIRECTIONS)
        }

    def _append(self, passed: Mapping[str, Mapping[str, int]]) -> None:
        for direction, sizes in passed.items():
            for one, size in sizes.items():
                self._rings[direction][one].append(size)
                self._totals[direction][one] += size


def _all_of(traffic: Traffic, direction: str) -> int:
    """All that was exchanged with peers."""
    return sum(size for (kind, way), size in traffic.items() if way == direction and kind != HTTP_KIND)


def _grown(now: tuple[int, int], before: tuple[int, int]) -> tuple[int, int]:
    """How much more it is; one that was forgotten meanwhile has begun anew."""
    if now[0] < before[0] or now[1] < before[1]:
        return now
    return now[0] - before[0], now[1] - before[1]
