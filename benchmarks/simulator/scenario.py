"""What is simulated, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scenario:
    """Who wants what over which links.

    Args:
        name: for people.
        clients: how many.
        pieces: of what they want.
        piece_length: bytes.
        rate: of links, bytes per second.
        up: of clients' uplinks where it differs, or one for each.
        down: likewise downwards.
        holders: that have everything at the start.
        neighbours: of each client at least; None for all.
        most_neighbours: more only where there is nobody else.
        holder_neighbours: clients that each holder is connected with; None for all.
        racks: that clients are spread over; 0 for none.
        rack_rate: of each rack's link with the rest, each way, bytes per second.
        liars: clients that serve what is not the piece, and take deals.
        vouching: they report each other's deals, each from an address of its own.
        killed: clients that disappear.
        silently: without a sign.
        killed_at: when, in parts of size / rate.
        stagger_s: between two clients' starts.
        linger: whether who is done goes on serving.
        stop_after: sizes that leave the first holder until it is stopped; None for never.
        latency_s: of a message, one way.
        news_s: changes that come within so long are told together.
        late_s: by so much later at most is news heard, at random.
        seed: of everything that is random.
        step_s: of time; None for a part of a piece's usual time.
    """

    name: str
    clients: int
    pieces: int = 1024
    piece_length: int = 65536
    rate: float = 50e6 / 8
    up: float | tuple[float, ...] | None = None
    down: float | tuple[float, ...] | None = None
    holders: int = 1
    neighbours: int | None = None
    most_neighbours: int = 1000
    holder_neighbours: int | None = None
    racks: int = 0
    rack_rate: float = 0.0
    liars: int = 0
    vouching: bool = False
    killed: int = 0
    silently: bool = False
    killed_at: float = 0.5
    stagger_s: float = 0.0
    linger: bool = True
    stop_after: float | None = None
    latency_s: float = 0.005
    news_s: float = 0.05
    late_s: float = 0.0
    seed: int = 1
    step_s: float | None = None

    @property
    def size(self) -> int:
        return self.pieces * self.piece_length

    @property
    def unit_s(self) -> float:
        """What one link takes for all of it."""
        return self.size / self.rate

    def links_of(self, which: float | tuple[float, ...] | None) -> list[float]:
        if isinstance(which, tuple):
            return list(which)
        return [self.rate if which is None else which] * self.clients

    @property
    def bound_s(self) -> float:
        """No schedule is quicker, if nobody fails: the holders' uplinks, the slowest downlink, all uplinks together."""
        up, down = self.links_of(self.up), self.links_of(self.down)
        source = self.rate * self.holders
        return max(self.size / source, self.size / min(down), self.clients * self.size / (source + sum(up)))


@dataclass
class Outcome:
    """What came of a run.

    Args:
        scenario: that was run.
        took_s: of each honest client that stayed, from its start; None where it did not finish.
        copies: sizes that left those who had everything at the start.
        into_racks: sizes that came into each rack.
        received: by client and source, pieces.
        trace: (time, client, source, piece) of each piece, if it was asked for.
        done: (time, share) of all pieces at all honest clients.
        steps: of time.
        transfers: messages with pieces.
    """

    scenario: Scenario
    took_s: list[float | None] = field(default_factory=list)
    copies: float = 0.0
    into_racks: list[float] = field(default_factory=list)
    received: dict[tuple[int, int], int] = field(default_factory=dict)
    trace: list[tuple[float, int, int, int]] = field(default_factory=list)
    done: list[tuple[float, float]] = field(default_factory=list)
    steps: int = 0
    transfers: int = 0

    @property
    def last(self) -> float:
        """Of the last client, in multiples of size / link."""
        return max(float("inf") if took is None else took for took in self.took_s) / self.scenario.unit_s

    @property
    def mean(self) -> float:
        took = [float("inf") if took is None else took for took in self.took_s]
        return sum(took) / len(took) / self.scenario.unit_s

    @property
    def of_bound(self) -> float:
        """Of the last client, in multiples of what is possible at all."""
        return self.last * self.scenario.unit_s / self.scenario.bound_s

    @property
    def binomial(self) -> float:
        """What the binomial pipeline takes where all links are equal, in multiples of size / link."""
        return 1 + (self.scenario.clients.bit_length() - 1) / self.scenario.pieces
