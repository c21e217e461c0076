"""Part three of `docs/protocol-wire.md`: its bytes and limits are the code's, and its vectors those of the file.

The file was put together a second time, without the code (`tests.vectors.wire.discovery`).
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import trio
from dns.zone import from_text

from p2pboot.core.identity import SecretKey
from p2pboot.core.swarmkey import parse_swarm_key
from p2pboot.dht import addresses, answers, member, records, server, table
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.answers import Answerer
from p2pboot.dht.server import DhtServer
from p2pboot.dht.table import Contact, RoutingTable
from p2pboot.transport import names, racing
from p2pboot.transport.addresses import Address, parse_address
from p2pboot.transport.limits import HANDSHAKE_S
from p2pboot.transport.mdns import links, sockets, sources
from p2pboot.transport.mdns import records as mdns
from p2pboot.transport.multiaddrs import decode_multiaddr, encode_multiaddr
from p2pboot.wire import dns, kad, private
from p2pboot.wire.connection import Keys
from p2pboot.wire.private import PrivateConnection
from tests.protocol.dumps import PAGE, check_text_or_length, read_dump, read_values
from tests.protocol.streams import stream_pair
from tests.transport.resolvers import FakeResolver
from tests.vectors.wire import discovery

VECTORS: dict[str, Any] = json.loads(discovery.VECTORS.read_text())
ASKED, ASKER, THIRD = (SecretKey(bytes([number]) * 32).public.peer_id for number in (1, 2, 3))


def test_vectors_are_those_that_are_made() -> None:
    assert discovery.vectors() == VECTORS


def test_mdns_vector() -> None:
    stated = read_dump("vector: mdns", check_text_or_length)
    assert [stated.client.hex(), stated.server.hex()] == list(VECTORS["mdns"].values())
    told = [parse_address(f"{address}/p2p/{ASKED}") for address in discovery.ADDRESSES]
    assert stated.client == mdns.QUESTION
    assert stated.server == mdns.announcement(discovery.NAME, told)
    assert mdns.told(dns.read_message(stated.server)) == told


class Own:
    """What the node that is asked says itself."""

    contact = Contact(ASKED, ("/ip4/10.0.0.7/tcp/4001",))

    def value(self, key: bytes) -> bytes | None:
        url = b"http://10.0.0.7:8080/phase/stable/arm64/manifest.json"
        return url if key == b"/phase/stable/arm64/manifest" else None

    def provides(self, _key: bytes) -> bool:
        return False


@pytest.mark.parametrize(
    ("name", "exchanges"),
    [
        ("find-node", ["find_node"]),
        ("values", ["put_value", "get_value"]),
        ("providers", ["add_provider", "get_providers"]),
    ],
)
async def test_hash_table_exchange_is_as_documented(name: str, exchanges: list[str]) -> None:
    stated = read_dump(f"kad: {name}", check_text_or_length)
    vectors = [VECTORS["kad"][one] for one in exchanges]
    assert stated.client.hex() == "".join(one["request"] for one in vectors)
    assert stated.server.hex() == "".join(one["reply"] for one in vectors)
    known, policy = RoutingTable(ASKED), AddressPolicy()
    known.add(Contact(THIRD, ("/ip4/10.0.0.9/tcp/4001",)))
    near, far = stream_pair(left=ASKER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(DhtServer(Answerer(Own(), known, policy), policy).handle, far)
        await near.write(stated.client)
        said = b""
        while len(said) < len(stated.server):
            said += await near.read(4096)
        await near.close_write()
    assert said == stated.server


def test_multiaddr_vector() -> None:
    stated = read_values("multiaddr", 16)
    assert stated == VECTORS["multiaddr"]
    address, raw = parse_address(stated["text"]), bytes.fromhex(stated["binary"])
    assert encode_multiaddr(address) == raw
    assert decode_multiaddr(raw) == address


@pytest.mark.parametrize(("kind", "code"), [("dns", "35"), ("dns4", "36"), ("dns6", "37")])
def test_names_are_encoded_as_documented(kind: str, code: str) -> None:
    assert "`35`, `36`, `37`, the name's length as a varint, the name" in PAGE
    raw = bytes.fromhex(code) + b"\x0cboot.example" + bytes.fromhex("060fa1")
    assert encode_multiaddr(Address(kind, "boot.example", 4001)) == raw


def test_private_mesh_vector() -> None:
    stated = read_values("psk", 16)
    assert stated == {name: value for name, value in VECTORS["psk"].items() if name != "file"}
    key = parse_swarm_key(VECTORS["psk"]["file"].encode(), source="the vector")
    assert key.raw == bytes(range(32))
    assert key.fingerprint == stated["fingerprint"]
    dialler, listener = (
        PrivateConnection(
            key,
            bytes.fromhex(stated[f"{side} nonce"]),
            initiator=side == "dialler",
            keys=Keys(SecretKey(b"k" * 32), b"s" * 32, bytes.fromhex(stated["ephemeral"])),
        )
        for side in ("dialler", "listener")
    )
    sent = bytes(dialler.data_to_send(1000))
    assert sent.hex() == stated["dialler nonce"] + stated["dialler sends"]
    assert bytes(listener.data_to_send(1000)).hex() == stated["listener nonce"]
    listener.receive(sent)
    assert bytes(listener.data_to_send(1000)).hex().startswith(stated["listener sends"])


def per_s(rate: float, at_once: float) -> str:
    return f"{rate:.0f} a second ({at_once:.0f} at once)"


@pytest.mark.parametrize(
    "row",
    [
        f"| datagram that is read | {sockets.MAX_PACKET:,} bytes |",
        f"| questions, records read of one | {dns.MAX_QUESTIONS}, {dns.MAX_RECORDS} |",
        f"| strings looked at, addresses taken of one | {mdns._MAX_READ}, {mdns.MAX_TAKEN} |",
        "| packets of one IP address, of all |"
        f" {per_s(sources.PACKETS_PER_S, sources.PACKETS_AT_ONCE)},"
        f" {per_s(sources.ALL_PER_S, sources.ALL_AT_ONCE)} |",
        f"| addresses of one IP address that are handed on | {sources.ADDRESSES} a minute |",
        f"| an address that is told again | is dialled again after {sources.REPEAT_S:.0f} seconds",
        f"| a message | {kad.MAX_FRAME:,} bytes, {kad._MAX_FIELDS:,} fields with all",
        f"| a key, a value | 1 to {kad.MAX_KEY}, 1 to {kad.MAX_VALUE:,} bytes |",
        f"of a message | {kad.MAX_CLOSER}, {kad.MAX_PROVIDERS}, {kad.MAX_FURTHER} are looked at;",
        f"| addresses of one peer | {kad.MAX_ADDRESSES} are looked at, {addresses.MAX_ADDRESSES} kept and told |",
        f"that a node keeps | {records.VALUES:,}, {records.PROVIDERS:,};",
        f"a quarter at most, and {records.PER_KEY} under one key |",
        f"| values in one reply | {answers.OF_VALUES:,} bytes;",
        f"on its stream | {server.READ_S:.0f} seconds |",
        f"| streams for all | {server.STREAMS};",
        f"at {1000 * server.REQUEST_S:g} ms for a request and {1024e3 * server.BYTE_S:.1f} ms for a KiB of it and"
        f" of the reply: {server.SHARE / server.REQUEST_S:.0f} short ones a second",
        f"asks the {table.K} nearest peers",
        f"its values bear a `ttl` of {member.TTL_S:,}",
        f"at most {names.DEPTH} levels, {names.LOOKUPS} names, {names.RESULTS} addresses and {names.LOOKUP_S:.0f} s",
        f"the next one {1000 * racing.ATTEMPT_DELAY_S:.0f} ms after the one before",
        f"each for at most {racing.ATTEMPT_S:.0f} s",
        f"at most {names._TEXT_CHARS} characters",
        f"of which at most {names.HOSTS} are tried",
        f"(the latest {private.MAX_NOTED:,})",
        f"**{private.NONCE_BYTES} random bytes**",
    ],
)
def test_numbers_are_those_of_the_code(row: str) -> None:
    part = PAGE[PAGE.index("# Part three") :]
    assert re.sub(r"\s+", " ", row).lower() in re.sub(r"\s+", " ", part).lower()


def test_other_numbers_are_those_in_words() -> None:
    assert (links.MAX_TOLD, sources.ADDRESSES_S, member.FRESH_S, HANDSHAKE_S) == (8, 60, 600, 10)


def test_every_block_is_checked() -> None:
    assert re.findall(r"<!-- (\w+: [\w-]+) -->", PAGE[PAGE.index("# Part three") :]) == [
        "vector: mdns",
        "kad: find-node",
        "kad: values",
        "kad: providers",
        "vector: multiaddr",
        "vector: psk",
    ]


async def test_the_zone_in_the_operators_page_leads_to_its_peers() -> None:
    page = (discovery.VECTORS.parents[3] / "docs" / "discovery.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(_dnsaddr\.\S+\..*)$", page, re.MULTILINE)
    zone = from_text("\n".join(lines), origin="example.net.", relativize=False, check_origin=False)
    texts = {
        name.to_text(omit_final_dot=True): [b"".join(one.strings).decode() for one in rdataset]
        for name, rdataset in zone.iterate_rdatasets("TXT")
    }
    found = await names.resolve_dnsaddr(parse_address("/dnsaddr/boot.example.net"), FakeResolver(texts=texts))
    assert sorted(map(str, found)) == [
        f"/ip4/192.0.2.1/tcp/4001/p2p/{ASKED}",
        f"/ip6/2001:db8::1/tcp/4001/p2p/{ASKED}",
    ]
