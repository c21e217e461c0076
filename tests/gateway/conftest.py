"""Fixtures of the gateway's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pboot.store.store import Store
from tests.gateway.world import OfferingNode, Running, gateway_settings, put, serving


@pytest.fixture
async def gateway(store: Store, tmp_path: Path) -> AsyncIterator[Running]:
    """One that offers version 1 of stable/x86_64."""
    put(store)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as running:
        yield running
