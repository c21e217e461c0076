"""Names and their many addresses, dialled for real: by both transports, which share how."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from p2pboot.core.identity import SecretKey
from p2pboot.transport import names
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import DialError
from tests.transport.conftest import Lab
from tests.transport.namespaces import namespace
from tests.transport.resolvers import FakeResolver

NAME = "boot.example.net"
STRANGER = SecretKey(b"s" * 32).public.peer_id


@pytest.fixture(params=["light", "libp2p"])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    async with trio.open_nursery() as nursery:
        yield Lab(request.param, nursery)
        nursery.cancel_scope.cancel()


def resolving(monkeypatch: pytest.MonkeyPatch, resolver: FakeResolver) -> None:
    monkeypatch.setattr(names, "system_resolver", lambda: resolver)


async def test_one_that_takes_the_call_and_says_nothing_does_not_hide_the_next(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the race up to the handshake the first that accepts a connection would be waited for."""
    a, b = await lab.node(), await lab.node()
    port = parse_address(b.addresses()[0]).port
    hosts = {(NAME, "ip6"): ["::1"], (NAME, "ip4"): ["127.0.0.7", "127.0.0.1"]}
    resolving(monkeypatch, FakeResolver(hosts))
    async with trio.open_nursery() as nursery:
        (mute,) = await trio.open_tcp_listeners(port, host="127.0.0.7")
        taken = trio.Event()

        async def take(_stream: trio.SocketStream) -> None:
            taken.set()
            await trio.sleep_forever()

        nursery.start_soon(trio.serve_listeners, take, [mute])
        connection = await a.dial(f"/dns/{NAME}/tcp/{port}/p2p/{b.peer_id}")
        assert connection.peer_id == b.peer_id
        assert connection.address == b.addresses()[0]
        assert taken.is_set()
        assert a.connections() == {connection}
        assert await a.dial(f"/dns/{NAME}/tcp/{port}") == connection  # which was dialled at this very address
        nursery.cancel_scope.cancel()


async def test_a_dnsaddr_is_dialled_at_whichever_of_its_addresses_answers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await lab.node(), await lab.node()
    records = [f"dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/{STRANGER}", f"dnsaddr={b.addresses()[0]}"]
    resolving(monkeypatch, FakeResolver(texts={f"_dnsaddr.{NAME}": records}))
    assert (await a.dial(f"/dnsaddr/{NAME}")).peer_id == b.peer_id
    with pytest.raises(DialError, match="refused"):
        await a.dial(f"/dnsaddr/{NAME}/p2p/{STRANGER}")


@pytest.mark.parametrize("address", [f"/dns4/{NAME}/tcp/1", f"/dnsaddr/{NAME}"])
async def test_a_name_that_nobody_knows_is_said_to_be(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    resolving(monkeypatch, FakeResolver())
    with pytest.raises(DialError, match=r"cannot reach /dns.*not (known|exist)") as caught:
        await (await lab.node()).dial(address)
    assert caught.value.remedy


async def test_of_who_answers_wrongly_everything_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = await lab.node(), await lab.node()
    port = parse_address(b.addresses()[0]).port
    resolving(monkeypatch, FakeResolver({(NAME, "ip4"): ["127.0.0.1"], (NAME, "ip6"): ["::1"]}))
    with pytest.raises(DialError, match=rf"refused; .* answers as {b.peer_id}"):
        await a.dial(f"/dns/{NAME}/tcp/{port}/p2p/{STRANGER}")
    assert not a.connections()


_LOOK_UP = """
import dns.message, dns.rrset, json, socket, sys, time, trio
from p2pboot.core.identity import SecretKey
from p2pboot.transport.light import open_light

NAMES = {"one.test.": 1, "many.test.": 1000, "twice.test.": 0}

def records(name, node):
    if name == "_dnsaddr.twice.test.":
        return [f"dnsaddr=/dnsaddr/one.test/p2p/{node.peer_id}"]
    dead = [f"dnsaddr=/ip4/192.0.2.9/tcp/{n + 1}" for n in range(NAMES[name.removeprefix("_dnsaddr.")] // 2)]
    return [f"dnsaddr={node.addresses()[0]}", *["nonsense"] * len(dead)]

async def answer(node, udp, tcp):
    while True:
        query, source = await udp.recvfrom(4096)
        await udp.sendto(reply(query, node, udp_limit=1232), source)

def reply(query, node, udp_limit=65535):
    question = dns.message.from_wire(query)
    answer = dns.message.make_response(question)
    name = str(question.question[0].name)
    texts = records(name, node)
    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *(f'"{text}"' for text in texts)))
    wire = answer.to_wire(max_size=65535)
    if len(wire) > udp_limit:  # ask again by TCP
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.TC
        wire = answer.to_wire()
    return wire

async def answer_tcp(node, stream):
    async with stream:
        length = int.from_bytes(await exactly(stream, 2), "big")
        wire = reply(await exactly(stream, length), node)
        await stream.send_all(len(wire).to_bytes(2, "big") + wire)

async def exactly(stream, count):
    data = b""
    while len(data) < count:
        data += await stream.receive_some(count - len(data))
    return data

async def main():
    said = {}
    async with (
        open_light(SecretKey(b"a" * 32), ["/ip4/192.0.2.1/tcp/4001"]) as node,
        open_light(SecretKey(b"b" * 32)) as client,
        trio.open_nursery() as nursery,
    ):
        udp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await udp.bind(("127.0.0.1", 53))
        nursery.start_soon(answer, node, udp, None)
        (listener,) = await trio.open_tcp_listeners(53, host="127.0.0.1")
        async def serve(stream):
            await answer_tcp(node, stream)
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        for address in (
            "/dns/both.test/tcp/4001", "/dns4/both.test/tcp/4001",
            "/dnsaddr/one.test", "/dnsaddr/many.test", f"/dnsaddr/twice.test/p2p/{node.peer_id}",
        ):
            began = time.monotonic()
            connection = await client.dial(address)
            said[address.split("/p2p")[0]] = (connection.peer_id == node.peer_id, time.monotonic() - began)
            await client.hang_up(connection)
        nursery.cancel_scope.cancel()
    print(json.dumps(said))

trio.run(main)
"""


def test_a_machine_with_a_dead_ipv6_and_a_resolver_of_its_own(tmp_path: Path) -> None:
    """Nothing is pretended: an interface behind which nobody is, /etc/hosts, and DNS with replies by TCP."""
    (tmp_path / "hosts").write_text("2001:db8::9 both.test\n192.0.2.1 both.test\n")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    (tmp_path / "code.py").write_text(_LOOK_UP)
    mounts = "; ".join(
        f"mount --bind {tmp_path}/{name} /etc/{name}"
        for name in ("hosts", "resolv.conf", "nsswitch.conf")
        if Path("/etc", name).exists()
    )
    with namespace(
        "link add silent type veth peer name nobody",
        "link set nobody up",
        "link set silent up",
        "addr add 192.0.2.1/24 dev silent",
        "addr add 2001:db8::1/64 dev silent nodad",
        "neigh add 2001:db8::9 lladdr 02:00:00:00:00:09 dev silent",
    ) as inside:
        command = f"{mounts}; exec {sys.executable} {tmp_path}/code.py"
        done = subprocess.run(
            [*inside, "sh", "-c", command],
            check=False,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert all(reached for reached, _ in said.values()), said
    assert len(said) == 5
    assert said["/dns/both.test/tcp/4001"][1] >= 0.25  # IPv6 was tried, and nobody waited for its end
    assert said["/dns/both.test/tcp/4001"][1] < 5
