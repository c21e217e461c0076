"""Which manifest is fetched when, and when the next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2pboot.core.manifest import Manifest
from p2pboot.core.problems import Code, Problem
from p2pboot.errors import FetchError
from p2pboot.node import mirroring
from p2pboot.node.mirroring import Mirror
from tests.node.world import signed

BIG = 1 << 40


class Peers:
    """What a mirror fetches from: it says when something arrives, or why not."""

    def __init__(self, max_artifact_bytes: int = BIG) -> None:
        self.problems: list[Problem] = []
        self.mirror = Mirror(
            fetch=self.fetch,
            whole=self.whole,
            max_artifact_bytes=max_artifact_bytes,
            report=self._note,
        )
        self.began: list[int] = []
        self.ended: list[int] = []
        self.held: list[int] = []
        self.at: list[float] = []
        self.stuck: set[int] = set()
        self.failures: list[str] = []

    def _note(self, problems: list[Problem]) -> None:
        self.problems = problems

    async def fetch(self, manifest: Manifest) -> None:
        self.began.append(manifest.manifest_version)
        self.at.append(trio.current_time())
        try:
            if self.failures:
                raise FetchError(self.failures.pop(0))
            if manifest.manifest_version in self.stuck:
                await trio.sleep_forever()
            await trio.sleep(0.1)
        finally:
            self.ended.append(manifest.manifest_version)

    async def whole(self, manifest: Manifest) -> None:
        self.held.append(manifest.manifest_version)


@asynccontextmanager
async def following(peers: Peers) -> AsyncIterator[Mirror]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peers.mirror.run)
        yield peers.mirror
        nursery.cancel_scope.cancel()


async def test_what_is_wanted_is_fetched_once(autojump_clock: None) -> None:
    peers = Peers()
    async with following(peers) as mirror:
        for _ in range(3):
            mirror.want(signed(1))
            await trio.sleep(5)
    assert (peers.began, peers.held) == ([1], [1])


async def test_a_newer_manifest_supersedes_a_fetch_in_progress(autojump_clock: None) -> None:
    peers = Peers()
    peers.stuck = {1}
    async with following(peers) as mirror:
        mirror.want(signed(1))
        await trio.sleep(5)
        mirror.want(signed(2))
        await trio.sleep(5)
    assert (peers.began, peers.ended, peers.held) == ([1, 2], [1, 2], [2])


async def test_another_publishers_lower_version_is_followed_too(autojump_clock: None) -> None:
    peers = Peers()
    async with following(peers) as mirror:
        mirror.want(signed(100))
        await trio.sleep(1)
        mirror.want(signed(3, "other"))  # the judge took it: the trust has changed
        await trio.sleep(1)
    assert peers.held == [100, 3]


async def test_a_head_that_moves_too_often_makes_it_skip_versions(
    autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    peers = Peers()
    async with following(peers) as mirror:
        for version in range(1, 60):
            mirror.want(signed(version))
            await trio.sleep(1)
        assert peers.held == [*range(1, 9)]  # the burst, and then one a minute
        await trio.sleep(60)
    assert peers.held[8:] == [59]
    assert "too often" in caplog.text


async def test_too_large_an_artifact_is_not_fetched_until_the_limit_is_raised(autojump_clock: None) -> None:
    manifest = signed(1)
    largest = max(artifact.size for artifact in manifest.artifacts.values())
    peers = Peers(max_artifact_bytes=largest - 1)
    async with following(peers) as mirror:
        mirror.want(manifest)
        await trio.sleep(100)
        assert not peers.began
        (problem,) = peers.problems
        assert (problem.code, problem.subject) == (Code.NOT_MIRRORED, "stable/x86_64")
        assert str(largest) in problem.text
        assert problem.remedy
        mirror.max_artifact_bytes = largest
        mirror.retry()
        await trio.sleep(2)
        assert (peers.held, peers.problems) == ([1], [])


async def test_failures_are_retried_ever_later(autojump_clock: None) -> None:
    peers = Peers()
    peers.failures = ["no room"] * 9
    async with following(peers) as mirror:
        mirror.want(signed(1))
        await trio.sleep(100)
        assert [problem.text for problem in peers.problems] == ["no room"]
        await trio.sleep(200)
    waits = [round(after - before) for before, after in zip(peers.at, peers.at[1:], strict=False)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert peers.held == [1]
    assert not peers.problems


async def test_a_peer_that_connects_again_and_again_does_not_make_it_spin(autojump_clock: None) -> None:
    peers = Peers()
    peers.failures = ["nobody has it"] * 1000
    async with following(peers) as mirror:
        mirror.want(signed(1))
        for _ in range(1000):
            await trio.sleep(0.01)
            mirror.retry()
    assert 8 <= len(peers.began) <= 11  # once a second


async def test_what_is_damaged_is_fetched_again(autojump_clock: None) -> None:
    peers = Peers()
    async with following(peers) as mirror:
        mirror.want_again(signed(1))  # after a restart, nothing is known to be held
        await trio.sleep(1)
        mirror.want_again(signed(1))
        await trio.sleep(1)
    assert peers.held == [1, 1]


async def test_mending_does_not_displace_something_newer(autojump_clock: None) -> None:
    peers = Peers()
    peers.stuck = {2}
    async with following(peers) as mirror:
        mirror.want(signed(1))
        await trio.sleep(1)
        mirror.want(signed(2))
        await trio.sleep(1)
        mirror.want_again(signed(1))
        await trio.sleep(1)
        peers.stuck = set()
        mirror.want(signed(3))
        await trio.sleep(1)
        mirror.want_again(signed(2))
        await trio.sleep(1)
    assert peers.began == [1, 2, 3]


async def test_nothing_of_what_is_forgotten_is_fetched_any_more(autojump_clock: None) -> None:
    peers = Peers()
    peers.stuck = {1}
    async with following(peers) as mirror:
        mirror.want(signed(1))
        mirror.want(signed(5, pair=("testing", "x86_64")))
        await trio.sleep(1)
        await mirror.forget(lambda manifest: manifest.channel == "stable")
        assert peers.ended == [5, 1]  # when it returns, not some time after
        peers.stuck = set()
        mirror.want(signed(1))
        await trio.sleep(1)
    assert peers.held == [5, 1]


async def test_a_key_that_makes_up_channels_is_bounded(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirroring, "MAX_PAIRS", 2)
    peers = Peers()
    async with following(peers) as mirror:
        for number in range(5):
            mirror.want(signed(number + 1, pair=(f"channel{number}", "arm64")))
        await trio.sleep(1)
    assert sorted(peers.held) == [1, 2]
    assert "channel4/arm64 is not followed" in caplog.text
