"""What strangers put: kept in shares, each for a while, and nobody's shadows another's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pboot.core.origins import Party
from p2pboot.dht.records import DAY_S, PER_KEY, VALUES, Records

KEY = b"/phase/stable/arm64/manifest"
HONEST = Party("10.0.0.1", "honest")


def values(records: Records[bytes], key: bytes = KEY, now: float = 0.0) -> list[bytes]:
    return [value for _, value in records.get(key, now)]


def test_a_write_of_a_stranger_shadows_nothing() -> None:
    records = Records[bytes](VALUES)
    assert records.put(KEY, HONEST, b"right", now=0.0)
    assert records.put(KEY, Party("10.0.0.2", "stranger"), b"wrong", now=1.0)
    assert records.put(KEY, Party("10.0.0.1", "stranger"), b"wrong too", now=2.0)
    assert values(records) == [b"right", b"wrong", b"wrong too"]


def test_whoever_writes_again_replaces_what_he_wrote() -> None:
    records = Records[bytes](VALUES)
    records.put(KEY, HONEST, b"old", now=0.0)
    records.put(KEY, HONEST, b"new", now=1.0)
    assert values(records) == [b"new"]
    assert len(records) == 1


def test_what_is_not_said_again_is_forgotten() -> None:
    records = Records[bytes](VALUES)
    records.put(KEY, HONEST, b"for a day", now=0.0, ttl_s=10 * DAY_S)
    records.put(b"other", HONEST, b"for a minute", now=0.0, ttl_s=60)
    records.forget_old(59.9)
    assert len(records) == 2
    records.forget_old(60.0)
    assert len(records) == 1
    assert values(records, now=DAY_S - 1) == [b"for a day"]
    assert values(records, now=DAY_S) == []
    assert len(records) == 0


def test_a_flood_of_one_stranger_costs_a_quarter_at_most() -> None:
    records = Records[bytes](VALUES)
    kept = [
        records.put(b"%d" % number, Party("10.0.0.2", "flooder"), b"x", now=0.0) for number in range(50_000)
    ]
    assert kept.count(True) == len(records) == VALUES // 4
    assert records.put(KEY, HONEST, b"right", now=0.0)


def test_a_flood_from_many_addresses_displaces_nobody_who_has_little() -> None:
    records = Records[bytes](VALUES)
    for number in range(20):
        assert records.put(b"honest %d" % number, HONEST, b"right", now=0.0)
    for number in range(5000):
        party = Party(f"10.1.0.{number % 10}", f"flooder {number % 64}")
        records.put(b"%d" % number, party, b"x", now=0.0)
    assert len(records) <= VALUES
    assert all(values(records, b"honest %d" % number) == [b"right"] for number in range(20))
    newcomer = Party("10.0.0.3", "newcomer")
    assert records.put(KEY, newcomer, b"right too", now=0.0)


def test_among_the_peers_of_one_address_who_has_most_gives_way() -> None:
    """All of a test, or of a site behind one address, have the same origin."""
    records = Records[bytes](VALUES)
    for number in range(1000):
        records.put(b"%d" % number, Party("127.0.0.1", f"flooder {number % 64}"), b"x", now=0.0)
    neighbour = Party("127.0.0.1", "neighbour")
    assert records.put(KEY, neighbour, b"right", now=0.0)
    assert records.put(b"another", neighbour, b"right", now=0.0)
    assert values(records) == [b"right"]


def test_a_place_under_a_key_is_left_for_other_origins() -> None:
    records = Records[bytes](20 * PER_KEY)
    for number in range(PER_KEY):
        assert records.put(KEY, Party("10.0.0.2", f"{number}"), b"wrong", now=0.0)
    assert not records.put(KEY, Party("10.0.0.2", "one more"), b"wrong", now=0.0)
    assert records.put(KEY, HONEST, b"right", now=0.0)
    assert len(values(records)) == PER_KEY
    assert values(records)[:2] == [b"wrong", b"right"]  # origins take turns


def test_whom_the_operator_named_has_a_place_and_comes_first() -> None:
    records = Records[bytes](VALUES, lambda peer_id: peer_id == "honest")
    for number in range(5000):  # so many addresses that nobody has more than others
        records.put(KEY, Party(f"10.1.{number // 250}.{number % 250}", "x"), b"%d" % number, now=0.0)
        records.put(b"%d" % number, Party(f"10.2.{number // 250}.{number % 250}", "x"), b"wrong", now=0.0)
    assert not records.put(KEY, Party("10.9.9.9", "stranger"), b"late", now=0.0)
    assert records.put(KEY, HONEST, b"right", now=0.0)
    assert values(records)[0] == b"right"
    assert len(records) <= VALUES


@settings(max_examples=30)
@given(st.integers(0, 1 << 32))
def test_the_books_agree_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    records = Records[int](40, lambda peer_id: peer_id == "p0")
    expected: dict[tuple[bytes, Party], tuple[int, float]] = {}
    now = 0.0
    for step in range(300):
        now += chance.random()
        key = b"%d" % chance.randrange(12)
        party = Party(f"o{chance.randrange(5)}", f"p{chance.randrange(6)}")
        if records.put(key, party, step, now=now, ttl_s=chance.choice([5, 100])):
            expected[key, party] = (step, now)
        if chance.random() < 0.1:
            records.forget_old(now)
        found = {(k, p): v for k in {k for k, _ in expected} for p, v in records.get(k, now)}
        assert len(records) <= 40
        assert all(expected[at][0] == value for at, value in found.items())
    records.forget_old(now + 1000)
    assert len(records) == 0


@pytest.mark.parametrize("origins", [1, 3])
def test_origins_take_turns(origins: int) -> None:
    records = Records[bytes](VALUES)
    for number in range(9):
        records.put(KEY, Party(f"{number * origins // 9}", f"{number}"), b"%d" % number, now=0.0)
    told = values(records)
    assert {int(value) * origins // 9 for value in told[:origins]} == set(range(origins))
