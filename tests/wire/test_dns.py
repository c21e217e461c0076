"""DNS messages, against zeroconf's reading and writing of them, and against a stranger's bytes."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import const
from zeroconf._dns import DNSAddress, DNSPointer, DNSQuestion, DNSService, DNSText
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing

from p2pboot.errors import RemoteProtocolError
from p2pboot.wire import dns
from p2pboot.wire.dns import Message, Question, Record, Text, read_message, write_answer, write_question

SERVICE = (b"_p2p", b"_udp", b"local")
DOTTED = "_p2p._udp.local."


def test_a_question_reads_as_others_read_it() -> None:
    (question,) = DNSIncoming(write_question(Question(SERVICE, dns.PTR))).questions
    assert (question.name, question.type, question.class_) == (DOTTED, const._TYPE_PTR, const._CLASS_IN)


def test_an_answer_reads_as_others_read_it() -> None:
    name, host = (b"x", *SERVICE), (b"x", b"local")
    raw = write_answer(
        [Record(SERVICE, dns.PTR, 120, target=name)],
        [
            Record(name, dns.TXT, 120, b"\3a=b", is_whole=True),
            Record(name, dns.SRV, 120, bytes(4) + (4001).to_bytes(2, "big"), host, is_whole=True),
            Record(host, dns.A, 60, bytes([192, 0, 2, 7]), is_whole=True),
        ],
    )
    pointer, text, service, address = DNSIncoming(raw).answers()
    assert pointer == DNSPointer(DOTTED, const._TYPE_PTR, const._CLASS_IN, 120, "x." + DOTTED)
    assert not pointer.unique
    unique = const._CLASS_IN | const._CLASS_UNIQUE
    assert text == DNSText("x." + DOTTED, const._TYPE_TXT, unique, 120, b"\3a=b")
    assert text.unique
    assert service == DNSService("x." + DOTTED, const._TYPE_SRV, unique, 120, 0, 0, 4001, "x.local.")
    assert address == DNSAddress("x.local.", const._TYPE_A, unique, 60, bytes([192, 0, 2, 7]))
    assert raw.count(b"_p2p") == raw.count(b"_udp") == 1  # what was there before is referred to


def test_what_others_write_is_read() -> None:
    outgoing = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    outgoing.add_answer_at_time(DNSPointer(DOTTED, const._TYPE_PTR, const._CLASS_IN, 120, "x." + DOTTED), 0)
    outgoing.add_additional_answer(DNSText("x." + DOTTED, const._TYPE_TXT, const._CLASS_IN, 7, b"\1a\2bc"))
    assert read_message(outgoing.packets()[0]) == Message(0, True, (), (Text(7, (b"a", b"bc")),))


def test_a_question_among_others_and_with_capitals_is_read() -> None:
    outgoing = DNSOutgoing(const._FLAGS_QR_QUERY)
    for name in ("_ipp._tcp.local.", "_P2P._Udp.Local."):
        outgoing.add_question(DNSQuestion(name, const._TYPE_PTR, const._CLASS_IN | const._CLASS_UNIQUE))
    message = read_message(outgoing.packets()[0])
    assert not message.is_response
    assert message.questions[1] == Question(SERVICE, dns.PTR, wants_unicast=True)


def test_an_answer_to_one_repeats_number_and_question() -> None:
    question = Question(SERVICE, dns.PTR)
    raw = write_answer(
        [Record(SERVICE, dns.PTR, 9, target=(b"x", *SERVICE))], [], number=77, questions=(question,)
    )
    assert read_message(raw) == Message(77, True, (question,), ())


HEADER = struct.Struct("!6H")


def header(*, flags: int = 0x8400, questions: int = 0, answers: int = 0) -> bytes:
    return HEADER.pack(0, flags, questions, answers, 0, 0)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        header()[:-1],
        header(questions=1),
        header(questions=1) + b"\x05abc",
        header(questions=1) + b"\xc0\x0c" + bytes(4),  # a pointer at itself
        header(questions=1) + b"\xc0\x0e\xc0\x0c" + bytes(4),  # two at each other
        header(questions=1) + b"\x3f" + b"a" * 63 + (b"\x3f" + b"b" * 63) * 3 + b"\0" + bytes(4),  # 256 bytes
        header(questions=1) + b"\x40" + b"a" * 64 + b"\0" + bytes(4),
        header(answers=1) + b"\0" + struct.pack("!HHIH", dns.TXT, 1, 120, 9) + b"\1a",
        header(answers=1) + b"\xc0",
        header(flags=0x8403),  # no such name
        header(flags=0x2800),  # an update
    ],
)
def test_what_is_no_message_is_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_message(raw)


def test_no_more_is_read_than_is_bounded() -> None:
    text = b"\0" + struct.pack("!HHIH", dns.TXT, 1, 120, 2) + b"\1a"
    assert len(read_message(header(answers=1000) + text * 1000).texts) == dns.MAX_RECORDS
    question = b"\1a\0" + struct.pack("!HH", dns.PTR, 1)
    message = read_message(header(questions=1000, answers=1) + question * 1000 + text)
    assert len(message.questions) == dns.MAX_QUESTIONS
    assert message.texts == ()


def test_a_string_that_is_cut_short_is_what_is_there() -> None:
    raw = header(answers=1) + b"\0" + struct.pack("!HHIH", dns.TXT, 1, 120, 3) + b"\5ab"
    assert read_message(raw).texts == (Text(120, (b"ab",)),)


@given(st.binary(max_size=200), st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_any_bytes_are_read_or_refused(raw: bytes, questions: int, answers: int, response: bool) -> None:
    with suppress(RemoteProtocolError):
        read_message(header(flags=0x8400 * response, questions=questions, answers=answers) + raw)
