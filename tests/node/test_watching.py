"""The watch on a real directory; every wait is for an event of the kernel, or for a look at the name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2pboot.node import watching
from p2pboot.node.watching import watch_directory


class Changes:
    def __init__(self) -> None:
        self._event = trio.Event()

    def __call__(self) -> None:
        self._event.set()

    async def expect(self) -> None:
        with trio.fail_after(30):
            await self._event.wait()
        self._event = trio.Event()


@asynccontextmanager
async def watched(directory: Path) -> AsyncIterator[Changes]:
    changes = Changes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_directory, directory, changes)
        yield changes
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_S", 0.2)
    monkeypatch.setattr(watching, "AGAIN_S", 0.1)
    monkeypatch.setattr(watching, "_DEBOUNCE_MS", 100)


async def touch_until(path: Path, changes: Changes) -> None:
    """The watch may not be there yet: what is written before it is, nobody has to notice."""
    with trio.fail_after(30):
        while not changes._event.is_set():
            path.write_bytes(b"x")  # noqa: ASYNC240 - one byte
            await trio.sleep(0.3)
    await changes.expect()


async def test_changes_below_are_noticed(tmp_path: Path) -> None:
    leaf = tmp_path / "stable" / "x86_64"
    leaf.mkdir(parents=True)
    async with watched(tmp_path) as changes:
        await touch_until(leaf / "kernel", changes)
        new = tmp_path / "testing" / "arm64"
        new.mkdir(parents=True)
        await touch_until(new / "kernel", changes)


@pytest.mark.parametrize("kind", ["rename", "link"])
async def test_a_directory_put_in_its_place_is_watched_from_then_on(tmp_path: Path, kind: str) -> None:
    first, second, watched_path = tmp_path / "first", tmp_path / "second", tmp_path / "current"
    first.mkdir()
    second.mkdir()
    if kind == "link":
        watched_path.symlink_to(first)
    else:
        first.rename(watched_path)
    async with watched(watched_path) as changes:
        await touch_until(watched_path / "kernel", changes)
        if kind == "link":
            (tmp_path / "new").symlink_to(second)
            (tmp_path / "new").rename(watched_path)
        else:
            watched_path.rename(tmp_path / "old")
            second.rename(watched_path)
        await changes.expect()
        await trio.sleep(1)  # any echo of that
        changes._event = trio.Event()
        await touch_until(watched_path / "kernel", changes)


async def test_a_directory_that_vanishes_is_told_and_watched_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "artifacts"
    directory.mkdir()
    async with watched(directory) as changes:
        await touch_until(directory / "kernel", changes)
        (directory / "kernel").unlink()
        directory.rmdir()
        with trio.fail_after(30):
            while "cannot watch" not in caplog.text:
                await changes.expect()
        await trio.sleep(0.5)
        assert caplog.text.count("cannot watch") == 1
        changes._event = trio.Event()
        directory.mkdir()
        await changes.expect()
        await touch_until(directory / "kernel", changes)


async def test_the_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_S", 60.0)  # the library's thread would take as long
    with trio.fail_after(10):
        async with watched(tmp_path) as changes:
            await touch_until(tmp_path / "kernel", changes)
            await trio.sleep(0.5)
