"""By which names the reports are to be had, and that what boots is for everybody."""

from __future__ import annotations

import socket

import pytest

from p2pboot.gateway.names import Names, host_name
from tests.gateway.clients import request, status_of
from tests.gateway.world import PAIR, PEER, Running

ADVERTISED = ("http://Boot.Example:8080", "https://[2001:db8::1]/images", "http://boot-2.example.")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Boot7")
    monkeypatch.setattr(socket, "getfqdn", lambda: "boot7.lab.example")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "192.0.2.7:8080",
        "[::1]",
        "[fe80::1]:8080",
        "[::FFFF:192.0.2.7]:80",
        "localhost",
        "LocalHost.:8080",
        "boot7",
        "BOOT7.local:8080",
        "boot7.lab.example",
        "boot.example",
        "boot.example.:80",
        "boot-2.example:9",
        host_name(PEER),
    ],
)
async def test_addresses_and_own_names_are_known(host: str) -> None:
    names = Names(ADVERTISED, host_name(PEER))
    await names.learn()
    assert names.has(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.localhost",
        "localhost.evil.example",
        "boot7.evil.example",
        "boot7.local.evil.example",
        "evil.boot.example",
        "127.0.0.1.evil.example",
        "0x7f000001",
        "2130706433",
        "127.1",
        "127.0.0.1:0",
        "localhost:99999",
        "localhost:",
        "localhost..",
        "user@localhost",
        "localhost/",
        "::1",
        "[::1",
        "[::1%25eth0]",
        ".local",
        "",
    ],
)
async def test_everything_else_is_not(host: str) -> None:
    names = Names(ADVERTISED, host_name(PEER))
    await names.learn()
    assert not names.has(host)


async def test_machine_without_a_name_is_known_by_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "")
    assert not Names((), host_name(PEER)).has("local")


OPEN = (
    "/health",
    "/ready",
    "/boot.ipxe",
    "/kernel",
    "/manifest.json",
    f"{PAIR}/initramfs",
    "/phase/manifest.json",
)


@pytest.mark.parametrize("path", OPEN)
async def test_what_boots_is_for_everybody(gateway: Running, path: str) -> None:
    assert status_of(await gateway.raw(request(path, "Host: evil.example"))) == 200
