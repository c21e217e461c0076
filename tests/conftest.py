"""What every test may rely on: no test reads or writes the settings and state of the person who runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A slow machine is no defect: nothing here judges by the clock.
settings.register_profile("p2pboot", deadline=None)
settings.load_profile("p2pboot")

_KEPT = {"P2PBOOT_KILLS"}


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Also for the processes that tests start: they inherit the environment."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("XDG_") or (name.startswith("P2PBOOT_") and name not in _KEPT):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        yield
