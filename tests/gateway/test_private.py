"""The gateway of a node in a private mesh is for its own machine, unless the operator says otherwise."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from p2pboot.gateway.service import GatewayService
from tests.gateway.world import gateway_settings


@pytest.mark.parametrize(
    ("said", "host"),
    [
        ({"network.swarm_key": "swarm.key"}, "127.0.0.1"),
        ({"network.swarm_key": "swarm.key", "gateway.public": True}, "0.0.0.0"),
        ({"gateway.public": True}, "0.0.0.0"),
        ({}, "0.0.0.0"),
    ],
)
def test_a_private_mesh_offers_http_on_loopback_unless_told_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, said: dict[str, Any], host: str
) -> None:
    settings = gateway_settings(tmp_path, **{"gateway.http": "0.0.0.0:0", **said})
    with closing(GatewayService(settings)) as service:
        assert service._listener.getsockname()[0] == host
    warned = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warned) == (host == "127.0.0.1")
    assert all("--gateway-public" in line for line in warned)
