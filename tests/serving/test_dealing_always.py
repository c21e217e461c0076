"""What holds of dealing whatever clients do and say."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pboot.core.pieces import KIB, PieceSet
from p2pboot.serving.dealing import Deal, Dealing, Wait

COUNT = 12
RUNS = st.lists(
    st.tuples(st.integers(0, COUNT - 1), st.integers(1, 4)).map(
        lambda run: range(run[0], min(run[0] + run[1], COUNT))
    ),
    max_size=3,
)


def indices(runs: list[range]) -> set[int]:
    return {index for run in runs for index in run}


class _Crowd:
    """Does to a dealing what clients could do, and knows what each has and was dealt."""

    def __init__(self) -> None:
        self.dealing = Dealing(COUNT, 64 * KIB, Random(1))
        self.now = 0.0
        self.held: dict[int, set[int]] = {}
        self.dealt: dict[int, set[int]] = {}
        self.sending: list[tuple[int, Deal]] = []
        self.joined = 0

    def step(self, data: st.DataObject) -> None:
        self.now += data.draw(st.sampled_from([0.0, 0.01, 0.5, 3.0]))
        action = data.draw(st.sampled_from(["join", "leave", "hear", "bitmap", "choose", "choose", "end"]))
        if action == "join":
            self.join(data.draw(st.integers(0, 2)))
        elif action == "end" and self.sending:
            client, deal = self.sending.pop(data.draw(st.integers(0, len(self.sending) - 1)))
            whole = data.draw(st.booleans())
            (self.dealing.sent if whole else self.dealing.failed)(client, deal.first, deal.count, self.now)
            if not whole and client in self.dealt:
                self.dealt[client] -= set(range(deal.first, deal.first + deal.count))
        elif self.held:
            client = data.draw(st.sampled_from(sorted(self.held)))
            getattr(self, action, lambda *_: None)(client, data) if action in (
                "hear",
                "bitmap",
                "choose",
            ) else None
            if action == "leave":
                self.leave(client)

    def join(self, origin: int) -> None:
        self.joined += 1
        self.dealing.join(self.joined, origin, self.now)
        self.held[self.joined], self.dealt[self.joined] = set(), set()

    def leave(self, client: int) -> None:
        self.dealing.leave(client)
        del self.held[client], self.dealt[client]

    def hear(self, client: int, data: st.DataObject) -> None:
        runs = data.draw(RUNS)
        self.dealing.hear(client, runs, data.draw(RUNS), self.now)
        self.held[client] |= indices(runs)

    def bitmap(self, client: int, data: st.DataObject) -> None:
        self.held[client] = indices(data.draw(RUNS))
        self.dealing.hear_bitmap(client, PieceSet.of(COUNT, self.held[client]), self.now)

    def choose(self, client: int, data: st.DataObject) -> None:
        want, most = indices(data.draw(RUNS)), data.draw(st.integers(1, 4))
        chosen = self.dealing.choose(client, PieceSet.of(COUNT, want), most, self.now)
        if isinstance(chosen, Wait):
            assert set(chosen.ask) <= self.held.keys() - {client}
            return
        pieces = set(range(chosen.first, chosen.first + chosen.count))
        assert 1 <= chosen.count <= most
        assert max(pieces) < COUNT
        assert not pieces & self.held[client]
        for piece in pieces - want:
            assert not any(piece in held for held in self.held.values())
        self.sending.append((client, chosen))
        self.dealt[client] |= pieces


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_only_what_a_client_lacks_is_dealt_and_outside_of_what_it_wants_only_what_nobody_has(
    data: st.DataObject,
) -> None:
    crowd = _Crowd()
    for _ in range(data.draw(st.integers(0, 40))):
        crowd.step(data)
    for client in sorted(crowd.held):
        crowd.leave(client)
    crowd.now += 100.0
    crowd.join(9)
    client = crowd.joined
    got: set[int] = set()
    while len(got) < COUNT:
        chosen = crowd.dealing.choose(client, PieceSet(COUNT), COUNT, crowd.now)
        assert isinstance(chosen, Deal)  # nothing is left of those who went
        got |= set(range(chosen.first, chosen.first + chosen.count))
        crowd.dealing.sent(client, chosen.first, chosen.count, crowd.now)
