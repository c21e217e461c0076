from __future__ import annotations

from pathlib import Path

import pytest

from tests.fetch.snapshots.world import SnapshotWorld


@pytest.fixture
def world(tmp_path: Path, inline_threads: None) -> SnapshotWorld:
    return SnapshotWorld(tmp_path)
