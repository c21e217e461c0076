"""What is brought while it is not yet decided."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from p2pboot.errors import FetchError
from p2pboot.fetch.ahead import Ahead


class Transfers:
    """Transfers that end when they are told to."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.may_end: dict[str, trio.Event] = {}
        self.failures: dict[str, FetchError] = {}

    async def bring(self, name: str) -> None:
        self.log.append(f"begin {name}")
        try:
            await self.may_end.setdefault(name, trio.Event()).wait()
        except trio.Cancelled:
            self.log.append(f"end {name}")
            raise
        if name in self.failures:
            raise self.failures[name]
        self.log.append(f"brought {name}")

    def end(self, name: str) -> None:
        self.may_end.setdefault(name, trio.Event()).set()


@pytest.fixture
def transfers() -> Transfers:
    return Transfers()


async def test_what_was_suggested_and_decided_is_brought_once(
    transfers: Transfers, nursery: trio.Nursery
) -> None:
    ahead = Ahead(transfers.bring)
    nursery.start_soon(ahead.run)
    ahead.suggest("one")
    ahead.suggest("one")
    transfers.end("one")
    await wait_all_tasks_blocked()
    await ahead.finish("one")
    await ahead.finish("one")
    assert transfers.log == ["begin one", "brought one"]


async def test_something_better_ends_what_was_begun(transfers: Transfers, nursery: trio.Nursery) -> None:
    ahead = Ahead(transfers.bring)
    nursery.start_soon(ahead.run)
    ahead.suggest("one")
    await wait_all_tasks_blocked()
    ahead.suggest("two")
    await wait_all_tasks_blocked()
    transfers.end("two")
    await ahead.finish("two")
    assert transfers.log == ["begin one", "end one", "begin two", "brought two"]


async def test_a_contradiction_ends_it_and_begins_nothing(
    transfers: Transfers, nursery: trio.Nursery
) -> None:
    ahead = Ahead(transfers.bring)
    nursery.start_soon(ahead.run)
    ahead.suggest("one")
    await wait_all_tasks_blocked()
    ahead.suggest(None)
    await wait_all_tasks_blocked()
    assert transfers.log == ["begin one", "end one"]


async def test_what_was_stopped_has_ended(transfers: Transfers, nursery: trio.Nursery) -> None:
    ahead = Ahead(transfers.bring)
    nursery.start_soon(ahead.run)
    await ahead.stop()
    ahead.suggest("one")
    await wait_all_tasks_blocked()
    await ahead.stop()
    assert transfers.log == ["begin one", "end one"]


async def test_what_is_decided_against_everything_is_brought_then(
    transfers: Transfers, nursery: trio.Nursery
) -> None:
    ahead = Ahead(transfers.bring)
    nursery.start_soon(ahead.run)
    ahead.suggest("one")
    transfers.end("one")
    transfers.end("two")
    await wait_all_tasks_blocked()
    await ahead.finish("two")
    assert transfers.log == ["begin one", "brought one", "begin two", "brought two"]


async def test_a_failure_counts_only_if_it_is_of_what_was_decided(
    transfers: Transfers, nursery: trio.Nursery
) -> None:
    ahead = Ahead(transfers.bring)
    nursery.start_soon(ahead.run)
    transfers.failures["one"] = FetchError("nobody delivers it")
    for name in ("one", "two"):
        transfers.end(name)
    ahead.suggest("one")
    await wait_all_tasks_blocked()
    await ahead.finish("two")
    with pytest.raises(FetchError, match="nobody delivers"):
        await ahead.finish("one")
    assert transfers.log == ["begin one", "begin two", "brought two", "begin one"]
