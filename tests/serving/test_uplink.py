"""The link is shared by address, whoever opens how many connections."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
import trio.testing

from p2pboot.core.origins import Party
from p2pboot.serving.uplink import FEW, LONGEST_S, RECENT_S, Sending, Uplink


def party(origin: int, peer: int = 0) -> Party:
    return Party(f"10.0.0.{origin}", f"peer {origin}.{peer}")


class Crowd:
    """Peers that want replies, one after the other without end."""

    def __init__(self, uplink: Uplink, nursery: trio.Nursery, takes_s: float = 1.0) -> None:
        self.uplink = uplink
        self.nursery = nursery
        self.takes_s = takes_s
        self.going: Counter[str] = Counter()
        self.had: Counter[Party] = Counter()

    def add(self, who: Party) -> None:
        self.nursery.start_soon(self._want, who)

    async def _want(self, who: Party) -> None:
        while True:
            sending = await self.uplink.begin(who, trio.current_time() + 1e9)
            assert sending is not None
            self.going[who.origin] += 1
            await trio.sleep(self.takes_s)
            self.going[who.origin] -= 1
            self.had[who] += 1
            self.uplink.end(sending, whole=True)


async def test_who_is_alone_has_everything(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(Uplink(), nursery)
        for peer in range(40):
            crowd.add(party(1, peer))
        await trio.testing.wait_all_tasks_blocked()
        assert crowd.going == {"10.0.0.1": 40}
        nursery.cancel_scope.cancel()


async def test_many_ids_of_one_address_have_its_share(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(Uplink(), nursery)
        for peer in range(64):
            crowd.add(party(1, peer))
        for origin in range(2, 9):
            crowd.add(party(origin))
        await trio.sleep(64.5)
        assert all(count == 1 for count in crowd.going.values()), crowd.going
        by_origin: Counter[str] = Counter()
        for who, count in crowd.had.items():
            by_origin[who.origin] += count
        assert (
            max(by_origin.values()) - by_origin["10.0.0.2"] <= 64
        )  # what it had begun before the others came
        assert {count for who, count in crowd.had.items() if who.origin == "10.0.0.1"} <= {1, 2}
        nursery.cancel_scope.cancel()


async def test_a_few_go_always(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(Uplink(), nursery)
        crowd.add(party(1))
        await trio.testing.wait_all_tasks_blocked()
        for peer in range(64):
            crowd.add(party(2, peer))
        await trio.sleep(3.5)
        assert crowd.going["10.0.0.1"] == 1
        assert FEW - 1 <= crowd.going["10.0.0.2"] <= FEW
        nursery.cancel_scope.cancel()


async def test_who_waits_too_long_is_told(autojump_clock: trio.testing.MockClock) -> None:
    uplink = Uplink()
    first = [await uplink.begin(party(1, peer), 0) for peer in range(FEW)]
    assert await uplink.begin(party(2), 0) is not None
    began = trio.current_time()
    assert await uplink.begin(party(1, 9), began + 2) is None
    assert trio.current_time() == began + 2
    for sending in first:
        assert isinstance(sending, Sending)
        uplink.end(sending)
        uplink.end(sending)
    assert await uplink.begin(party(1, 9), 0) is not None


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_who_gave_up_waiting_is_forgotten(
    autojump_clock: trio.testing.MockClock, is_cancelled: bool
) -> None:
    uplink = Uplink()
    going = [await uplink.begin(party(1, peer), 0) for peer in range(FEW)]
    other = await uplink.begin(party(2), 0)
    with trio.move_on_after(1):
        await uplink.begin(party(1, 9), 1e9 if is_cancelled else trio.current_time() + 0.5)
    for sending in (*going, other):
        assert sending is not None
        uplink.end(sending)
    await trio.sleep(RECENT_S)
    last = await uplink.begin(party(3), 0)
    assert last is not None
    uplink.end(last)
    assert uplink._origins.keys() == {"10.0.0.3"}
    assert not uplink._going


async def test_fewer_are_on_their_way_where_the_link_is_slow(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(Uplink(), nursery, takes_s=4 * LONGEST_S)
        for peer in range(40):
            crowd.add(party(1, peer))
        await trio.sleep(9 * LONGEST_S)
        assert FEW < crowd.going["10.0.0.1"] <= 40 // 4
        crowd.takes_s = LONGEST_S / 10
        await trio.sleep(20 * LONGEST_S)
        assert crowd.going["10.0.0.1"] == 40
        nursery.cancel_scope.cancel()


async def test_slow_readers_do_not_make_the_link_look_slow(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        uplink = Uplink()
        slow, quick = Crowd(uplink, nursery, takes_s=100.0), Crowd(uplink, nursery, takes_s=1.0)
        for peer in range(20):
            slow.add(party(1, peer))
            quick.add(party(1, 100 + peer))
        await trio.sleep(350)
        assert quick.going["10.0.0.1"] == 20
        nursery.cancel_scope.cancel()


async def test_who_has_nothing_on_its_way_waits_for_nobody(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(Uplink(), nursery, takes_s=4 * LONGEST_S)
        for peer in range(40):
            crowd.add(party(1, peer))
        await trio.sleep(9 * LONGEST_S)
        assert await crowd.uplink.begin(party(2), 0) is not None
        assert await crowd.uplink.begin(party(2, 1), 0) is None
        nursery.cancel_scope.cancel()
