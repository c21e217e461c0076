"""Who gets a place when a node is full, and whose place it is: bookkeeping alone, on a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from p2pboot.core.origins import Party
from p2pboot.transport.limits import HANDSHAKE_S, Admission, ConnectionLimits, Refused


class Peer:
    """A connection that is up."""

    def __init__(self, origin: str, peer_id: str, quiet_since: float) -> None:
        self.party = Party(origin, peer_id)
        self.quiet_since = quiet_since

    def __repr__(self) -> str:
        return f"{self.party.peer_id} at {self.party.origin}"


class Door:
    """A node's places: eight, of which two are in reserve."""

    def __init__(self) -> None:
        self.ended: list[Peer] = []
        self.admission = Admission(ConnectionLimits(max_inbound=8, max_handshakes=4), self.ended.append)
        self._inside = ExitStack()
        self._made = 0

    def comes(self, origin: str, peer_id: str = "") -> Peer:
        """A peer that has proved who it is comes in, or is refused."""
        self._made += 1
        peer = Peer(origin, peer_id or f"peer {self._made}", trio.current_time())
        self._inside.enter_context(self.admission.place(peer))
        return peer

    def fill(self, *origins: str) -> list[Peer]:
        return [self.comes(origin) for origin in origins]

    @property
    def used(self) -> int:
        return self.admission._inbound.used

    def close(self) -> None:
        self._inside.close()


@pytest.fixture
async def door(mock_clock: trio.testing.MockClock) -> AsyncIterator[Door]:
    door = Door()
    yield door
    door.close()
    assert door.used == 0


A, B, C, D = (f"192.0.2.{number}" for number in range(1, 5))


async def test_one_address_alone_has_all_but_the_reserve(door: Door) -> None:
    door.fill(*[A] * 6)
    with pytest.raises(Refused):
        door.comes(A)
    assert not door.ended


async def test_newcomers_find_the_reserve_and_then_the_idlest_of_the_address_that_has_most_goes(
    door: Door, mock_clock: trio.testing.MockClock
) -> None:
    crowd = door.fill(*[A] * 6)
    mock_clock.jump(1)
    for peer in crowd[1:]:
        peer.quiet_since = trio.current_time()
    door.fill(B, C)
    assert not door.ended
    door.comes(D)
    assert door.ended == [crowd[0]]
    assert door.used == 8


async def test_in_a_full_house_of_idle_peers_from_four_addresses_everybody_new_is_taken_in(
    door: Door,
) -> None:
    door.fill(A, B, C, D, A, B)
    for number in range(5, 9):
        door.comes(f"192.0.2.{number}")
    assert door.used == 8
    assert [peer.party.origin for peer in door.ended] == [A, B]


async def test_an_address_makes_room_for_itself_where_one_of_its_own_is_idle(
    door: Door, mock_clock: trio.testing.MockClock
) -> None:
    crowd = door.fill(*[A] * 6)
    mock_clock.jump(9)
    for peer in crowd[1:]:
        peer.quiet_since = trio.current_time()
    with pytest.raises(Refused):
        door.comes(A)
    mock_clock.jump(1)
    door.comes(A)
    assert door.ended == [crowd[0]]


async def test_where_nobody_has_more_than_another_an_idle_one_goes(
    door: Door, mock_clock: trio.testing.MockClock
) -> None:
    crowd = door.fill(*[f"192.0.2.{number}" for number in range(8)])
    with pytest.raises(Refused):
        door.comes("198.51.100.1")
    mock_clock.jump(10)
    door.comes("198.51.100.1")
    assert door.ended == crowd[:1]


async def test_many_ids_of_one_address_are_one_stranger(door: Door) -> None:
    kept = [door.comes(B, "b"), door.comes(C, "c")]
    door.fill(*[A] * 4)
    for _ in range(20):
        with pytest.raises(Refused):
            door.comes(A)
    for number in range(4, 8):
        kept.append(door.comes(f"192.0.2.{number}"))
    assert [peer.party.origin for peer in door.ended] == [A] * 2
    assert all(peer not in door.ended for peer in kept)


async def test_whom_the_operator_named_is_always_taken_in_and_never_sent_away(
    door: Door, mock_clock: trio.testing.MockClock
) -> None:
    door.admission.prefer({"publisher"})
    publisher = door.comes(A, "publisher")
    door.fill(*[A] * 5)
    again = door.comes(A, "publisher")
    door.fill(B)
    assert (door.used, door.ended) == (8, [])
    third = door.comes(A, "publisher")
    assert len(door.ended) == 1
    for number in range(20):
        mock_clock.jump(100)
        door.comes(f"198.51.100.{number}")
    assert len(door.ended) == 21
    assert not {publisher, again, third} & set(door.ended)


async def test_who_left_leaves_a_place(door: Door) -> None:
    with door.admission.place(Peer(A, "a", trio.current_time())):
        door.fill(*[A] * 5)
        with pytest.raises(Refused):
            door.comes(A)
    door.comes(A)


# Handshakes.


async def shake(admission: Admission[Peer], origin: str, ended: Callable[[], object]) -> None:
    try:
        with admission.handshake(origin):
            await trio.sleep_forever()
    except Refused:
        ended()


async def test_a_handshake_has_so_long(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(Refused, match="too long"), Door().admission.handshake(A):
        await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(HANDSHAKE_S)


async def test_the_oldest_handshake_of_the_address_with_most_gives_way_to_other_addresses(
    mock_clock: trio.testing.MockClock,
) -> None:
    admission, ended = Door().admission, list[str]()
    async with trio.open_nursery() as nursery:
        for number, origin in enumerate([A, A, A, B]):
            nursery.start_soon(shake, admission, origin, lambda name=f"{origin} {number}": ended.append(name))
            await trio.testing.wait_all_tasks_blocked()
        with admission.handshake(C):
            await trio.testing.wait_all_tasks_blocked()
            assert ended == [f"{A} 0"]
        nursery.cancel_scope.cancel()
    assert admission._handshakes.used == 0


async def test_handshakes_of_one_address_are_hurried_when_they_dawdle(
    mock_clock: trio.testing.MockClock,
) -> None:
    admission, ended = Door().admission, list[str]()
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(shake, admission, A, lambda name=str(number): ended.append(name))
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Refused, match="enough"), admission.handshake(A):
            pass
        mock_clock.jump(2)
        with admission.handshake(A):
            await trio.testing.wait_all_tasks_blocked()
            assert ended == ["0"]
        nursery.cancel_scope.cancel()


async def test_handshakes_take_no_place_of_a_connection() -> None:
    door = Door()
    with ExitStack() as under_way:
        for _ in range(3):
            under_way.enter_context(door.admission.handshake(A))
        door.fill(*[A] * 6)
    door.close()
