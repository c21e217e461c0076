"""How much is taken of whom."""

from __future__ import annotations

from p2pboot.transport.mdns import sources
from p2pboot.transport.mdns.sources import Sources


def test_who_sends_much_is_not_read_and_others_are() -> None:
    taken = Sources(0.0)
    read = [taken.may_read("192.0.2.1", 0.0) for _ in range(500)]
    assert sum(read) == sources.PACKETS_AT_ONCE
    assert taken.may_read("192.0.2.2", 0.0)
    assert taken.refused == 500 - sources.PACKETS_AT_ONCE
    assert taken.may_read("192.0.2.1", 1.0)


def test_all_together_are_bounded_however_many_they_say_they_are() -> None:
    taken = Sources(0.0)
    read = [taken.may_read(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}", 0.0) for n in range(5000)]
    assert sum(read) == sources.ALL_AT_ONCE
    assert len(taken._sources) <= sources._SOURCES


def test_one_tells_of_so_many_addresses_and_others_of_theirs() -> None:
    taken = Sources(0.0)
    told = [taken.may_tell("192.0.2.1", f"/ip4/192.0.2.9/tcp/{n}", 0.0) for n in range(1, 500)]
    assert sum(told) == sources.ADDRESSES
    assert taken.may_tell("192.0.2.2", "/ip4/192.0.2.2/tcp/1", 0.0)
    assert taken.may_tell("192.0.2.1", "/ip4/192.0.2.9/tcp/999", sources.ADDRESSES_S)
    here = [taken.may_tell("127.0.0.1", f"/ip4/127.0.0.1/tcp/{n}", 0.0, is_here=True) for n in range(1, 100)]
    assert all(here)


def test_what_was_handed_on_is_handed_on_again_only_after_a_while() -> None:
    taken = Sources(0.0)
    address = "/ip4/192.0.2.1/tcp/1"
    assert [taken.may_tell("192.0.2.1", address, now) for now in (0.0, 1.0, sources.REPEAT_S)] == [
        True,
        False,
        True,
    ]
    taken.forget(address)
    assert taken.may_tell("192.0.2.1", address, sources.REPEAT_S)


def test_answers_to_one_are_few() -> None:
    taken = Sources(0.0)
    assert sum(taken.may_answer("192.0.2.1", 0.0) for _ in range(100)) == sources.ANSWERS_AT_ONCE
    assert taken.may_answer("192.0.2.2", 0.0)
