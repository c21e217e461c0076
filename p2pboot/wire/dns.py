"""DNS messages, as much as multicast DNS takes to say where a peer is: questions, and records that answer them.

Spec: RFC 1035, section 4; for multicast RFC 6762, section 18. Reading is for a stranger's bytes: what is not asked for
is stepped over, and how many questions, records, and pointers of a name are followed is bounded, so that a packet costs
no more than its length suggests.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from p2pboot.errors import RemoteProtocolError

A, PTR, TXT, AAAA, SRV, ANY = 1, 12, 16, 28, 33, 255
"""Kinds of records, and what asks for any kind (RFC 1035, 2782, 3596)."""

Name = tuple[bytes, ...]
"""Labels, without the root's empty one."""

MAX_QUESTIONS: Final = 32
MAX_RECORDS: Final = 128
"""Read of one message, of all its sections together."""

_HEADER: Final = struct.Struct("!6H")  # number, flags, and how many of each section there are
_QUESTION: Final = struct.Struct("!2H")  # kind, class
_RECORD: Final = struct.Struct("!2HIH")  # kind, class, seconds to live, length
_RESPONSE, _AUTHORITATIVE = 0x8000, 0x0400
_IGNORED_IF_SET: Final = 0x780F  # RFC 6762, sections 18.3 and 18.11: another operation, an error
_INTERNET: Final = 1
_TOP_BIT: Final = 0x8000  # of a class: in a question "answer me alone", in a record "this is all there is"
_POINTER: Final = 0xC0
_FAR: Final = 0x4000  # where pointers do not lead
_MAX_LABEL: Final = 63
_MAX_NAME: Final = 255
_MAX_JUMPS: Final = 16  # in one name; nobody needs more than one for each of its labels


class Question(NamedTuple):
    """What is asked.

    Args:
        name: in lower case, in which names are compared.
        kind: of record.
        wants_unicast: the answer is wanted by who asks alone.
    """

    name: Name
    kind: int
    wants_unicast: bool = False


class Text(NamedTuple):
    """A TXT record, whatever its name.

    Args:
        ttl_s: how long it holds; 0 withdraws it.
        strings: as they are, of at most 255 bytes each.
    """

    ttl_s: int
    strings: tuple[bytes, ...]


class Message(NamedTuple):
    """What was read of a message.

    Args:
        number: that a question had, and a unicast answer repeats.
        is_response: it answers; otherwise it asks.
        questions: at most MAX_QUESTIONS.
        texts: of an answer, from all its sections.
    """

    number: int
    is_response: bool
    questions: tuple[Question, ...]
    texts: tuple[Text, ...] = ()


class Record(NamedTuple):
    """A record to send.

    Args:
        name: whose it is.
        kind: PTR, TXT…
        ttl_s: seconds that it holds.
        data: what it says.
        target: a name that follows the data, in PTR and SRV records.
        is_whole: there are no others of this name and kind, so what was known before is to be forgotten.
    """

    name: Name
    kind: int
    ttl_s: int
    data: bytes = b""
    target: Name | None = None
    is_whole: bool = False


def read_message(raw: bytes) -> Message:
    """Read a datagram.

    Raises:
        RemoteProtocolError: it is no message, or none that multicast DNS takes notice of.
    """
    try:
        return _read(raw)
    except (struct.error, IndexError):
        raise RemoteProtocolError("a DNS message ends too early") from None


def _read(raw: bytes) -> Message:
    number, flags, asked, *records = _HEADER.unpack_from(raw)
    if flags & _IGNORED_IF_SET:
        raise RemoteProtocolError("neither a DNS question nor an answer to one")
    at = _HEADER.size
    questions = []
    for _ in range(min(asked, MAX_QUESTIONS)):
        name, at = _read_name(raw, at)
        kind, group = _QUESTION.unpack_from(raw, at)
        at += _QUESTION.size
        if group & ~_TOP_BIT == _INTERNET:
            questions.append(Question(name, kind, bool(group & _TOP_BIT)))
    is_response = bool(flags & _RESPONSE)
    if not is_response or asked > MAX_QUESTIONS:  # what is known already, or nobody knows where it begins
        return Message(number, is_response, tuple(questions))
    texts = []
    for _ in range(min(sum(records), MAX_RECORDS)):
        at = _after_name(raw, at)
        kind, group, ttl_s, length = _RECORD.unpack_from(raw, at)
        at += _RECORD.size
        if length > len(raw) - at:
            raise RemoteProtocolError("a DNS record is longer than its message")
        if kind == TXT and group & ~_TOP_BIT == _INTERNET:
            texts.append(Text(ttl_s, _split(raw[at : at + length])))
        at += length
    return Message(number, is_response, tuple(questions), tuple(texts))


