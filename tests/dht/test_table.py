"""The routing table, and distances."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given
from hypothesis import strategies as st

from p2pboot.dht import keys
from p2pboot.dht.table import Contact, K, RoutingTable, nearest
from p2pboot.testing.manifests import key_of

PEERS = [key_of(f"peer {number}").public.peer_id for number in range(400)]
OWN = key_of("own").public.peer_id


def contact(number: int, host: str = "") -> Contact:
    return Contact(PEERS[number], (f"/ip4/{host or f'10.0.{number // 250}.{number % 250 + 1}'}/tcp/4001",))


def in_one_bucket(count: int) -> list[int]:
    """Peers of the half that is far from the own one."""
    far = [n for n in range(len(PEERS)) if _distance(n) >> (keys.BITS - 1)]
    return far[:count]


def _distance(number: int) -> int:
    return keys.position_of_peer(PEERS[number]) ^ keys.position_of_peer(OWN)


def test_distances_are_those_of_the_specification() -> None:
    digest = hashlib.sha256(b"/phase/stable/arm64/manifest").digest()
    assert keys.position(b"/phase/stable/arm64/manifest") == int.from_bytes(digest, "big")
    assert keys.manifest_key("stable", "arm64") == b"/phase/stable/arm64/manifest"
    assert keys.pair_key("stable", "arm64") == b"\x12\x20" + digest
    assert keys.content_key("ab" * 32) == b"\x12\x20" + b"\xab" * 32


def test_both_names_of_the_arm_architecture_are_keys() -> None:
    assert keys.names_of("arm64") == ("arm64", "aarch64")
    assert keys.names_of("x86_64") == ("x86_64",)


@given(st.sets(st.integers(0, 399), min_size=1, max_size=200), st.binary(min_size=1, max_size=40))
def test_the_nearest_of_all_that_are_there_are_found(numbers: set[int], key: bytes) -> None:
    table = RoutingTable(OWN)
    there = [contact(number) for number in sorted(numbers) if table.add(contact(number))]
    where = keys.position(key)
    assert len(table) == len(there)
    expected = sorted(there, key=lambda one: keys.position_of_peer(one.peer_id) ^ where)[:K]
    assert table.nearest(where) == expected
    assert nearest(there, where) == expected


def test_who_was_there_first_stays() -> None:
    table = RoutingTable(OWN)
    numbers = in_one_bucket(K + 5)
    taken = [table.add(contact(number)) for number in numbers]
    assert taken == [True] * K + [False] * 5
    table.remove(PEERS[numbers[0]])
    assert PEERS[numbers[0]] not in table
    assert table.add(contact(numbers[-1]))


def test_one_origin_does_not_fill_a_bucket_for_others() -> None:
    table = RoutingTable(OWN)
    numbers = in_one_bucket(K + 3)
    assert all(table.add(contact(number, "10.9.9.9")) for number in numbers[:K])
    assert not table.add(contact(numbers[K], "10.9.9.9"))
    assert table.add(contact(numbers[K + 1], "10.1.1.1"))
    assert PEERS[numbers[0]] in table
    assert PEERS[numbers[K - 1]] not in table  # its last one has gone
    assert len(table) == K


def test_where_a_peer_is_can_change() -> None:
    table = RoutingTable(OWN)
    table.add(contact(1))
    table.add(contact(1, "10.200.0.1"))
    assert table.nearest(0) == [contact(1, "10.200.0.1")]
    assert not table.add(Contact(OWN, ("/ip4/10.0.0.1/tcp/1",)))


def test_removing_a_stranger_changes_nothing() -> None:
    table = RoutingTable(OWN)
    for number in random.Random(1).sample(range(400), 5):
        table.remove(PEERS[number])
    assert len(table) == 0
