"""The watch on a real directory; every wait is for an event of the kernel, or for a look at the name."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import watchfiles

from p2pboot.core.problems import Code, Problem
from p2pboot.doctor import inotify
from p2pboot.node import watching
from p2pboot.node.watching import fingerprint, touched_within, watch_directory
from tests.node.world import until


class Changes:
    def __init__(self) -> None:
        self._event = trio.Event()
        self.problems: list[Problem] = []

    def report(self, problems: list[Problem]) -> None:
        self.problems = problems

    def __call__(self) -> None:
        self._event.set()

    async def expect(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


@asynccontextmanager
async def watched(directory: Path) -> AsyncIterator[Changes]:
    changes = Changes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_directory, directory, changes, changes.report)
        yield changes
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_S", 0.2)
    monkeypatch.setattr(watching, "AGAIN_S", 0.1)
    monkeypatch.setattr(watching, "_DEBOUNCE_MS", 100)


async def touch_until(path: Path, changes: Changes) -> None:
    """The watch may not be there yet: what is written before it is, nobody has to notice."""
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


async def test_a_directory_that_vanishes_is_told_and_watched_when_it_is_back(tmp_path: Path) -> None:
    directory = tmp_path / "artifacts"
    directory.mkdir()
    async with watched(directory) as changes:
        await touch_until(directory / "kernel", changes)
        (directory / "kernel").unlink()
        directory.rmdir()
        await changes.expect()
        await trio.sleep(0.5)
        changes._event = trio.Event()
        directory.mkdir()
        await changes.expect()
        await touch_until(directory / "kernel", changes)


async def test_the_end_may_come_before_the_watch_has_begun(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(watchfiles.awatch(tmp_path, stop_event=watching._Cancellation()))  # type: ignore[arg-type]

    assert scope.cancelled_caught


async def test_the_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_S", 10_000.0)  # the library's thread would take as long
    async with watched(tmp_path) as changes:
        await touch_until(tmp_path / "kernel", changes)
        await trio.sleep(0.5)


INSTANCES = RuntimeError("Error creating recommended watcher: Too many open files (os error 24)")
WATCHES = OSError(
    'OS file watch limit reached. about ["/srv"] (Error { kind: MaxFilesWatch, paths: ["/srv"] })'
)


@pytest.mark.parametrize(
    ("error", "limit", "what"),
    [
        (INSTANCES, "fs.inotify.max_user_instances = ", "inotify instances"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "fs.inotify.max_user_instances = ",
            "inotify instances",
        ),
        (WATCHES, "fs.inotify.max_user_watches = ", "inotify watches"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "fs.inotify.max_user_watches = ",
            "inotify watches",
        ),
    ],
)
async def test_without_a_watch_changes_are_found_and_the_limit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, limit: str, what: str
) -> None:
    working = watchfiles.awatch

    def used_up(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(watchfiles, "awatch", used_up)
    (tmp_path / "kernel").write_bytes(b"first")
    async with watched(tmp_path) as changes:
        await until(lambda: changes.problems, within_s=30)
        (problem,) = changes.problems
        assert (problem.code, problem.subject) == (Code.INOTIFY, str(tmp_path))
        assert what in problem.text
        assert limit in problem.text
        assert "open files" not in problem.text
        assert "space" not in problem.text
        assert problem.remedy is not None
        assert "with sysctl" in problem.remedy
        await touch_until(tmp_path / "kernel", changes)
        monkeypatch.setattr(watchfiles, "awatch", working)  # somebody gave some back
        await until(lambda: not changes.problems, within_s=30)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (
            {"fs.inotify.max_user_instances": 128, "user.max_inotify_instances": 0},
            "user.max_inotify_instances",
        ),
        (
            {"fs.inotify.max_user_instances": 1, "user.max_inotify_instances": 9},
            "fs.inotify.max_user_instances",
        ),
        ({"fs.inotify.max_user_instances": 128}, "fs.inotify.max_user_instances"),
        ({}, "fs.inotify.max_user_instances"),
        ({"fs.inotify.max_user_instances": 4000}, "fs.inotify.max_user_instances"),
    ],
)
def test_of_two_limits_the_lower_one_is_to_be_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, int], named: str
) -> None:
    monkeypatch.setattr(inotify, "_sysctl", values.get)
    problem = watching._problem(tmp_path, INSTANCES)
    assert problem.remedy is not None
    enough = 8000 if values.get(named) == 4000 else 1024
    assert f"raise {named} with sysctl (sysctl -w {named}={enough});" in problem.remedy


async def test_a_process_that_has_run_out_of_files_does_not_blame_inotify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_can_open_files", lambda: False)
    problem = watching._problem(tmp_path, INSTANCES)
    assert "inotify" not in problem.text
    assert "Too many open files" in problem.text


async def test_where_the_kernel_tells_of_nothing_changes_are_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system, which other machines write to."""

    async def silence(*_args: object, **_options: object) -> AsyncIterator[set[object]]:
        while True:
            await trio.sleep(0.1)
            yield set()

    monkeypatch.setattr(watchfiles, "awatch", silence)
    (tmp_path / "stable").mkdir()
    async with watched(tmp_path) as changes:
        await touch_until(tmp_path / "stable" / "kernel", changes)
        assert not changes.problems


def change_a_byte(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"!")


@pytest.mark.parametrize(
    "change",
    [
        change_a_byte,
        lambda path: path.rename(path.with_name("vmlinuz")),
        lambda path: path.unlink(),
        lambda path: path.with_name("initramfs").write_bytes(b""),
        lambda path: os.utime(path, (1, 1)),
        lambda path: (path.parent / "dtbs" / "vendor").mkdir(parents=True),
    ],
)
def test_a_fingerprint_changes_with_everything_that_can_be_seen(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    leaf = tmp_path / "stable" / "x86_64"
    leaf.mkdir(parents=True)
    (leaf / "kernel").write_bytes(b"kernel")
    os.utime(leaf / "kernel", (2, 2))
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    change(leaf / "kernel")
    assert fingerprint(tmp_path) != before


def test_looking_at_a_directory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "circle").symlink_to(tmp_path)
    for name in range(100):
        (tmp_path / f"{name:03}").write_bytes(b"")
    monkeypatch.setattr(watching, "MAX_ENTRIES", 50)
    assert len(list(watching._below(tmp_path))) == 50
    assert fingerprint(tmp_path / "nowhere")


def test_what_was_touched_lately(tmp_path: Path) -> None:
    (tmp_path / "dtbs").mkdir()
    (tmp_path / "dtbs" / "board.dtb").write_bytes(b"dtb")
    now_ns = max(path.stat().st_ctime_ns for path in (tmp_path, *tmp_path.rglob("*")))
    assert touched_within(tmp_path, now_ns, 1)
    assert touched_within(tmp_path, now_ns + 9 * 10**8, 1)
    assert not touched_within(tmp_path, now_ns + 2 * 10**9, 1)
    assert not touched_within(tmp_path, now_ns - 3600 * 10**9, 10)  # a clock that was wrong
