from __future__ import annotations

from pathlib import Path

import pytest

from tests.fetch.world import Watcher, World


@pytest.fixture
def world(tmp_path: Path, inline_threads: None) -> World:
    return World(tmp_path)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()
