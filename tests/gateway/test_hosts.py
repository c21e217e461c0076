from __future__ import annotations

import ipaddress
import socket

import pytest

from p2pboot.errors import ExitStatus, MachineError
from p2pboot.gateway.hosts import (
    MAX_URLS,
    advertised,
    base_url,
    base_urls,
    is_host,
    lan_addresses,
    listen,
    on_loopback,
    own_addresses,
    port_of,
)
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach


@pytest.mark.parametrize(
    "text",
    [
        "boot",
        "boot.example.net",
        "boot.example.net.:80",
        "10.0.2.2:8080",
        "[fd00::1]:8080",
        "[::1]",
        "a_b:65535",
        "x" * 63,
    ],
)
def test_names_and_addresses_are_hosts(text: str) -> None:
    assert is_host(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "boot:",
        "boot:0",
        "boot:65536",
        "boot:8080:8080",
        "-boot",
        "boot..net",
        ".net",
        "user@boot",
        "boot/x",
        "boot x",
        "boot\\x",
        'boot"',
        "boot'",
        "${net0/ip}",
        "boot\r\nX: y",
        "boot\n",
        "büro.example",
        "256.1.1.1",
        "1.2.3",
        "[::1",
        "[1.2.3.4]",
        "[gg::]",
        "::1",
        "x" * 64,
        "a." * 130,
    ],
)
def test_everything_else_is_not(text: str) -> None:
    assert not is_host(text)


@pytest.mark.parametrize(
    ("http", "private"),
    [
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("192.0.2.7:80", "127.0.0.1:80"),
        ("[::]:8080", "[::1]:8080"),
        ("[2001:db8::7]:0", "[::1]:0"),
        ("boot.example.net:8080", "127.0.0.1:8080"),
        ("127.0.0.2:8080", "127.0.0.2:8080"),
        ("[::1]:8080", "[::1]:8080"),
        ("localhost:8080", "localhost:8080"),
    ],
)
def test_on_loopback_is_the_same_port_for_this_machine_alone(http: str, private: str) -> None:
    assert on_loopback(http) == private


def test_port_in_use_is_the_machines_fault() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=rf"listen for HTTP on 127.0.0.1:{port}") as caught:
            listen(f"127.0.0.1:{port}")
    assert caught.value.exit_status is ExitStatus.MACHINE
    assert caught.value.remedy


@pytest.mark.parametrize("http", ["192.0.2.1:80", "no.such.host.invalid:80"])
def test_foreign_address_is_the_machines_fault(http: str) -> None:
    with pytest.raises(MachineError):
        listen(http)


def machine(*addresses: tuple[str, Reach]) -> Interfaces:
    own = tuple(OwnAddress(ipaddress.ip_address(text), "x", 2, reach) for text, reach in addresses)
    return Interfaces(lambda: Listing(own))


LOOPBACK = ("127.0.0.1", Reach.LOOPBACK), ("::1", Reach.LOOPBACK)
HOST = (
    ("192.168.1.5", Reach.ROUTED),
    ("fd00::5", Reach.ROUTED),
    ("10.9.9.9", Reach.PHYSICAL),
    ("10.7.7.7", Reach.TUNNEL),
    ("10.8.8.8", Reach.DOWN),
    *((f"172.{number}.0.1", Reach.CONTAINER) for number in range(17, 32)),
    *LOOPBACK,
)


def urls(http: str, *addresses: tuple[str, Reach], configured: tuple[str, ...] = ()) -> list[str]:
    """What a gateway advertises, without its port."""
    with listen(http) as listener:
        port = port_of([listener])
        told = advertised([listener], configured, machine(*addresses))
        return [url.removesuffix(f":{port}") for url in told]


def test_urls_are_where_it_listens() -> None:
    assert urls("127.0.0.1:0") == ["http://127.0.0.1"]
    assert urls("127.0.0.1:0", *HOST) == ["http://127.0.0.1"]


def test_the_operator_knows_better() -> None:
    assert urls("127.0.0.1:0", configured=("http://boot.example",)) == ["http://boot.example"]
    assert urls("0.0.0.0:0", *HOST, configured=("http://boot.example",)) == ["http://boot.example"]


def test_of_many_addresses_the_useful_ones_are_advertised() -> None:
    assert urls("0.0.0.0:0", *HOST) == [
        "http://192.168.1.5",
        "http://10.9.9.9",
        "http://10.7.7.7",
        "http://10.8.8.8",
    ]
    assert urls("[::]:0", *HOST) == [
        "http://192.168.1.5",
        "http://[fd00::5]",
        "http://10.9.9.9",
        "http://10.7.7.7",
    ]
    assert MAX_URLS == 4


@pytest.mark.parametrize("http", ["0.0.0.0:0", "[::]:0"])
def test_before_the_network_is_there_nothing_is_advertised(http: str) -> None:
    assert urls(http, *LOOPBACK) == []
    assert urls(http) == []
    with listen(http) as listener:  # but this machine can ask
        assert own_addresses([listener], machine(*LOOPBACK))[0].is_loopback


@pytest.mark.parametrize("http", ["0.0.0.0:0", "[::]:0"])
def test_wildcard_is_never_advertised(http: str) -> None:
    with listen(http) as listener:
        found = base_urls(own_addresses([listener], Interfaces()))
    assert found
    assert not [url for url in found if "0.0.0.0" in url or "[::]" in url]


def test_on_the_network_nobody_is_sent_to_their_own_containers() -> None:
    with listen("[::]:0") as listener:
        told = lan_addresses([listener], machine(*HOST))
        assert [address.host for address in told] == [
            "192.168.1.5",
            "fd00::5",
            "10.9.9.9",
            "10.7.7.7",
            "10.8.8.8",
        ]
        alone = (("172.17.0.1", Reach.CONTAINER), ("172.18.0.1", Reach.CONTAINER))
        told = lan_addresses([listener], machine(*alone))
        assert [address.host for address in told] == ["172.17.0.1", "172.18.0.1"]


def test_usual_port_is_left_out() -> None:
    assert base_url("192.0.2.7", 80) == "http://192.0.2.7"
    assert base_url("fd00::1", 8080) == "http://[fd00::1]:8080"
