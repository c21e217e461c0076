from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from p2pboot.node import node as node_module
from p2pboot.node import publishing
from tests.node.world import Mesh, Wall


@pytest.fixture
def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work for threads happens at once: a clock that jumps when nothing moves would not wait for it."""

    async def run_sync(function: Callable[..., Any], *args: Any, **_options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    monkeypatch.setattr(trio.from_thread, "check_cancelled", lambda: None)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """The wall clock of every node, which stands still unless a test moves it."""
    wall = Wall()
    monkeypatch.setattr(node_module, "time", SimpleNamespace(time=lambda: wall.now))
    return wall


@pytest.fixture
def mesh(
    tmp_path: Path,
    inline_threads: None,
    wall: Wall,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Mesh:
    """Whole nodes; directories are quiet, and nobody watches them but the test."""

    async def watch_nothing(_directory: Path, _changed: Callable[[], None], _report: object) -> None:
        await trio.sleep_forever()

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(publishing, "watch_directory", watch_nothing)
    monkeypatch.setattr(publishing, "recently_changed", lambda *_: False)
    monkeypatch.setattr(publishing, "touched_within", lambda *_: False)
    return Mesh(tmp_path, wall)
