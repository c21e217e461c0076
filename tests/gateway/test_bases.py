"""Where a client reached the gateway: who is believed, about what, and which of several wins."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.origins import party_of
from p2pboot.gateway.bases import Bases
from p2pboot.gateway.request import Ends, Request
from p2pboot.store.store import Store
from tests.gateway.world import PAIR, OfferingNode, gateway_settings, put, serving

PROXY, STRANGER = "192.0.2.9", "198.51.100.7"
HTTPS = (("X-Forwarded-Proto", "https"),)


def base(
    *fields: tuple[str, str],
    host: str | None = "gateway.example:8080",
    peer: str = PROXY,
    proxies: tuple[str, ...] = ("192.0.2.0/28", "fd00::/8"),
    advertised: tuple[str, ...] = (),
) -> str:
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)
    request = Request("GET", "/boot.ipxe", values, host, Ends(peer, ("192.0.2.1", 8080), party_of(peer)))
    return Bases(advertised, proxies).of(request)


def client(*fields: tuple[str, str], peer: str = PROXY) -> str:
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)
    request = Request("GET", "/kernel", values, "host", Ends(peer, ("192.0.2.1", 8080), party_of(peer)))
    return Bases((), ("192.0.2.0/28",)).client_of(request)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ((("X-Forwarded-For", "198.51.100.8"),), "198.51.100.8"),
        (
            (("X-Forwarded-For", "203.0.113.1, 198.51.100.8"),),
            "198.51.100.8",
        ),  # the last is the proxy's own word
        ((("X-Forwarded-For", "203.0.113.1"), ("X-Forwarded-For", " 198.51.100.8 ")), "198.51.100.8"),
        ((("X-Forwarded-For", "198.51.100.8:1234"),), "198.51.100.8"),
        ((("X-Forwarded-For", "2001:db8::7"),), "2001:db8::7"),
        ((("X-Forwarded-For", "[2001:db8::7]:80"),), "2001:db8::7"),
        ((("X-Forwarded-For", "::ffff:198.51.100.8"),), "198.51.100.8"),
        ((("Forwarded", 'for="[2001:db8::7]:80";proto=https'),), "2001:db8::7"),
        ((("Forwarded", "for=203.0.113.1, for=198.51.100.8"),), "198.51.100.8"),
        ((("Forwarded", "for=unknown"),), PROXY),
        ((("X-Forwarded-For", "<script>"),), PROXY),
        ((("X-Forwarded-For", "198.51.100.8\n"),), PROXY),
        ((("X-Forwarded-For", "1" * 10_000),), PROXY),
        ((), PROXY),
    ],
)
def test_the_client_is_who_a_trusted_proxy_says_last(fields: tuple[tuple[str, str], ...], said: str) -> None:
    assert client(*fields) == said


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_of_who_is_no_trusted_proxy_the_client_is_itself(name: str) -> None:
    assert client((name, "for=198.51.100.8"), (name, "198.51.100.8"), peer=STRANGER) == STRANGER


FORWARDED_HOST = (("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "boot.example"))


@pytest.mark.parametrize(
    ("peer", "proxies"),
    [
        (PROXY, ("192.0.2.9/32",)),
        (PROXY, ("10.0.0.0/8", "192.0.2.0/24")),
        ("::ffff:192.0.2.9", ("192.0.2.9/32",)),
        ("fd00::9", ("fd00::/8",)),
        ("fe80::9%eth0", ("fe80::/10",)),
        ("127.0.0.1", ("127.0.0.1/32",)),
    ],
)
def test_trusted_proxy_is_believed(peer: str, proxies: tuple[str, ...]) -> None:
    assert base(*FORWARDED_HOST, peer=peer, proxies=proxies) == "https://boot.example"


@pytest.mark.parametrize(
    ("peer", "proxies"),
    [
        (STRANGER, ("192.0.2.0/24",)),
        (PROXY, ()),
        (PROXY, ("192.0.2.8/32",)),
        ("::ffff:198.51.100.7", ("192.0.2.0/24",)),
        (PROXY, ("::/0",)),
        ("fd00::9", ("0.0.0.0/0",)),
    ],
)
@pytest.mark.parametrize(
    "fields",
    [
        FORWARDED_HOST,
        (("Forwarded", "proto=https;host=boot.example"),),
        (("X-Forwarded-Port", "8443"), ("X-Forwarded-Prefix", "/images")),
        (("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-Proto", "https")),
    ],
)
def test_nobody_else_is(peer: str, proxies: tuple[str, ...], fields: tuple[tuple[str, str], ...]) -> None:
    assert base(*fields, peer=peer, proxies=proxies) == "http://gateway.example:8080"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (HTTPS, "https://gateway.example:8080"),
        (
            (("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "boot.example:8443")),
            "https://boot.example:8443",
        ),
        ((*FORWARDED_HOST, ("X-Forwarded-Port", "8443")), "https://boot.example:8443"),
        ((*FORWARDED_HOST, ("X-Forwarded-Port", "443")), "https://boot.example"),
        ((("X-Forwarded-Host", "boot.example"), ("X-Forwarded-Port", "80")), "http://boot.example"),
        (
            (("X-Forwarded-Host", "boot.example:8443"), ("X-Forwarded-Port", "443")),
            "http://boot.example:8443",
        ),
        (
            (*HTTPS, ("X-Forwarded-Host", "[2001:db8::1]"), ("X-Forwarded-Port", "8443")),
            "https://[2001:db8::1]:8443",
        ),
        ((*HTTPS, ("X-Forwarded-Host", "[2001:db8::1]:8443")), "https://[2001:db8::1]:8443"),
        ((*FORWARDED_HOST, ("X-Forwarded-Prefix", "/images/")), "https://boot.example/images"),
        ((*FORWARDED_HOST, ("X-Forwarded-Prefix", "/a/b_c.d")), "https://boot.example/a/b_c.d"),
        ((("Forwarded", "for=10.0.0.1;proto=https;host=boot.example"),), "https://boot.example"),
        ((("Forwarded", 'Proto=HTTPS; Host="boot.example:8443" ;by=_x'),), "https://boot.example:8443"),
        ((("Forwarded", 'host="[2001:db8::1]:8443";proto=https'),), "https://[2001:db8::1]:8443"),
        ((("Forwarded", "proto=https;host=boot.example:8443"),), "https://boot.example:8443"),
        ((("Forwarded", r'proto="htt\ps";host=boot.example'),), "https://boot.example"),
        ((("Forwarded", "proto=https"),), "https://gateway.example:8080"),
    ],
)
def test_what_a_proxy_says(fields: tuple[tuple[str, str], ...], expected: str) -> None:
    assert base(*fields) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            (("X-Forwarded-Proto", "http, https"), ("X-Forwarded-Host", "evil.example, boot.example")),
            "https://boot.example",
        ),
        ((("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")), "https://gateway.example:8080"),
        ((("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Host", "boot.example")), "http://boot.example"),
        (
            (("Forwarded", "proto=http;host=evil.example, proto=https;host=boot.example"),),
            "https://boot.example",
        ),
        (
            (("Forwarded", "host=evil.example"), ("Forwarded", "host=boot.example;proto=https")),
            "https://boot.example",
        ),
        (
            (("Forwarded", 'host="evil.example, host=worse.example", proto=https'),),
            "https://gateway.example:8080",
        ),
    ],
)
def test_of_several_hops_the_last_counts(fields: tuple[tuple[str, str], ...], expected: str) -> None:
    assert base(*fields) == expected


def test_of_both_kinds_of_field_the_usual_one_counts() -> None:
    contradiction = (("Forwarded", "proto=http;host=evil.example"), *FORWARDED_HOST)
    assert base(*contradiction) == "https://boot.example"
    assert base(*reversed(contradiction)) == "https://boot.example"
    # Nothing is put together from both: who wrote one of them did not write the other.
    assert base(("Forwarded", "proto=https;host=evil.example"), HTTPS[0]) == "https://gateway.example:8080"


@pytest.mark.parametrize(
    "value", ["", "ftp", "https:", "javascript", "http s", "https\x00", "http/1.1", "on"]
)
def test_scheme_that_is_none_is_http(value: str) -> None:
    assert base(("X-Forwarded-Proto", value), ("X-Forwarded-Host", "boot.example")) == "http://boot.example"
    if value and '"' not in value:
        assert base(("Forwarded", f'proto="{value}";host=boot.example')) == "http://boot.example"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a b",
        "${net0/ip}",
        "user@boot.example",
        "boot.example/x",
        "boot:0",
        "boot:99999",
        "b\xf6ot",
        "-x",
        "[::1",
    ],
)
def test_host_that_is_none_is_the_one_of_the_request(value: str) -> None:
    assert base(*HTTPS, ("X-Forwarded-Host", value)) == "https://gateway.example:8080"
    assert base(("Forwarded", f'proto=https;host="{value}"')) == "https://gateway.example:8080"


@pytest.mark.parametrize("value", ["", "0", "65536", "-1", "x", "8443 ", "\u0661", "8" * 400])
def test_port_that_is_none_is_left_out(value: str) -> None:
    port = base(*FORWARDED_HOST, ("X-Forwarded-Port", value.encode().decode("latin-1")))
    assert port == ("https://boot.example:8443" if value.strip() == "8443" else "https://boot.example")


@pytest.mark.parametrize(
    "value",
    [
        "images",
        "/..",
        "/a/../b",
        "/./a",
        "//evil.example",
        "/a b",
        "/${x}",
        "/a?b",
        "/a#b",
        "/%61",
        "/" + "a" * 300,
    ],
)
def test_prefix_that_is_none_is_left_out(value: str) -> None:
    assert base(*FORWARDED_HOST, ("X-Forwarded-Prefix", value)) == "https://boot.example"


@pytest.mark.parametrize(
    "value",
    ['host="boot', "=x", "host=a;host=b", "proto=https host=b", ",,;;=", 'host="a"b', "host==", "\x00"],
)
def test_forwarded_that_is_none_is_ignored(value: str) -> None:
    assert base(("Forwarded", value)) == "http://gateway.example:8080"


# --- the operator's own word


ADVERTISED = ("https://boot.example.net", "http://10.0.0.1:8080", "https://other.example.net:8443/images")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("boot.example.net", 0),
        ("BOOT.example.net.", 0),
        ("boot.example.net:8080", 0),
        ("10.0.0.1:8080", 1),
        ("10.0.0.1", 1),
        ("other.example.net", 2),
        ("unknown.example", 0),
        ("[fd00::1]:8080", 0),
        (None, 0),
    ],
)
@pytest.mark.parametrize("peer", [PROXY, STRANGER])
def test_what_the_operator_says_wins(host: str | None, expected: int, peer: str) -> None:
    fields = (("X-Forwarded-Proto", "http"), ("X-Forwarded-Prefix", "/x"))
    assert base(*fields, host=host, peer=peer, advertised=ADVERTISED) == ADVERTISED[expected]


def test_host_that_a_trusted_proxy_names_chooses_among_them() -> None:
    named = ("X-Forwarded-Host", "10.0.0.1:8080")
    assert base(named, advertised=ADVERTISED) == ADVERTISED[1]
    assert base(named, peer=STRANGER, advertised=ADVERTISED) == ADVERTISED[0]


def test_port_and_scheme_choose_between_bases_of_one_host() -> None:
    several = ("http://boot.example:8080", "http://boot.example", "https://boot.example")
    assert base(host="boot.example", advertised=several) == several[1]
    assert base(host="boot.example:8080", advertised=several) == several[0]
    assert base(*HTTPS, host="boot.example", advertised=several) == several[2]


# --- over a real socket


async def script_of(store: Store, tmp_path: Path, fields: Mapping[str, str], **settings: Any) -> str:
    put(store)
    async with serving(OfferingNode(store), gateway_settings(tmp_path, **settings)) as gateway:
        script = (await gateway.get("/boot.ipxe", fields)).body.decode()
        view = json.loads((await gateway.get(f"/phase{PAIR}/manifest.json", fields)).body)
    url = script.splitlines()[2].split()[3]
    assert view["artifacts"]["kernel"]["urls"] == [url]  # script and view never differ
    return url.partition("/blobs/")[0]


TOLD = {"Host": "boot.example", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "8443"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "http://boot.example"),
        ({"gateway.trusted_proxies": ["127.0.0.0/8"]}, "https://boot.example:8443"),
        ({"gateway.trusted_proxies": ["192.0.2.0/24"]}, "http://boot.example"),
        ({"gateway.advertise_http": ["https://a.example/x/"]}, "https://a.example/x"),
        (
            {"gateway.advertise_http": ["https://a.example"], "gateway.trusted_proxies": ["127.0.0.1"]},
            "https://a.example",
        ),
    ],
)
async def test_settings_reach_the_scripts(
    store: Store, tmp_path: Path, settings: Mapping[str, Any], expected: str
) -> None:
    assert await script_of(store, tmp_path, TOLD, **settings) == expected


async def test_http_1_0_without_host_gets_what_the_operator_says(store: Store, tmp_path: Path) -> None:
    put(store)
    settings = gateway_settings(tmp_path, **{"gateway.advertise_http": ["https://boot.example"]})
    async with serving(OfferingNode(store), settings) as gateway:
        assert b" https://boot.example/blobs/" in await gateway.raw(b"GET //boot.ipxe HTTP/1.0\r\n\r\n")


async def test_gateway_on_ipv6_believes_a_proxy_on_ipv4(store: Store, tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    settings = {"gateway.http": "[::]:0", "gateway.trusted_proxies": ["127.0.0.1"]}
    assert await script_of(store, tmp_path, TOLD, **settings) == "https://boot.example:8443"
