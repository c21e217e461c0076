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
        assert service._listeners[0].getsockname()[0] == host
        if host == "127.0.0.1":
            assert service.urls == (), "it would lead each client to itself"
    warned = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warned) == (host == "127.0.0.1")
    assert all("--gateway-public" in line for line in warned)


@pytest.mark.parametrize("http", ["127.0.0.1:0", "0.0.0.0:0"])
def test_what_the_operator_says_of_urls_stands_in_a_private_mesh_too(tmp_path: Path, http: str) -> None:
    said = {"gateway.advertise_http": ("http://boot.example.net",), "network.swarm_key": "swarm.key"}
    with closing(GatewayService(gateway_settings(tmp_path, **{"gateway.http": http, **said}))) as service:
        assert service.urls == ("http://boot.example.net",)


def test_a_loopback_address_that_was_named_is_advertised_as_ever(tmp_path: Path) -> None:
    settings = gateway_settings(tmp_path, **{"network.swarm_key": "swarm.key"})
    with closing(GatewayService(settings)) as service:
        assert service.urls == (f"http://127.0.0.1:{service.port}",)
