"""Which version of what is followed is fetched when, and when the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from p2pboot.core.problems import Code, Problem
from p2pboot.errors import Contradiction, FetchError, P2PBootError
from p2pboot.node import mirroring
from p2pboot.node.mirroring import Item, Mirror, check_sizes

SUBJECT = "stable/x86_64"
OTHER = "testing/x86_64"


class Peers:
    """A kind of thing that is followed: it says what is wanted, and when something arrives, or why not."""

    blamable: tuple[type[P2PBootError], ...] = (Contradiction,)

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.items: dict[str, int] = {}
        self.mirror = Mirror(self, self._note)
        self.began: list[int] = []
        self.ended: list[int] = []
        self.held: list[int] = []
        self.blamed: list[int] = []
        self.tidied: list[int] = []
        self.at: list[float] = []
        self.stuck: set[int] = set()
        self.failures: list[P2PBootError] = []
        self.limit = 1 << 40

    def _note(self, problems: list[Problem]) -> None:
        self.problems = problems

    async def want(self, version: int | None, subject: str = SUBJECT) -> None:
        """Something is to be had, or nothing any more."""
        if version is None:
            del self.items[subject]
        else:
            self.items[subject] = version
        await self.mirror.reconcile()

    def wanted(self) -> list[Item[int]]:
        return [Item(subject, str(version), version) for subject, version in self.items.items()]

    def faults(self) -> list[Problem]:
        return [
            Problem(Code.NOT_MIRRORED, SUBJECT, f"{version} contradicts itself") for version in self.blamed
        ]

    async def bring(self, item: Item[int], _stalled: Callable[[str | None], None]) -> None:
        check_sizes({"kernel": item.content}, self.limit)
        self.began.append(item.content)
        self.at.append(trio.current_time())
        try:
            if self.failures:
                raise self.failures.pop(0)
            if item.content in self.stuck:
                await trio.sleep_forever()
            await trio.sleep(0.1)
        finally:
            self.ended.append(item.content)

    def completed(self, item: Item[int]) -> None:
        self.held.append(item.content)
        del self.items[item.subject]

    def blame(self, item: Item[int], error: P2PBootError) -> None:
        self.blamed.append(item.content)
        del self.items[item.subject]

    def tidy(self) -> None:
        self.tidied.append(len(self.ended))


@asynccontextmanager
async def following(peers: Peers) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peers.mirror.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def peers(inline_threads: None) -> Peers:
    return Peers()


async def test_what_is_wanted_is_fetched_once(peers: Peers, autojump_clock: None) -> None:
    async with following(peers):
        await peers.want(1)
        for _ in range(3):
            await peers.mirror.reconcile()
            await trio.sleep(5)
    assert (peers.began, peers.held) == ([1], [1])


async def test_what_was_wanted_before_the_start_is_fetched(peers: Peers, autojump_clock: None) -> None:
    await peers.want(1)
    async with following(peers):
        await trio.sleep(1)
    assert peers.held == [1]


async def test_a_newer_version_supersedes_a_fetch_in_progress(peers: Peers, autojump_clock: None) -> None:
    peers.stuck = {1}
    async with following(peers):
        await peers.want(1)
        await trio.sleep(5)
        await peers.want(2)
        await trio.sleep(5)
    assert (peers.began, peers.ended, peers.held) == ([1, 2], [1, 2], [2])


async def test_a_lower_version_is_followed_too_if_it_is_what_is_wanted(
    peers: Peers, autojump_clock: None
) -> None:
    async with following(peers):
        await peers.want(100)
        await trio.sleep(1)
        await peers.want(3)  # of another publisher: the trust has changed
        await trio.sleep(1)
    assert peers.held == [100, 3]


async def test_a_head_that_moves_too_often_makes_it_skip_versions(
    peers: Peers, autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(peers):
        for version in range(1, 60):
            await peers.want(version)
            await trio.sleep(1)
        assert peers.held == [*range(1, 9)]  # the burst, and then one a minute
        await trio.sleep(60)
    assert peers.held[8:] == [59]
    assert "too often" in caplog.text


async def test_too_large_a_part_is_not_fetched_until_the_limit_is_raised(
    peers: Peers, autojump_clock: None
) -> None:
    peers.limit = 1999
    async with following(peers):
        await peers.want(2000)
        await trio.sleep(100)
        assert not peers.began
        (problem,) = peers.problems
        assert (problem.code, problem.subject) == (Code.NOT_MIRRORED, SUBJECT)
        assert "2000" in problem.text
        assert problem.remedy
        peers.limit = 2000
        peers.mirror.retry()
        await trio.sleep(2)
        assert (peers.held, peers.problems) == ([2000], [])


async def test_failures_are_retried_ever_later(peers: Peers, autojump_clock: None) -> None:
    peers.failures = [FetchError("no room")] * 9
    async with following(peers):
        await peers.want(1)
        await trio.sleep(100)
        assert [problem.text for problem in peers.problems] == ["no room"]
        await trio.sleep(200)
    waits = [round(after - before) for before, after in zip(peers.at, peers.at[1:], strict=False)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert peers.held == [1]
    assert not peers.problems


async def test_a_peer_that_connects_again_and_again_does_not_make_it_spin(
    peers: Peers, autojump_clock: None
) -> None:
    peers.failures = [FetchError("nobody has it")] * 1000
    async with following(peers):
        await peers.want(1)
        for _ in range(1000):
            await trio.sleep(0.01)
            peers.mirror.retry()
    assert 8 <= len(peers.began) <= 11  # once a second


async def test_what_is_damaged_is_fetched_again(peers: Peers, autojump_clock: None) -> None:
    async with following(peers):
        for _ in range(2):
            await peers.want(1)
            await trio.sleep(1)
    assert peers.held == [1, 1]


async def test_what_is_damaged_just_when_it_is_complete_is_fetched_again(
    peers: Peers, autojump_clock: None
) -> None:
    """Nobody looked in between: it is the same version that was wanted a moment ago."""
    completed = peers.completed

    def damage_first(item: Item[int]) -> None:
        if peers.held:
            completed(item)
        else:
            peers.held.append(item.content)

    peers.completed = damage_first  # type: ignore[method-assign]
    async with following(peers):
        await peers.want(1)
        await trio.sleep(1)
        await peers.mirror.reconcile()
        await trio.sleep(1)
    assert peers.held == [1, 1]


async def test_nothing_of_what_is_not_wanted_any_more_is_fetched(peers: Peers, autojump_clock: None) -> None:
    peers.stuck = {1}
    async with following(peers):
        await peers.want(5, OTHER)
        await peers.want(1)
        await trio.sleep(1)
        assert peers.tidied == []
        await peers.want(None)
        assert peers.ended == [5, 1]  # when it returns, not some time after
        assert peers.tidied == [2]  # and what it left is cleared away after that
        peers.stuck = set()
        await peers.want(1)
        await trio.sleep(1)
    assert peers.held == [5, 1]


async def test_a_problem_ends_with_what_it_is_about(peers: Peers, autojump_clock: None) -> None:
    peers.failures = [FetchError("nobody has it")] * 1000
    async with following(peers):
        await peers.want(1)
        await trio.sleep(10)
        assert peers.problems
        await peers.want(None)
        assert peers.problems == []


async def test_a_signers_fault_is_remembered_and_not_tried_again(peers: Peers, autojump_clock: None) -> None:
    peers.failures = [Contradiction("the pieces are not the whole")]
    async with following(peers):
        await peers.want(1)
        await trio.sleep(1000)
        await peers.mirror.reconcile()
        assert (peers.began, peers.blamed, peers.held) == ([1], [1], [])
        assert [problem.text for problem in peers.problems] == ["1 contradicts itself"]
        await peers.want(2)
        await trio.sleep(1)
    assert peers.held == [2]


async def test_a_fault_that_can_not_be_remembered_is_tried_again(peers: Peers, autojump_clock: None) -> None:
    blame = peers.blame
    peers.failures = [Contradiction("the pieces are not the whole")] * 2

    def fail(item: Item[int], error: P2PBootError) -> None:
        if len(peers.began) == 1:
            raise FetchError("the disk is full")
        blame(item, error)

    peers.blame = fail  # type: ignore[method-assign]
    async with following(peers):
        await peers.want(1)
        await trio.sleep(100)
    assert (peers.began, peers.blamed) == ([1, 1], [1])


async def test_a_key_that_makes_up_channels_is_bounded(
    peers: Peers, autojump_clock: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirroring, "MAX_SUBJECTS", 2)
    async with following(peers):
        for number in range(5):
            await peers.want(number + 1, f"channel{number}/arm64")
        await trio.sleep(1)
    assert sorted(peers.held) == [1, 2]
    assert "channel2/arm64 is not followed" in caplog.text
