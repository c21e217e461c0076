"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.testing.processes import Mesh
from tests.forking import Zygote, forking_mesh_in
from tests.integration.images import write_artifacts


@pytest.fixture
def mesh(tmp_path: Path, zygote: Zygote) -> Iterator[Mesh]:
    with forking_mesh_in(tmp_path, zygote) as mesh:
        yield mesh


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return write_artifacts(tmp_path / "artifacts")
