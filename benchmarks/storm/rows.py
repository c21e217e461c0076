"""What is measured, and what is to be reached: one row for each situation, and the bound that nobody can beat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.lab import Link
from benchmarks.results import MIB


@dataclass(frozen=True)
class Goals:
    """At most; None where nothing is said.

    Args:
        last: of the last client's time, in times of the bound's unit.
        mean: of the clients' mean time.
        copies: that whoever was whole at the start sends, together.
        into_rack: copies over each uplink.
        memory_mib: of a holder at its peak.
    """

    last: float | None = None
    mean: float | None = None
    copies: float | None = None
    into_rack: float | None = None
    memory_mib: float | None = None


@dataclass(frozen=True)
class Row:
    """One situation.

    Args:
        name: on the command line.
        clients: how many.
        mbit: of each link, towards the machine and from it.
        size_mib: of the image.
        goals: what is to be reached.
        up_mbit: from a client's machine, where that is another rate.
        every_s: between the starts of two clients; 0 for all at once.
        linger: for `fetch`; empty for its default.
        holders: who are whole at the start.
        killed: which share of the clients ends by SIGKILL half-way.
        poisoners: who take part and give wrong bytes.
        vouching: whether they say of each other's pieces that they have them.
        stop_at: the publisher is killed when so many times the size have left it.
        mirrors: whether the clients are mirrors that run already and hear of a new version.
        racks: of as many clients each, one uplink each; 0 for one switch.
        mdns: whether clients look for each other by it.
    """

    name: str
    clients: int
    mbit: float
    size_mib: int
    goals: Goals
    up_mbit: float | None = None
    every_s: float = 0.0
    linger: str = ""
    holders: int = 1
    killed: float = 0.0
    poisoners: int = 0
    vouching: bool = False
    stop_at: float | None = None
    mirrors: bool = False
    racks: int = 0
    mdns: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return self.size_mib * MIB

    @property
    def unit_s(self) -> float:
        """Seconds that the image takes over one link by itself: what times are told in."""
        return self.size * 8 / (self.mbit * 1e6)

    @property
    def bound(self) -> float:
        """The least time of the last client, in units; headers not counted."""
        return least_time(self.clients, self.mbit, self.mbit, self.up_mbit or self.mbit, self.holders)

    @property
    def competes(self) -> bool:
        """Whether others can do the same, so that it says something to compare with them."""
        special = (
            self.killed or self.poisoners or self.stop_at or self.mirrors or self.racks or self.holders > 1
        )
        return not special

    @property
    def client_link(self) -> Link:
        return Link(self.mbit, self.up_mbit or self.mbit)

    @property
    def holder_link(self) -> Link:
        return Link(self.mbit, self.mbit)

    @property
    def holder_numbers(self) -> range:
        """Their machines'."""
        return range(1, self.holders + 1)

    @property
    def client_numbers(self) -> range:
        """Likewise."""
        return range(self.holders + 1, self.holders + self.clients + 1)

    @property
    def poisoner_numbers(self) -> range:
        """Likewise."""
        return range(self.client_numbers.stop, self.client_numbers.stop + self.poisoners)

    def at_half_rate(self) -> Row:
        """The same on links half as fast: what decides where the processors are the limit."""
        up = None if self.up_mbit is None else self.up_mbit / 2
        return replace(self, name=f"{self.name}-half", mbit=self.mbit / 2, up_mbit=up)

    def quick(self) -> Row:
        """The same with a quarter of the image at half the rate, for a first look."""
        return replace(self.at_half_rate(), name=self.name, size_mib=max(8, self.size_mib // 4))


def least_time(clients: int, holder_up: float, down: float, up: float, holders: int = 1) -> float:
    """Return what nobody can beat, in times of what the image takes at the rate `down`.

    Every byte leaves a holder once, comes to every client, and all together send no more than all uplinks carry
    (Mundinger, Weber, Weiss 2008, for pieces without end).

    Args:
        clients: who want it.
        holder_up: what each holder's link carries, in any unit.
        down: a client's link, towards it.
        up: a client's link, from it.
        holders: who have it.
    """
    together = holders * holder_up + clients * up
    return max(down / (holders * holder_up), 1.0, clients * down / together)


def _rows() -> Iterator[Row]:
    yield Row("n8", 8, 50, 64, Goals(last=1.2, copies=1.05))
    yield Row("n4", 4, 25, 64, Goals(last=1.2, copies=1.05))
    yield Row("n8-large", 8, 50, 256, Goals(last=1.2, copies=1.05))
    yield Row("n16", 16, 25, 64, Goals(last=1.3, copies=1.05))
    yield Row("n16-slow", 16, 12, 32, Goals(last=1.25, copies=1.05))
    yield Row("uplinks", 8, 50, 64, Goals(last=1.25 * least_time(8, 50, 50, 5)), up_mbit=5)
    yield Row("staggered", 16, 25, 64, Goals(mean=1.15, copies=1.1), every_s=2.0, linger="until-idle")
    yield Row("killed", 8, 50, 64, Goals(last=1.4), killed=0.25, linger="until-idle")
    yield Row("poison", 8, 50, 64, Goals(last=1.45), poisoners=2)
    yield Row("vouching", 8, 50, 64, Goals(last=1.7), poisoners=2, vouching=True)
    yield Row("stopped", 8, 50, 64, Goals(), stop_at=1.1, linger="until-idle")
    yield Row("two-holders", 8, 50, 64, Goals(last=1.2, copies=1.2), holders=2)
    yield Row("mirrors", 8, 50, 64, Goals(last=1.3, copies=1.05), mirrors=True)
    yield Row("racks", 8, 50, 64, Goals(into_rack=2.0), racks=2)


ROWS: Final[Mapping[str, Row]] = {row.name: row for row in _rows()}
