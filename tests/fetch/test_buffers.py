"""Memory that is used again."""

from __future__ import annotations

from p2pboot.core.pieces import MIB
from p2pboot.fetch.receiving.buffers import Buffers


def test_a_buffer_that_was_given_back_is_used_again() -> None:
    buffers = Buffers()
    first = buffers.take(MIB)
    second = buffers.take(MIB)
    assert second is not first
    buffers.give_back(first)
    assert buffers.take(MIB) is first
    assert buffers.take(MIB) is not first


def test_a_buffer_is_as_long_as_was_asked_for() -> None:
    buffers = Buffers()
    old = buffers.take(MIB)
    assert len(buffers.take(7)) == 7
    buffers.give_back(old)
    assert len(buffers.take(MIB)) == MIB
    assert len(buffers.take(7)) == 7


def test_little_memory_is_kept() -> None:
    buffers = Buffers()
    taken = [buffers.take(MIB) for _ in range(20)]
    for each in taken:
        buffers.give_back(each)
    again = [buffers.take(MIB) for _ in range(20)]
    assert sum(any(each is old for old in taken) for each in again) == 8
