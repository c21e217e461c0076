from __future__ import annotations

from pathlib import Path

import pytest

from tests.fetch.conftest import inline_threads, watcher
from tests.fetch.snapshots.world import SnapshotWorld

__all__ = ["inline_threads", "watcher"]


@pytest.fixture
def world(tmp_path: Path, inline_threads: None) -> SnapshotWorld:
    return SnapshotWorld(tmp_path)
