"""Memory for replies: little for everybody, more for who is quick, and from the same pool for all."""

from __future__ import annotations

import pytest

from p2pboot.core.origins import Party
from p2pboot.core.pieces import KIB, MIB
from p2pboot.serving.memory import CEILING, FLOOR, PARTS, SHORT_REPLY, Ahead, ReplyMemory

ONE, SAME, OTHER = Party("192.0.2.1", "a"), Party("192.0.2.1", "b"), Party("192.0.2.2", "c")
FULL = PARTS * (CEILING - FLOOR)  # what one quick stream takes of the pool


def grown(memory: ReplyMemory, party: Party) -> Ahead:
    """A stream whose peer takes everything at once."""
    ahead = Ahead(memory, party)
    for _ in range(200):
        ahead.note_written(ahead.part_bytes, 0.0)
    return ahead


def test_parts_grow_with_what_a_quick_peer_takes_and_end_at_the_largest() -> None:
    memory = ReplyMemory(48 * MIB, 12 * MIB)
    ahead, sizes = Ahead(memory, ONE), []
    for _ in range(50):
        ahead.note_written(ahead.part_bytes, 0.01)
        sizes.append(ahead.part_bytes)
    counts = {size: sizes.count(size) for size in sizes}
    assert counts == {64 * KIB: 7, 128 * KIB: 4, 256 * KIB: 4, 512 * KIB: 4, MIB: 4, CEILING: 27}
    assert memory.free == 48 * MIB - FULL


@pytest.mark.parametrize("seconds", [0.2, 0.9])
def test_parts_stay_as_they_are_at_a_middling_pace(seconds: float) -> None:
    ahead = grown(ReplyMemory(8 * MIB, MIB), ONE)
    before = ahead.part_bytes
    for _ in range(20):
        ahead.note_written(ahead.part_bytes, seconds)
    assert ahead.part_bytes == before


def test_slow_peer_gives_its_memory_back_and_keeps_the_least() -> None:
    memory = ReplyMemory(8 * MIB, MIB)
    ahead = grown(memory, ONE)
    for _ in range(10):
        ahead.note_written(ahead.part_bytes, 10.0)
    assert (ahead.part_bytes, memory.free) == (FLOOR, 8 * MIB)


def test_only_who_has_taken_megabytes_at_once_has_much_wait_in_its_connection() -> None:
    ahead = Ahead(ReplyMemory(48 * MIB, 12 * MIB), ONE)
    waits = {}
    for _ in range(50):
        waits[ahead.part_bytes] = ahead.unsent_bytes
        ahead.note_written(ahead.part_bytes, 0.0)
    assert waits.pop(FLOOR) == 32 * KIB
    assert {size: wait for size, wait in waits.items() if wait != 128 * KIB} == {
        MIB: MIB,
        CEILING: CEILING,
    }


def test_who_takes_slowly_has_no_reply_held_as_a_whole_until_it_took_something_again() -> None:
    ahead = Ahead(ReplyMemory(8 * MIB, MIB), ONE)
    assert ahead.trusted_bytes == 0
    ahead.note_written(FLOOR, 0.5)
    assert ahead.trusted_bytes == 4 * FLOOR
    ahead.note_written(FLOOR, 5.0)
    assert ahead.trusted_bytes == 0
    for _ in range(9):
        ahead.note_written(FLOOR, 0.5)
    assert ahead.trusted_bytes == SHORT_REPLY


def test_stream_that_ends_gives_back_all_of_it() -> None:
    memory = ReplyMemory(8 * MIB, MIB)
    grown(memory, ONE).close()
    assert memory.free == 8 * MIB


def test_quick_streams_of_one_origin_leave_the_reserve_to_others() -> None:
    memory = ReplyMemory(8 * MIB, 2 * MIB)
    streams = [grown(memory, ONE) for _ in range(10)]
    assert 2 * MIB <= memory.free < 3 * MIB
    assert streams[-1].part_bytes == FLOOR  # and goes on with that
    assert grown(memory, OTHER).part_bytes > FLOOR


def test_who_holds_more_than_others_makes_room_once_somebody_asks_in_vain() -> None:
    memory = ReplyMemory(8 * MIB, 2 * MIB)
    greedy = [grown(memory, ONE) for _ in range(10)]
    late = grown(memory, SAME)
    assert late.part_bytes == FLOOR
    for _ in range(100):
        for ahead in (late, *greedy):
            ahead.note_written(ahead.part_bytes, 0.0)
    assert late.part_bytes > FLOOR


def test_room_that_nobody_asks_for_is_not_made() -> None:
    memory = ReplyMemory(16 * MIB, 2 * MIB)
    one, other = grown(memory, ONE), grown(memory, OTHER)
    assert not memory.should_give_back(ONE)
    assert not memory.should_give_back(OTHER)
    assert one.part_bytes == other.part_bytes == CEILING
