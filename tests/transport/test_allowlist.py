"""Whom an operator lets in by peer id: others are sent away with a reason, or, in a private mesh, only served."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from p2pboot.config.load import Overrides, load
from p2pboot.core.identity import SecretKey
from p2pboot.core.swarmkey import SwarmKey
from p2pboot.transport.allowlist import EVERYBODY, AllowList
from p2pboot.transport.interface import DialError, Forwarding, Gossip, NotAllowed
from p2pboot.transport.libp2p import open_libp2p
from p2pboot.transport.light import open_light
from tests.transport.conftest import ECHO, TOPIC, Lab, echo, read_all, wait_connected

NODE, LISTED, OTHER = (SecretKey(letter * 32) for letter in (b"n", b"l", b"o"))
MESH = SwarmKey(b"k" * 32)
LISTEN = ["/ip4/127.0.0.1/tcp/0"]


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with trio.open_nursery() as nursery:
        yield Lab("allow-list", nursery)
        nursery.cancel_scope.cancel()


async def node(lab: Lab, key: SecretKey, *allowed: SecretKey, mesh: SwarmKey | None = None) -> Gossip:
    those = AllowList(frozenset(one.public.peer_id for one in allowed), has_guests=mesh is not None)
    opened = await lab.hold(open_libp2p(key, LISTEN, swarm_key=mesh, allowed=those if allowed else EVERYBODY))
    opened.handle(ECHO, echo)
    return opened


def test_an_empty_list_is_everybody_and_guests_are_admitted_and_not_heeded() -> None:
    one, other = LISTED.public.peer_id, OTHER.public.peer_id
    assert EVERYBODY.admits(other)
    assert EVERYBODY.heeds(other)
    listed = AllowList(frozenset({one}))
    assert (listed.admits(one), listed.heeds(one), listed.admits(other), listed.heeds(other)) == (
        *(True, True),
        *(False, False),
    )
    with_guests = AllowList(frozenset({one}), has_guests=True)
    assert (with_guests.admits(other), with_guests.heeds(other)) == (True, False)


def test_who_is_named_by_a_bootstrap_address_is_on_the_list(tmp_path: Path) -> None:
    one, other = LISTED.public, OTHER.public
    bootstrap = (f"/ip4/192.0.2.1/tcp/4001/p2p/{other.peer_id}", "/ip4/192.0.2.2/tcp/4001")
    path = tmp_path / "c.toml"
    path.write_text(f'[network]\nallow_peers = ["{one.keyid}"]\n')
    settings = load(Overrides({"network.bootstrap": bootstrap}), path).settings
    assert settings.network.allowed == AllowList(frozenset({one.peer_id, other.peer_id}))
    assert load(Overrides({"network.bootstrap": bootstrap})).settings.network.allowed is EVERYBODY
    private = load(Overrides({"network.swarm_key": "swarm.key"}), path).settings
    assert private.network.allowed == AllowList(frozenset({one.peer_id}), has_guests=True)


async def test_who_is_listed_is_let_in_and_others_are_told_why_not(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "p2pboot")
    ours = await node(lab, NODE, LISTED)
    address = ours.addresses()[0]
    async with open_light(LISTED) as client:
        stream = await client.open_stream(await client.dial(address), ECHO)
        await stream.write(b"hello")
        await stream.close_write()
        assert await read_all(stream) == b"hello"
    async with open_light(OTHER) as client:
        with pytest.raises(NotAllowed, match="its operator has named") as caught:
            await (await client.open_stream(await client.dial(address), ECHO)).read(1)
        assert "--key FILE" in caught.value.message
        assert "--allow-peer" in (caught.value.remedy or "")
        assert OTHER.public.peer_id not in ours.peers()
    assert f"kept out {OTHER.public.peer_id}, who came from 127.0.0.1:" in caplog.text
    assert f"ended: {caught.value.message}" in caplog.text
    assert f"kept out {LISTED.public.peer_id}" not in caplog.text


async def test_nobody_else_is_dialled_either(lab: Lab) -> None:
    ours, other = await node(lab, NODE, LISTED), await node(lab, OTHER)
    with pytest.raises(DialError, match="not among the peers that are allowed"):
        await ours.dial(other.addresses()[0])
    await wait_connected(other, ours.peer_id, connected=False)
    assert not ours.peers()


async def test_in_a_private_mesh_a_guest_is_served_and_its_gossip_is_not_heard(lab: Lab) -> None:
    ours = await node(lab, NODE, LISTED, mesh=MESH)
    listed, guest = await node(lab, LISTED, mesh=MESH), await node(lab, OTHER, mesh=MESH)
    heard: list[bytes] = []

    async def note(_peer: str, payload: bytes) -> Forwarding:
        heard.append(payload)
        return Forwarding.ACCEPT

    for one in (ours, listed, guest):
        await one.subscribe(TOPIC, note if one is ours else _accept)
    for one in (guest, listed):
        await one.dial(ours.addresses()[0])
        await wait_connected(ours, one.peer_id)
    (connection,) = guest.connections()
    stream = await guest.open_stream(connection, ECHO)
    await stream.write(b"served")
    assert await stream.read(10) == b"served"
    number = 0
    while len(heard) < 3:  # what is said before they know of each other reaches nobody
        number += 1
        for one, name in ((guest, "guest"), (listed, "listed")):
            await one.publish(TOPIC, f"{name} {number}".encode())
        await trio.sleep(0.05)
    assert not [said for said in heard if said.startswith(b"guest")]


async def _accept(_peer: str, _payload: bytes) -> Forwarding:
    return Forwarding.ACCEPT
