"""Kademlia with go-libp2p's and js-libp2p's: each finds what the other puts, and a stranger's write shadows nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from p2pboot.core.digests import sha256_cid
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.client import DhtClient
from p2pboot.dht.keys import content_key
from p2pboot.dht.member import DhtMember
from p2pboot.dht.table import Contact
from p2pboot.testing.manifests import key_of
from p2pboot.transport.libp2p import open_libp2p
from p2pboot.transport.light import open_light
from tests.dht.world import KEY, RIGHT
from tests.interop.peers import Peer, peer

pytestmark = pytest.mark.interop

OURS, THEIRS = "ab" * 32, "cd" * 32
THEIR_KEY, THEIR_VALUE = "/phase/theirs/arm64/manifest", "http://192.0.2.9/theirs"


async def told(other: Peer, **what: object) -> object:
    """Have it do something; returns what it found."""
    other.tell(**what)
    said = await other.heard(done=what["op"])
    assert "error" not in said, said
    return said["found"]


@pytest.mark.parametrize("language", ["go", "js"])
async def test_each_finds_what_the_other_puts(tmp_path: Path, language: str) -> None:
    with peer(language, "kad", log=tmp_path / "log") as other:
        other_id = (await other.heard(id=...))["id"]
        async with open_libp2p(key_of("member"), ["/ip4/127.0.0.1/tcp/0"]) as transport:
            member = DhtMember(transport, AddressPolicy(), serves=True)
            member.say({KEY: RIGHT}, [content_key(OURS)])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(member.run)
                await told(other, op="dial", address=transport.addresses()[0])
                assert await told(other, op="get", key=KEY.decode()) == RIGHT.decode()
                assert await told(other, op="find", cid=sha256_cid(OURS)) == [transport.peer_id]
                await told(other, op="put", key=THEIR_KEY, value=THEIR_VALUE)
                await told(other, op="provide", cid=sha256_cid(THEIRS))
                async with open_light(key_of("client")) as asking:
                    client, values, providers = (
                        DhtClient(asking, AddressPolicy()),
                        list[bytes](),
                        list[Contact](),
                    )
                    await asking.dial(transport.addresses()[0])
                    while not values:  # a peer that is held up for seconds counts as away
                        await client.find_values(THEIR_KEY.encode(), values.append)
                    assert values == [THEIR_VALUE.encode()]
                    while not providers:
                        await client.find_providers(content_key(THEIRS), providers.append)
                    assert {one.peer_id for one in providers} == {other_id}
                    assert {one.peer_id for one in asking.connections()} == {transport.peer_id, other_id}
                    await told(other, op="put", key=KEY.decode(), value="http://wrong/")
                    values.clear()
                    await client.find_values(KEY, values.append)
                    assert set(values) == {RIGHT, b"http://wrong/"}
                nursery.cancel_scope.cancel()
