"""Who is told of whom: for a minute, for one manifest, by origin, and nobody's private address to the world."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

import pytest
import trio

from p2pboot.protocol.messages import MAX_PEERS, TOLD_S, PeersRequest
from p2pboot.serving.referrals import _CHECK_EVERY_S, Referrals
from p2pboot.testing.manifests import key_of
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Connection, PeerRecord
from p2pboot.transport.records import read_record, sign_record

ONE, OTHER = "01" * 32, "02" * 32


class Office:
    """A register, with those who speak with it."""

    def __init__(self, nodes: Sequence[bytes] = (), **options: bool) -> None:
        self.checks = 0
        self.sites: list[tuple[str, str]] = []
        self.referrals = Referrals(self._read, lambda: nodes, self._note_site, **options)

    def _read(self, record: bytes) -> PeerRecord | None:
        self.checks += 1
        return read_record(record)

    def _note_site(self, connection: Connection, site: str) -> None:
        self.sites.append((connection.peer_id, site))

    def ask(
        self,
        name: str,
        host: str,
        digest: str | None = ONE,
        record: bytes | None = None,
        site: str | None = None,
    ) -> set[bytes]:
        text = None if record is None else b64encode(record).decode()
        told = self.referrals.answer(
            connection_of(name, host), PeersRequest(digest=digest, record=text, site=site)
        )
        assert len(told) == len(set(told)) <= MAX_PEERS
        return set(told)

    def join(self, name: str, host: str, site: str | None = None) -> bytes:
        """Have somebody be told of, where it is connected from; returns its record."""
        record = record_of(name, host)
        self.ask(name, host, record=record, site=site)
        return record


def connection_of(name: str, host: str) -> Connection:
    peer_id = key_of(name).public.peer_id
    kind = "ip6" if ":" in host else "ip4"
    return Connection(peer_id, f"/{kind}/{host}/tcp/50000/p2p/{peer_id}", 0)


def record_of(name: str, *hosts: str, sequence: int = 1) -> bytes:
    addresses = [parse_address(f"/{_kind(host)}/{host}/tcp/4001") for host in hosts]
    return sign_record(key_of(name), addresses, sequence)


def _kind(host: str) -> str:
    return "ip6" if ":" in host else "ip4" if host[0].isdigit() else "dns4"


async def test_a_record_is_told_for_a_minute_to_who_is_there_for_the_same_manifest(
    autojump_clock: None,
) -> None:
    office = Office()
    one, other = record_of("one", "10.0.0.1"), record_of("other", "10.0.0.2")
    assert office.ask("one", "10.0.0.1", record=one) == set()
    assert office.ask("other", "10.0.0.2", record=other) == {one}
    assert office.ask("one", "10.0.0.1") == {other}
    assert office.ask("stranger", "10.0.0.3", None) == set()
    assert office.ask("stranger", "10.0.0.3", OTHER) == set()
    await trio.sleep(TOLD_S - 1)
    assert office.ask("one", "10.0.0.1", record=one) == {other}
    await trio.sleep(1)
    assert office.ask("third", "10.0.0.3") == {one}
    await trio.sleep(TOLD_S)
    assert office.ask("third", "10.0.0.3") == set()


async def test_who_asked_for_the_manifest_need_not_name_it(autojump_clock: None) -> None:
    office = Office()
    one, other = record_of("one", "10.0.0.1"), record_of("other", "10.0.0.2")
    office.referrals.note_manifest(connection_of("one", "10.0.0.1"), ONE)
    assert office.ask("one", "10.0.0.1", None, one) == set()
    assert office.ask("other", "10.0.0.2", ONE, other) == {one}
    assert office.ask("one", "10.0.0.1", None) == {other}
    assert office.ask("one", "10.0.0.1", OTHER) == set()


async def test_nobody_is_told_whose_record_was_not_sent(autojump_clock: None) -> None:
    office = Office()
    office.ask("one", "10.0.0.1")
    office.referrals.note_manifest(connection_of("one", "10.0.0.1"), ONE)
    assert office.ask("other", "10.0.0.2") == set()


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(record_of("victim", "10.0.0.7"), id="another's"),
        pytest.param(record_of("one", "10.0.0.1")[:-1] + b"\x00", id="forged"),
        pytest.param(b"rubbish", id="none"),
        pytest.param(record_of("one"), id="without an address"),
        pytest.param(record_of("one", "rebinding.example.net"), id="with a name"),
    ],
)
async def test_a_record_that_is_not_the_askers_own_or_leads_nowhere_is_not_told(
    autojump_clock: None, record: bytes
) -> None:
    office = Office()
    for _ in range(3):
        office.ask("one", "10.0.0.1", record=record)
    assert office.ask("other", "10.0.0.2") == set()
    assert office.checks == 1


async def test_a_record_is_checked_once_and_another_one_soon_after_not_at_all(autojump_clock: None) -> None:
    office = Office()
    for sequence in range(50):
        office.ask("one", "10.0.0.1", record=record_of("one", "10.0.0.1", sequence=sequence))
        office.ask("one", "10.0.0.1", record=record_of("one", "10.0.0.1", sequence=0))
    assert office.checks == 1
    await trio.sleep(_CHECK_EVERY_S)
    moved = record_of("one", "10.0.0.9", sequence=99)
    office.ask("one", "10.0.0.1", record=moved)
    assert office.ask("other", "10.0.0.2") == {moved}
    assert office.checks == 2


@pytest.mark.parametrize(
    ("told", "asker", "is_told"),
    [
        (["10.0.0.1"], "192.168.0.1", True),
        (["10.0.0.1"], "192.0.2.1", False),
        (["10.0.0.1", "198.51.100.1"], "192.0.2.1", False),
        (["198.51.100.1"], "192.0.2.1", True),
        (["198.51.100.1"], "10.0.0.1", True),
        (["127.0.0.1"], "192.0.2.1", False),
        (["127.0.0.1"], "10.0.0.1", False),
        (["127.0.0.1"], "127.0.0.1", True),
        (["10.0.0.1"], "127.0.0.1", True),
        (["fd00::1"], "2001:db8::1", False),
        (["fd00::1"], "fd00::2", True),
        (["169.254.169.254"], "192.0.2.1", False),
    ],
)
async def test_addresses_are_told_only_to_who_can_dial_them_from_where_he_is(
    autojump_clock: None, told: list[str], asker: str, is_told: bool
) -> None:
    office = Office()
    record = record_of("one", *told)
    office.ask("one", "10.0.0.1", record=record)
    assert office.ask("other", asker) == ({record} if is_told else set())


async def test_nodes_are_told_to_everyone_but_themselves(autojump_clock: None) -> None:
    nodes = [record_of(f"node {number}", f"10.0.1.{number}", "192.0.2.9") for number in range(3)]
    office = Office(nodes)
    assert office.ask("stranger", "192.0.2.1", None) == set(nodes)
    assert office.ask("node 0", "10.0.1.0", None) == set(nodes[1:])
    for _ in range(5):
        office.ask("stranger", "192.0.2.1")
    assert office.checks == 3


async def test_a_client_tells_of_nodes_only_who_is_there_for_something(autojump_clock: None) -> None:
    node = record_of("node", "10.0.0.1")
    office = Office([node], is_clients=True)
    assert office.ask("another node", "10.0.0.2", None) == set()
    assert office.ask("client", "10.0.0.3", ONE) == {node}


async def test_a_node_that_leads_nowhere_from_the_asker_is_not_told(autojump_clock: None) -> None:
    private, named = record_of("one", "10.0.0.1"), record_of("two", "node.example.net")
    office = Office([private, named])
    assert office.ask("stranger", "192.0.2.1", None) == {named}
    assert office.ask("stranger", "10.0.0.9", None) == {private, named}


async def test_one_that_is_known_by_both_ways_is_told_once(autojump_clock: None) -> None:
    record = record_of("one", "10.0.0.1")
    later = record_of("one", "10.0.0.1", sequence=2)
    office = Office([record])
    office.ask("one", "10.0.0.1", record=later)
    assert office.ask("other", "10.0.0.2") == {later}


async def test_of_many_a_random_choice_is_told_and_asking_again_tells_of_all(autojump_clock: None) -> None:
    office = Office()
    records = {office.join(f"peer {number}", f"10.0.0.{number + 1}") for number in range(64)}
    told = [office.ask("asker", "10.0.0.200") for _ in range(40)]
    assert {len(some) for some in told} == {MAX_PEERS}
    assert set().union(*told) == records


async def test_who_is_near_is_told_first_and_who_is_far_as_well(autojump_clock: None) -> None:
    office = Office()
    here = {office.join(f"near {number}", f"10.0.0.{number + 1}") for number in range(60)}
    there = {office.join(f"far {number}", f"10.{number + 1}.0.1") for number in range(60)}
    told = office.ask("asker", "10.0.0.200")
    assert (len(told & here), len(told & there)) == (24, 8)


async def test_a_site_is_near_wherever_it_stands_and_is_noted(autojump_clock: None) -> None:
    office = Office()
    mates = set()
    for number in range(60):
        site = "rack" if number % 6 == 0 else None
        record = office.join(f"peer {number}", f"10.{number}.0.1", site)
        if site:
            mates.add(record)
    assert office.ask("asker", "10.99.0.1", site="rack") >= mates
    assert (key_of("peer 6").public.peer_id, "rack") in office.sites


async def test_the_ids_of_one_stranger_crowd_nobody_out_of_what_is_told(autojump_clock: None) -> None:
    office = Office()
    honest = {office.join(f"honest {number}", f"10.1.{number}.1") for number in range(20)}
    for number in range(300):
        office.ask(f"id {number}", "10.0.0.66", record=record_of(f"id {number}", f"10.0.{number % 250}.1"))
    assert office.ask("asker", "10.9.9.9") >= honest


async def test_the_ids_of_one_stranger_crowd_nobody_out_of_the_register(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pboot.serving.referrals._PLACES", 64)
    monkeypatch.setattr("p2pboot.serving.referrals._RESERVE", 8)
    office = Office()
    honest = set()
    for number in range(200):
        office.join(f"id {number}", "10.0.0.66")
        if number % 10 == 0:
            honest.add(office.join(f"honest {number}", f"10.1.{number}.1"))
    assert office.ask("asker", "10.9.9.9") >= honest
    assert len(office.referrals._askers) <= 64
