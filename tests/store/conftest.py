from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.store.store import Store


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> Iterator[Store]:
    with Store.open(state) as opened:
        yield opened
