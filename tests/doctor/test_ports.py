"""Ports: free, taken, and by whom; one's own node's; and whether the machine gets through to itself."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2pboot.doctor.findings import Code, Finding, State
from p2pboot.doctor.holders import Holder, holders_of
from p2pboot.doctor.ports import Port, check_ports, judge_port, ports_of
from p2pboot.errors import machine_error
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interfaces import Listing
from tests.doctor.patients import LOOPBACK, patient, short

HERE = parse_address("/ip4/0.0.0.0/tcp/4001")


async def checked(*listen: str, http: str | None = None, running: int | None = None) -> list[Finding]:
    async with MemoryNetwork().open("peer") as transport:
        said: dict[str, object] = {"network.listen": listen, "gateway.http": http}
        one = patient(transport, listing=lambda: Listing((LOOPBACK,)), said=said, running=running)
        network = replace(one.settings.network, listen_is_default=False)
        return await check_ports(replace(one, settings=replace(one.settings, network=network)))


async def test_a_free_port_can_be_listened_on_and_answers() -> None:
    found = await checked("/ip4/0.0.0.0/tcp/0", http="127.0.0.1:0")
    assert short(found) == [(Code.PORTS, State.OK)] * 2
    assert "answers at 127.0.0.1" in found[0].text
    assert found[1].subject.endswith("(HTTP)")


async def test_who_has_a_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (finding,) = await checked(f"/ip4/127.0.0.1/tcp/{port}")
        assert (finding.code, finding.state) == (Code.PORT_TAKEN, State.FAILED)
        assert f"(process {os.getpid()})" in finding.text
        (finding,) = await checked(f"/ip4/127.0.0.1/tcp/{port}", running=os.getpid())
        assert (finding.code, finding.state) == (Code.PORTS, State.OK)
        assert "doctor --node" in finding.text


async def test_an_address_of_another_machine_can_not_be_listened_on() -> None:
    (finding,) = await checked("/ip4/192.0.2.200/tcp/0")
    assert (finding.code, finding.state) == (Code.CANNOT_LISTEN, State.FAILED)
    assert finding.remedy is not None


def taken() -> Port:
    try:
        raise machine_error(OSError(errno.EADDRINUSE, "in use"), "listen") from OSError(
            errno.EADDRINUSE, "in use"
        )
    except Exception as error:
        return Port(HERE, "peers", error, (Holder(7, "nginx"),))  # type: ignore[arg-type]


def test_a_default_port_that_is_taken_is_no_failure() -> None:
    finding = judge_port(taken(), is_default=True)
    assert (finding.code, finding.state) == (Code.PORT_TAKEN, State.WARNING)
    assert "nginx (process 7)" in finding.text
    assert judge_port(taken()).state is State.FAILED
    assert judge_port(taken(), running=8).state is State.FAILED


@pytest.mark.parametrize("is_node", [True, False])
def test_a_machine_that_does_not_reach_itself_has_a_firewall(is_node: bool) -> None:
    own = parse_address("/ip4/192.0.2.7/tcp/4001")
    finding = judge_port(Port(HERE, "peers", closed=(own,)), is_node=is_node)
    assert (finding.code, finding.state) == (Code.OWN_PORT_CLOSED, State.FAILED)
    assert "192.0.2.7" in finding.text
    other = parse_address("/ip4/192.0.2.8/tcp/4001")
    assert judge_port(Port(HERE, "peers", closed=(own,), reached=(other,)), is_node=is_node).state is State.OK


async def test_a_node_checks_what_it_listens_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with MemoryNetwork().open("peer") as transport:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            port = listener.socket.getsockname()[1]
            monkeypatch.setattr(transport, "listens_on", lambda: (f"/ip4/127.0.0.1/tcp/{port}",))
            node = patient(transport, is_node=True)
            assert short(await check_ports(node)) == [(Code.PORTS, State.OK)]
            assert ports_of(node) == [port]
        assert short(await check_ports(node)) == [(Code.OWN_PORT_CLOSED, State.FAILED)]
        monkeypatch.setattr(transport, "listens_on", tuple)
        assert short(await check_ports(node)) == [(Code.NOT_LISTENING, State.FAILED)]


def test_nobody_is_known_where_proc_tells_nothing(tmp_path: Path) -> None:
    assert holders_of(1, proc=tmp_path) == []
