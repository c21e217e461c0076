from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pboot.node import building, publishing, quiet
from p2pboot.publish.build import build as build_tree
from p2pboot.store.store import Store
from tests.node.desk import Desk
from tests.node.world import Mesh, Wall, write_tree


@pytest.fixture
def wall() -> Wall:
    """The wall clock of every node, which stands still unless a test moves it."""
    return Wall()


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
    monkeypatch.setattr(quiet, "recently_changed", lambda *_: False)
    monkeypatch.setattr(quiet, "touched_within", lambda *_: False)
    return Mesh(tmp_path, wall)


@pytest.fixture
def desk(tmp_path: Path, inline_threads: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with Store.open(tmp_path / "state") as store:
        desk = Desk(write_tree(tmp_path / "artifacts", "image").parent.parent, store)

        async def watch(_directory: Path, changed: Callable[[], None], _report: object) -> None:
            desk.changed = changed
            await trio.sleep_forever()

        def recently_changed(_tree: object, _now_ns: int, quiet_s: float) -> bool:
            return trio.current_time() < desk.busy_until + quiet_s

        build = build_tree

        def noting_build(*args: Any, **options: Any) -> Any:
            desk.builds.append(trio.current_time())
            return build(*args, **options)

        monkeypatch.setattr(publishing, "watch_directory", watch)
        monkeypatch.setattr(quiet, "recently_changed", recently_changed)
        monkeypatch.setattr(quiet, "touched_within", recently_changed)
        monkeypatch.setattr(building, "build", noting_build)
        desk.busy_until = -1000
        yield desk