def _read_name(raw: bytes, at: int) -> tuple[Name, int]:
    """A name in lower case, and where it ends."""
    labels: list[bytes] = []
    size, jumps, after = 0, 0, -1
    while (length := raw[at]) != 0:
        if length >= _POINTER:
            after = at + 2 if after < 0 else after
            at = (length & ~_POINTER) << 8 | raw[at + 1]
            jumps += 1
            if jumps > _MAX_JUMPS:
                raise RemoteProtocolError("a DNS name leads to itself")
            continue
        label = raw[at + 1 : at + 1 + length]
        size += length + 1
        if length > _MAX_LABEL or size >= _MAX_NAME or len(label) < length:
            raise RemoteProtocolError("a DNS name is too long")
        labels.append(label.lower())
        at += 1 + length
    return tuple(labels), at + 1 if after < 0 else after


def _after_name(raw: bytes, at: int) -> int:
    while (length := raw[at]) != 0:
        if length >= _POINTER:
            return at + 2
        at += 1 + length
    return at + 1


def _split(data: bytes) -> tuple[bytes, ...]:
    """The strings of a TXT record, each after a byte of length; the last may be cut short."""
    strings = []
    while data:
        strings.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    return tuple(strings)


def write_question(question: Question) -> bytes:
    """Write a message that asks one question."""
    return _Writer(0, 0, (1, 0, 0, 0)).ask(question).finish()


def write_answer(
    answers: list[Record], additional: list[Record], *, number: int = 0, questions: tuple[Question, ...] = ()
) -> bytes:
    """Write a message that answers.

    Args:
        answers: what was asked for.
        additional: what whoever asks wants to know next.
        number: of the question, for who asked by unicast DNS; 0 for everybody.
        questions: that are answered, likewise.
    """
    counts = (len(questions), len(answers), 0, len(additional))
    writer = _Writer(number, _RESPONSE | _AUTHORITATIVE, counts)
    for question in questions:
        writer.ask(question)
    for record in (*answers, *additional):
        writer.tell(record)
    return writer.finish()


class _Writer:
    def __init__(self, number: int, flags: int, counts: tuple[int, int, int, int]) -> None:
        self._raw = bytearray(_HEADER.pack(number, flags, *counts))
        self._places: dict[Name, int] = {}

    def ask(self, question: Question) -> _Writer:
        self._name(question.name)
        self._raw += _QUESTION.pack(question.kind, _INTERNET | _TOP_BIT * question.wants_unicast)
        return self

    def tell(self, record: Record) -> None:
        self._name(record.name)
        self._raw += _RECORD.pack(record.kind, _INTERNET | _TOP_BIT * record.is_whole, record.ttl_s, 0)
        begins = len(self._raw)
        self._raw += record.data
        if record.target is not None:
            self._name(record.target)
        self._raw[begins - 2 : begins] = (len(self._raw) - begins).to_bytes(2, "big")

    def _name(self, name: Name) -> None:
        """What was written before is referred to, as far as it is the same."""
        for start in range(len(name)):
            rest = name[start:]
            if rest in self._places:
                self._raw += (_POINTER << 8 | self._places[rest]).to_bytes(2, "big")
                return
            if len(self._raw) < _FAR:
                self._places[rest] = len(self._raw)
            self._raw += bytes([len(name[start])]) + name[start]
        self._raw.append(0)

    def finish(self) -> bytes:
        return bytes(self._raw)
