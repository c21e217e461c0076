"""Happy eyeballs: what a dead address costs, by a clock that nobody waits for."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pboot.errors import NotFoundError
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.racing import (
    ATTEMPT_DELAY_S,
    ATTEMPT_S,
    NoneAnswers,
    interleaved,
    race,
    race_of,
)


class Track:
    """Ways that are called `dead` (nobody answers), `refused`, or that answer after so many seconds."""

    def __init__(self) -> None:
        self.tried: list[tuple[float, str]] = []
        self.cancelled: list[str] = []
        self.discarded: list[str] = []

    async def attempt(self, way: str) -> str:
        self.tried.append((trio.current_time(), way))
        if way.startswith("refused"):
            await trio.lowlevel.checkpoint()
            raise NotFoundError(f"{way}")
        try:
            await trio.sleep(float("inf") if way.startswith("dead") else float(way))
        except trio.Cancelled:
            self.cancelled.append(way)
            raise
        return way

    async def race(self, *ways: str) -> str:
        return await race_of(ways, self.attempt, self.discarded.append)


@pytest.fixture
def track() -> Track:
    return Track()


async def test_a_dead_way_costs_a_quarter_of_a_second(autojump_clock: MockClock, track: Track) -> None:
    began = trio.current_time()
    assert await track.race("dead", "0.1") == "0.1"
    assert trio.current_time() - began == pytest.approx(ATTEMPT_DELAY_S + 0.1)
    assert track.cancelled == ["dead"]


async def test_a_refused_one_costs_nothing(autojump_clock: MockClock, track: Track) -> None:
    began = trio.current_time()
    assert await track.race("refused", "refused too", "0.1", "0.2") == "0.1"
    assert trio.current_time() - began == pytest.approx(0.1)
    assert len(track.tried) == 3


async def test_the_last_of_sixteen_is_reached_when_fifteen_are_dead(
    autojump_clock: MockClock, track: Track
) -> None:
    began = trio.current_time()
    assert await track.race(*(f"dead {number}" for number in range(15)), "0") == "0"
    assert trio.current_time() - began == pytest.approx(15 * ATTEMPT_DELAY_S)
    assert trio.current_time() - began < ATTEMPT_S


async def test_the_one_before_may_still_win(autojump_clock: MockClock, track: Track) -> None:
    assert await track.race("0.5", "0.3") == "0.5"
    assert await track.race("0.5", "0.2") == "0.2"


async def test_each_has_a_limit_and_all_reasons_are_told(autojump_clock: MockClock, track: Track) -> None:
    began = trio.current_time()
    with pytest.raises(NoneAnswers, match="refused; no answer from dead in 5 s") as caught:
        await track.race("dead", "refused", "refused")
    assert trio.current_time() - began == pytest.approx(ATTEMPT_S)
    assert len(caught.value.failures) == 3
    with pytest.raises(NoneAnswers, match="no address"):
        await track.race()


async def test_of_two_that_answer_in_the_same_moment_one_is_discarded(autojump_clock: MockClock) -> None:
    answer, discarded = trio.Event(), list[str]()

    async def attempt(way: str) -> str:
        if way == "answers both":
            answer.set()
            await trio.sleep_forever()
        await answer.wait()
        return way

    won = await race_of(["one", "other", "answers both"], attempt, discarded.append)
    assert {won, *discarded} == {"one", "other"}


async def test_ways_are_tried_as_they_become_known(autojump_clock: MockClock, track: Track) -> None:
    is_cancelled = False

    async def tell(send: trio.MemorySendChannel[str]) -> None:
        nonlocal is_cancelled
        await send.send("refused")
        await trio.sleep(1)
        await send.send("0.5")
        try:
            await trio.sleep_forever()
        finally:
            is_cancelled = True

    assert await race(tell, track.attempt, track.discarded.append) == "0.5"
    assert trio.current_time() == pytest.approx(track.tried[0][0] + 1.5)
    assert is_cancelled


async def test_what_can_not_be_told_is_a_reason(autojump_clock: MockClock, track: Track) -> None:
    async def tell(send: trio.MemorySendChannel[str]) -> None:
        await send.send("refused")
        raise NotFoundError("no such name")

    with pytest.raises(NoneAnswers, match="no such name"):
        await race(tell, track.attempt, track.discarded.append)


async def test_who_gives_up_leaves_nothing_behind(autojump_clock: MockClock, track: Track) -> None:
    with trio.move_on_after(1):
        await track.race("dead", "dead too")
    await wait_all_tasks_blocked()
    assert sorted(track.cancelled) == ["dead", "dead too"]


def test_families_take_turns_beginning_with_ipv6() -> None:
    texts = ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1", "/ip6/2001:db8::1/tcp/1", "/dns/a.example/tcp/1"]
    four, other, six, name = map(parse_address, texts)
    assert interleaved([four, other, six, name]) == [six, four, name, other]
    assert interleaved([four, other]) == [four, other]
    assert interleaved([]) == []
