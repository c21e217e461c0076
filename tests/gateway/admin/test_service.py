"""Where the status page is, and what of it is a gateway's."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pboot.errors import MachineError
from p2pboot.gateway.admin import service
from p2pboot.gateway.admin.service import AdminService
from p2pboot.gateway.hosts import listen, port_of
from p2pboot.store.store import Store
from tests.gateway.world import OfferingNode, gateway_settings, put, serving


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The usual address, where somebody else listens."""
    with closing(listen("127.0.0.1:0")) as listener:
        where = f"127.0.0.1:{port_of([listener])}"
        monkeypatch.setattr(service, "USUAL", where)
        yield where


def test_another_port_is_taken_where_the_usual_one_is_in_use(
    tmp_path: Path, taken: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with closing(AdminService(gateway_settings(tmp_path, **{"gateway.admin": None}))) as admin:
        assert admin.port not in (0, int(taken.rpartition(":")[2]))
        assert admin.admin == f"http://127.0.0.1:{admin.port}"
    assert "another port is taken for the status page" in caplog.text


def test_a_port_that_was_named_and_is_in_use_is_an_error(tmp_path: Path, taken: str) -> None:
    with pytest.raises(MachineError, match="in use"):
        AdminService(gateway_settings(tmp_path, **{"gateway.admin": taken}))


def test_a_machine_without_loopback_has_no_page_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "USUAL", "192.0.2.1:4080")
    monkeypatch.setattr(service, "ANY_PORT", "192.0.2.1:0")
    with closing(AdminService(gateway_settings(tmp_path, **{"gateway.admin": None}))) as admin:
        assert admin.admin is None
    assert "there is no status page" in caplog.text


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_it_is_at_an_ipv6_address_too(store: Store, tmp_path: Path) -> None:
    put(store)
    settings = gateway_settings(tmp_path, **{"gateway.admin": "[::1]:0"})
    async with serving(OfferingNode(store), settings) as gateway:
        assert gateway.admin.admin == f"http://[::1]:{gateway.admin.port}"
        assert (await gateway.report_at("::1", "/status")).status == 200


async def test_what_is_asked_there_counts_for_nobody(store: Store, tmp_path: Path) -> None:
    """Neither the limits nor the counters of what the node serves know of those who look."""
    put(store)
    node = OfferingNode(store)
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        for path in ("/", "/status", "/metrics", "/health", "/ready", "/none"):
            await gateway.report(path)
    assert not node.bandwidth.traffic.by_peer()
