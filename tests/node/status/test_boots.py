"""Machines that booted lately: who counts, when it is done, and what a stranger can do about it."""

from __future__ import annotations

import pytest

from p2pboot.node.status.boots import BOOT_S, LATELY_S, MAX_BOOTS, Boots
from p2pboot.node.status.known import Release

SIZES = {"kernel": 100, "initramfs": 200, "rootfs": 1000, "firmware": 10}
FIRST = Release("d1", "stable", "x86_64", "1.0", SIZES)
SECOND = Release("d2", "stable", "x86_64", "2.0", SIZES)
UNIFIED = Release("d3", "edge", "x86_64", "3.0", {"uki": 50, "rootfs": 1000})
NAMED = {
    **{key: [(FIRST, key)] for key in SIZES},
    "uki": [(UNIFIED, "uki")],
    "kernel of both": [(SECOND, "kernel"), (FIRST, "kernel")],
    "rootfs 2": [(SECOND, "rootfs")],
}


class World:
    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.boots = Boots(lambda sha256: NAMED.get(sha256, ()), lambda: self.now)

    def http(self, address: str, *taken: str, size: int | None = None) -> None:
        for one in taken:
            whole = NAMED[one][0][0].sizes[NAMED[one][0][1]] if one in NAMED else 1
            self.boots.took_http(address, one, whole if size is None else size)

    @property
    def addresses(self) -> list[str]:
        return [boot.address for boot in self.boots.lately()]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("taken", "done"),
    [
        (["kernel"], False),
        (["kernel", "initramfs"], True),
        (["rootfs"], False),
        (["uki"], True),
        (["rootfs", "kernel", "firmware"], False),
        (["rootfs", "firmware", "kernel", "initramfs"], True),
    ],
)
def test_it_is_done_with_what_a_machine_boots_from(world: World, taken: list[str], done: bool) -> None:
    world.http("192.0.2.1", *taken)
    (boot,) = world.boots.lately()
    assert boot.done is done
    assert boot.sent_bytes == sum(NAMED[one][0][0].sizes[one] for one in taken)
    assert (boot.via, boot.peer_id) == ("http", None)


def test_what_is_told_of_one(world: World) -> None:
    world.http("192.0.2.1", "kernel", size=60)
    world.now += 5
    world.http("192.0.2.1", "kernel", size=30)
    (boot,) = world.boots.lately()
    assert (boot.channel, boot.arch, boot.version) == ("stable", "x86_64", "1.0")
    assert (boot.began_at, boot.last_at, boot.sent_bytes) == (1_000_000, 1_000_005, 90)
    assert not boot.done


@pytest.mark.parametrize("taken", ["firmware", "what nobody knows"])
def test_who_takes_something_else_does_not_boot(world: World, taken: str) -> None:
    world.http("192.0.2.1", taken)
    assert world.boots.lately() == []


def test_nothing_taken_is_no_boot(world: World) -> None:
    world.http("192.0.2.1", "kernel", size=0)
    assert world.boots.lately() == []


def test_content_of_two_releases_is_of_the_one_that_is_being_taken(world: World) -> None:
    world.http("192.0.2.1", "kernel of both", "rootfs 2")
    world.http("192.0.2.2", "rootfs", "kernel of both")
    assert [(boot.address, boot.version) for boot in world.boots.lately()] == [
        ("192.0.2.2", "1.0"),
        ("192.0.2.1", "2.0"),
    ]


def test_who_comes_back_later_boots_again(world: World) -> None:
    world.http("192.0.2.1", "kernel")
    world.now += BOOT_S
    world.http("192.0.2.1", "kernel")
    assert len(world.boots.lately()) == 2


def test_the_latest_is_the_first_and_a_day_later_it_is_not_lately(world: World) -> None:
    world.http("192.0.2.1", "kernel")
    world.now += LATELY_S - BOOT_S
    world.http("192.0.2.2", "kernel")
    assert world.addresses == ["192.0.2.2", "192.0.2.1"]
    world.now += BOOT_S + 1
    assert world.addresses == ["192.0.2.2"]


def test_the_oldest_goes_where_all_have_the_same(world: World) -> None:
    for number in range(MAX_BOOTS + 6):
        world.http(f"192.0.2.{number}", "kernel")
    assert len(world.addresses) == MAX_BOOTS
    assert world.addresses[-1] == "192.0.2.6"


def test_a_stranger_with_a_thousand_keys_pushes_out_himself(world: World) -> None:
    honest = [f"192.0.2.{number}" for number in range(MAX_BOOTS // 2)]
    for address in honest:
        world.http(address, "kernel")
    for number in range(1000):
        world.boots.took_p2p(f"12D3Koo{number}", "/ip6/2001:db8::7/tcp/1", "kernel", 100)
        world.boots.took_p2p(f"12D3Kxx{number}", f"/ip6/2001:db8::{number:x}/tcp/1", "kernel", 100)
    assert set(honest) <= set(world.addresses)
    world.http("192.0.2.200", "kernel")
    assert world.addresses[0] == "192.0.2.200"
    assert set(honest) <= set(world.addresses)


def test_a_peer_is_told_by_its_id_and_the_address_that_it_is_connected_from(world: World) -> None:
    world.boots.took_p2p("12D3KooA", "/ip4/192.0.2.5/tcp/50000/p2p/12D3KooA", "uki", 50)
    (boot,) = world.boots.lately()
    assert (boot.address, boot.peer_id, boot.via, boot.done) == ("192.0.2.5", "12D3KooA", "p2p", True)


def test_a_peer_that_took_the_rest_elsewhere_is_done_when_it_says_so(world: World) -> None:
    peer = "12D3KooA", "/ip4/192.0.2.5/tcp/50000"
    world.boots.has_p2p(*peer, "kernel")
    assert world.boots.lately() == []
    world.boots.took_p2p(*peer, "kernel", 30)
    for artifact, done in (("kernel", False), ("initramfs", True)):
        world.boots.has_p2p(*peer, artifact)
        assert [(boot.done, boot.sent_bytes) for boot in world.boots.lately()] == [(done, 30)]
    world.boots.has_p2p("12D3KooB", peer[1], "kernel")
    assert len(world.boots.lately()) == 1


def test_peers_that_turn_out_to_be_nodes_are_forgotten(world: World) -> None:
    world.boots.took_p2p("node", "/ip4/192.0.2.5/tcp/1", "uki", 50)
    world.boots.took_p2p("client", "/ip4/192.0.2.6/tcp/1", "uki", 50)
    assert world.boots.peers == {"node", "client"}
    world.boots.forget(["node"])
    assert world.addresses == ["192.0.2.6"]
