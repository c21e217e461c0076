"""Who may read what the node says of itself."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from p2pboot.core.origins import Party
from p2pboot.gateway.admin.access import Access
from p2pboot.gateway.names import Names
from p2pboot.gateway.request import Ends, Request
from p2pboot.store.store import Store
from tests.gateway.clients import connected, drained, request, status_of
from tests.gateway.world import OfferingNode, Running, gateway_settings, put, serving

REPORTS = ("/", "/status", "/metrics", "/events", "/events/page", "//status", "/%73tatus", "/none")
OF_PROXIES = (
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Host: localhost",
    "X-Forwarded-Anything: 1",
    "Forwarded: for=127.0.0.1",
    "Via: 1.1 nginx",
    "X-Real-IP: 127.0.0.1",
    "X-Original-Forwarded-For: 127.0.0.1",
    "Fly-Client-IP: 127.0.0.1",
)


def judged(client: str, *, allowed: Sequence[str] = (), **fields: str) -> int:
    """The status that a request of this client gets; 200 where it is answered."""
    sent = {name.replace("_", "-"): [value] for name, value in {"host": "localhost", **fields}.items()}
    asked = Request("GET", "/", sent, sent["host"][0], Ends(client, ("127.0.0.1", 4080), Party(client)))
    refused = Access(allowed, Names((), "p2pboot-1.local.")).refusal(asked)
    return 200 if refused is None else refused.status


async def ask(gateway: Running, path: str, *lines: str, source: str = "127.0.0.1") -> bytes:
    sent = request(path, *lines)
    async with connected(gateway.admin.port, sent, source=source) as client:
        return await drained(client)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may(client: str) -> None:
    assert judged(client) == 200


@pytest.mark.parametrize(
    "client",
    [
        "192.0.2.7",
        "10.0.0.1",
        "fe80::1%eth0",
        "2001:db8::1",
        "::ffff:192.0.2.7",
        "64:ff9b::7f00:1",
        "0.0.0.0",
        "::",
    ],
)
def test_others_may_not_unless_they_are_named(client: str) -> None:
    assert judged(client) == 403
    assert judged(client, x_forwarded_for="127.0.0.1", forwarded="for=127.0.0.1") == 403
    assert judged(client, allowed=("198.51.100.0/24", "fd00::/8")) == 403


@pytest.mark.parametrize(
    ("client", "network"),
    [("192.0.2.7", "192.0.2.7/32"), ("::ffff:192.0.2.7", "192.0.2.0/24"), ("fd00:30::1", "fd00:30::/64")],
)
def test_who_is_named_may_whatever_is_said_of_him(client: str, network: str) -> None:
    assert judged(client, allowed=[network]) == 200
    assert judged(client, allowed=[network], x_forwarded_for="203.0.113.9") == 200
    assert judged(client, allowed=[network], host="evil.example") == 421


@pytest.mark.parametrize("line", OF_PROXIES)
def test_what_a_proxy_on_this_machine_passes_on_is_not_of_this_machine(line: str) -> None:
    name, _, value = line.partition(": ")
    assert judged("127.0.0.1", **{name.lower(): value}) == 403
    assert judged("127.0.0.1", allowed=["127.0.0.1/32"], **{name.lower(): value}) == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_sites_may_link_here_and_not_ask(site: str) -> None:
    assert judged("127.0.0.1", sec_fetch_site=site, sec_fetch_mode="cors") == 403
    assert judged("127.0.0.1", sec_fetch_site=site, sec_fetch_mode="no-cors") == 403
    assert judged("127.0.0.1", sec_fetch_site=site, sec_fetch_mode="navigate") == 200
    assert judged("127.0.0.1", sec_fetch_site="same-origin", sec_fetch_mode="cors") == 200
    assert judged("127.0.0.1", sec_fetch_site="none", sec_fetch_mode="navigate") == 200


def test_scripts_of_other_sites_are_known_by_their_origin_too() -> None:
    for origin in ("http://evil.example", "null", "http://localhost.evil.example", "http://localhost:81"):
        assert judged("127.0.0.1", origin=origin) == 403
    assert judged("127.0.0.1", origin="http://localhost") == 200


@pytest.mark.parametrize("path", REPORTS)
async def test_pages_that_call_us_by_their_own_name_are_refused(gateway: Running, path: str) -> None:
    assert status_of(await ask(gateway, path, "Host: evil.example")) == 421
    for target, host in (("evil.example", "localhost"), ("localhost", "evil.example")):
        assert status_of(await ask(gateway, f"http://{target}{path}", f"Host: {host}")) == 421


@pytest.mark.parametrize("path", REPORTS)
@pytest.mark.parametrize("line", OF_PROXIES)
async def test_forwarded_requests_are_refused_everywhere(gateway: Running, path: str, line: str) -> None:
    assert status_of(await ask(gateway, path, "Host: localhost", line)) == 403


@pytest.mark.parametrize("path", ["/", "/status", "/metrics"])
async def test_it_is_told_by_address_and_to_the_oldest_clients(gateway: Running, path: str) -> None:
    assert status_of(await ask(gateway, path, f"Host: 127.0.0.1:{gateway.admin.port}")) == 200
    assert status_of(await ask(gateway, path, f"Host: [::1]:{gateway.admin.port}")) == 200
    async with connected(gateway.admin.port, f"GET {path} HTTP/1.0\r\n\r\n".encode()) as client:
        assert status_of(await drained(client)) == 200


def own_address() -> str:
    """An address of this machine that is none of loopback; no packet is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


async def test_whoever_comes_from_elsewhere_is_refused_on_all_addresses(store: Store, tmp_path: Path) -> None:
    put(store)
    address = own_address()
    everywhere = gateway_settings(tmp_path, **{"gateway.admin": "0.0.0.0:0"})
    async with serving(OfferingNode(store), everywhere) as gateway:
        assert gateway.admin.admin == f"http://127.0.0.1:{gateway.admin.port}"
        assert (await gateway.report("/status")).status == 200
        assert (await gateway.report_at(address, "/status")).status == 403
        forwarded = {"X-Forwarded-For": "127.0.0.1"}
        assert (await gateway.report_at(address, "/metrics", forwarded)).status == 403
    named = gateway_settings(tmp_path, **{"gateway.admin": "0.0.0.0:0", "gateway.admin_allow": [address]})
    async with serving(OfferingNode(store), named) as gateway:
        assert (await gateway.report_at(address, "/metrics")).status == 200
