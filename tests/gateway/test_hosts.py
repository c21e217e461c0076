from __future__ import annotations

import socket

import pytest

from p2pboot.errors import ExitStatus, MachineError
from p2pboot.gateway.hosts import advertised, base_url, base_urls, is_host, listen, port_of


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


def test_urls_are_where_it_listens() -> None:
    with listen("127.0.0.1:0") as listener:
        assert base_urls(listener) == (f"http://127.0.0.1:{port_of(listener)}",)
        assert advertised(listener, ()) == base_urls(listener)
        assert advertised(listener, ("http://boot.example",)) == ("http://boot.example",)


@pytest.mark.parametrize("http", ["0.0.0.0:0", "[::]:0"])
def test_wildcard_is_never_advertised(http: str) -> None:
    with listen(http) as listener:
        urls = base_urls(listener)
    assert urls
    assert not [url for url in urls if "0.0.0.0" in url or "[::]" in url]


def test_usual_port_is_left_out() -> None:
    assert base_url("192.0.2.7", 80) == "http://192.0.2.7"
    assert base_url("fd00::1", 8080) == "http://[fd00::1]:8080"
