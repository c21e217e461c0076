"""multistream-select: both roles agree however the bytes come, and nobody's line fills the memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.errors import RemoteProtocolError
from p2pboot.wire.multistream import (
    MAX_LINE,
    MAX_PROPOSALS,
    Dialler,
    Listener,
    NoCommonProtocol,
    encode_line,
)
from p2pboot.wire.varint import encode_varint
from tests.wire.vectors import TRAILING, each_step, feed

HELLO = b"\x13/multistream/1.0.0\n"


def test_dialler_says_greeting_and_proposal_at_once() -> None:
    assert Dialler(["/noise"]).data_to_send() == HELLO + b"\x07/noise\n"


@each_step
def test_dialler_learns_that_its_proposal_is_taken(step: int) -> None:
    dialler = Dialler(["/noise"])
    feed(dialler.receive, HELLO + b"\x07/noise\n" + TRAILING, step)
    assert dialler.selected == "/noise"
    assert dialler.trailing_data == TRAILING


@each_step
def test_listener_refuses_until_it_is_asked_for_what_it_speaks(step: int) -> None:
    listener = Listener({"/b"})
    feed(listener.receive, HELLO + b"\x03/a\n\x03/b\n" + TRAILING, step)
    assert listener.data_to_send() == HELLO + b"\x03na\n\x03/b\n"
    assert listener.selected == "/b"
    assert listener.trailing_data == TRAILING


def test_dialler_proposes_the_next_one_after_a_refusal() -> None:
    dialler = Dialler(["/a", "/b"])
    dialler.data_to_send()
    dialler.receive(HELLO + b"\x03na\n")
    assert dialler.data_to_send() == b"\x03/b\n"
    with pytest.raises(NoCommonProtocol, match="/b"):
        dialler.receive(b"\x03na\n")


def test_only_a_dialler_without_alternatives_is_optimistic() -> None:
    assert Dialler(["/a"]).optimistic
    assert not Dialler(["/a", "/b"]).optimistic


def test_listener_lists_what_it_speaks() -> None:
    listener = Listener(["/a", "/bc"])
    listener.receive(HELLO + b"\x03ls\n")
    assert listener.data_to_send() == HELLO + b"\x0a" + b"\x03/a\n" + b"\x04/bc\n" + b"\n"


BAD_LINES = {
    "no greeting": b"\x03/a\n",
    "another version": b"\x13/multistream/2.0.0\n",
    "no newline": b"\x13/multistream/1.0.0x",
    "empty": b"\x00",
    "not UTF-8": b"\x03\xff\xfe\n",
    "too long a greeting": encode_varint(len(HELLO)),
    "too long a line": HELLO + encode_varint(MAX_LINE + 1),
    "length without end": b"\xff\xff\xff\xff",
    "length not minimal": b"\x93\x00" + HELLO[1:],
    "refusal first": b"\x03na\n",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=list(BAD_LINES))
@pytest.mark.parametrize("role", [Dialler, Listener])
@each_step
def test_nonsense_is_refused_by_both_roles(
    role: type[Dialler] | type[Listener], line: bytes, step: int
) -> None:
    negotiation = role(["/a"])
    with pytest.raises(RemoteProtocolError):
        feed(negotiation.receive, line, step)
    assert negotiation.selected is None


def test_answer_that_was_not_proposed_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="/b"):
        Dialler(["/a"]).receive(HELLO + b"\x03/b\n")


def test_longest_line_is_taken() -> None:
    name = "/" + "x" * (MAX_LINE - 2)
    listener = Listener([name])
    listener.receive(HELLO + encode_line(name))
    assert listener.selected == name


def test_whoever_guesses_on_and_on_is_cut() -> None:
    listener = Listener([])
    listener.receive(HELLO + b"\x03/a\n" * MAX_PROPOSALS)
    with pytest.raises(NoCommonProtocol):
        listener.receive(b"\x03ls\n")


NAMES = st.text("/ab\u00e9 ", min_size=1, max_size=6)


@given(
    st.lists(NAMES, min_size=1, max_size=5, unique=True),
    st.sets(NAMES, max_size=5),
    st.booleans(),
    st.integers(1, 40),
)
def test_both_roles_agree_on_the_first_common_protocol(
    proposed: list[str], spoken: set[str], one_is_common: bool, step: int
) -> None:
    if one_is_common:
        spoken |= {proposed[-1]}
    dialler, listener = Dialler(proposed), Listener(spoken)
    common = next((name for name in proposed if name in spoken), None)
    try:
        while dialler.selected is None:
            feed(listener.receive if listener.selected is None else _nothing, dialler.data_to_send(), step)
            feed(dialler.receive, listener.data_to_send(), 1 << 20)
    except NoCommonProtocol:
        assert common is None
    assert dialler.selected == listener.selected == common


def _nothing(_data: bytes) -> None:
    raise AssertionError("the dialler went on after the agreement")
