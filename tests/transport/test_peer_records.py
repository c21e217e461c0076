"""Signed peer records: where a peer says that it can be found, told on by others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.identity import SecretKey
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import PeerRecord
from p2pboot.transport.light import open_light
from p2pboot.transport.multiaddrs import decode_multiaddr, encode_multiaddr
from p2pboot.transport.records import MAX_ADDRESSES, MAX_RECORD_BYTES, read_record, sign_record
from tests.transport.conftest import Lab, until

from libp2p.crypto.ed25519 import create_new_key_pair  # isort: skip  # after the stand-in for its dependency
from libp2p.crypto.rsa import create_new_key_pair as create_rsa  # isort: skip
from libp2p.peer.envelope import consume_envelope, seal_record  # isort: skip
from libp2p.peer.id import ID  # isort: skip
from libp2p.peer.peer_record import PeerRecord as Libp2pRecord  # isort: skip
from multiaddr import Multiaddr  # isort: skip

KEY = create_new_key_pair(b"\x01" * 32)
OTHER = create_new_key_pair(b"\x02" * 32)
PEER = SecretKey(b"\x01" * 32).public.peer_id
ADDRESS = "/ip4/192.0.2.1/tcp/4001"


def record(*addresses: str, about: ID | None = None, key: object = KEY) -> bytes:
    peer_id = about or ID.from_pubkey(KEY.public_key)
    sealed = seal_record(Libp2pRecord(peer_id, [Multiaddr(one) for one in addresses], 1), key.private_key)  # type: ignore[attr-defined]
    return sealed.marshal_envelope()


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([ADDRESS], [f"{ADDRESS}/p2p/{PEER}"]),
        ([f"{ADDRESS}/p2p/{PEER}"], [f"{ADDRESS}/p2p/{PEER}"]),
        ([ADDRESS, ADDRESS], [f"{ADDRESS}/p2p/{PEER}"]),
        ([f"{ADDRESS}/p2p/{ID.from_pubkey(OTHER.public_key)}"], []),
        (["/ip4/0.0.0.0/tcp/1", "/ip4/224.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/0", "/ip4/1.1.1.1/udp/1"], []),
        ([], []),
    ],
)
def test_a_record_gives_what_can_be_dialled(addresses: Sequence[str], expected: Sequence[str]) -> None:
    assert read_record(record(*addresses)) == PeerRecord(PEER, tuple(expected))


def test_the_number_of_addresses_is_bounded() -> None:
    read = read_record(record(*(f"/ip4/192.0.2.{number}/tcp/1" for number in range(1, 100))))
    assert read is not None
    assert len(read.addresses) == MAX_ADDRESSES


def test_what_somebody_else_signed_is_no_record() -> None:
    assert read_record(record(ADDRESS, key=OTHER)) is None
    assert read_record(record(ADDRESS, about=ID.from_pubkey(OTHER.public_key))) is None


def test_only_ed25519_keys_are_worth_a_check() -> None:
    rsa = create_rsa(bits=2048)
    assert read_record(record(ADDRESS, about=ID.from_pubkey(rsa.public_key), key=rsa)) is None


def test_rubbish_is_no_record() -> None:
    good = record(ADDRESS)
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= 0x55
        assert read_record(bytes(changed)) in (None, read_record(good))
        assert read_record(good[:position]) is None
    assert read_record(bytes(MAX_RECORD_BYTES + 1)) is None
    large = record(*(f"/dns4/{'x' * 50}.example/tcp/{number}" for number in range(1, 80)))
    assert len(large) > MAX_RECORD_BYTES
    assert read_record(large) is None


@pytest.mark.parametrize(
    "address",
    [
        ADDRESS,
        "/ip6/2001:db8::1/tcp/1",
        "/dns/a.example/tcp/65535",
        "/dns4/b/tcp/2",
        f"/dns6/c/tcp/3/p2p/{PEER}",
    ],
)
def test_what_we_sign_the_library_reads(address: str) -> None:
    sealed = sign_record(SecretKey(b"\x01" * 32), [parse_address(address)], 7)
    _, theirs = consume_envelope(sealed, "libp2p-peer-record")
    assert (str(theirs.peer_id), theirs.seq) == (PEER, 7)
    assert [str(one) for one in theirs.addrs] == [address]
    assert sealed == seal_record(theirs, KEY.private_key).marshal_envelope()
    named = str(parse_address(address).with_peer(PEER))
    assert read_record(sealed) == PeerRecord(PEER, (named,))


def test_an_address_over_anything_else_is_none() -> None:
    for text in (
        "/ip4/1.1.1.1/udp/1/quic-v1",
        "/ip4/1.1.1.1/tcp/1/ws",
        "/dns/x/tcp/1/tls/ws",
        "/ip4/1.1.1.1",
    ):
        assert decode_multiaddr(Multiaddr(text).to_bytes()) is None
    good = Multiaddr(f"{ADDRESS}/p2p/{PEER}").to_bytes()
    assert decode_multiaddr(good) == parse_address(f"{ADDRESS}/p2p/{PEER}")
    assert [decode_multiaddr(good[:end]) for end in range(8)] == [None] * 8


async def test_a_third_node_can_read_where_a_peer_of_its_peer_is(gossip_lab: Lab) -> None:
    """The reader knows the peer from nothing but the record."""
    lab = gossip_lab
    a, b = await lab.pair()
    c = await lab.node()
    while not b.peer_records():  # noqa: ASYNC110 - the transport gives no event for it
        await trio.sleep(0.01)
    (told,) = b.peer_records()
    assert c.read_peer_record(told) == PeerRecord(a.peer_id, a.addresses())
    assert c.read_peer_record(b"nonsense") is None or lab.kind == "memory"
    assert (await c.dial(a.addresses()[0])).peer_id == a.peer_id


@pytest.mark.parametrize("kind", ["memory", "libp2p"])
async def test_a_client_is_not_told_of_because_it_said_who_it_is(kind: str) -> None:
    async with trio.open_nursery() as nursery:
        lab = Lab(kind, nursery)
        node, other = await lab.pair()
        key = lab.new_key()
        client = await lab.hold(
            lab.network.open(key.public.peer_id, is_client=True)
            if kind == "memory"
            else open_light(key, ["/ip4/127.0.0.1/tcp/0"])
        )
        await client.dial(node.addresses()[0])
        await until(
            lambda: node.peer_addresses(client.peer_id) and node.peer_records() and client.peer_records()
        )
        (told,) = map(node.read_peer_record, node.peer_records())
        assert told is not None
        assert told.peer_id == other.peer_id
        assert node.is_node(other.peer_id)
        assert not node.is_node(client.peer_id)
        nursery.cancel_scope.cancel()


@given(
    at=st.integers(0, 200),
    cut=st.integers(0, 20),
    put=st.binary(max_size=20),
    junk=st.binary(max_size=100),
)
def test_whatever_a_stranger_sends_is_a_record_or_none(at: int, cut: int, put: bytes, junk: bytes) -> None:
    good = sign_record(
        SecretKey(b"\x01" * 32), [parse_address(ADDRESS), parse_address("/dns4/a.example/tcp/1")], 1
    )
    for raw in (junk, good[:at] + put + good[at + cut :], good + junk):
        found = read_record(raw)
        assert found is None or found.peer_id == PEER
    for raw in (junk, put):
        address = decode_multiaddr(raw)
        assert address is None or decode_multiaddr(encode_multiaddr(address)) == address
