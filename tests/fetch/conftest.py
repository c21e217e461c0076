from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fetch.world import Watcher, World


@pytest.fixture
def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work for threads happens at once: a clock that jumps when nothing moves would not wait for it."""

    async def run_sync(function: Callable[..., Any], *args: Any, **_options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    monkeypatch.setattr(trio.from_thread, "check_cancelled", lambda: None)


@pytest.fixture
def world(tmp_path: Path, inline_threads: None) -> World:
    return World(tmp_path)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()
