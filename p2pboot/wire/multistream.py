r"""multistream-select 1.0: agree on the protocol that the following bytes speak.

Spec: https://github.com/multiformats/multistream-select. A line is a varint length, the text and a newline. Both
sides say `/multistream/1.0.0`; the dialler proposes one protocol after the other, the listener repeats the one that
it takes and says `na` to others.

The dialler says its greeting and its first proposal in one go, so that an agreement takes one round trip. With one
protocol to propose it need not even wait for the answer: see `Dialler.optimistic`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum, auto
from typing import ClassVar, Final

from p2pboot.errors import ProtocolError, RemoteProtocolError
from p2pboot.wire.varint import decode_varint, encode_varint

GREETING: Final = "/multistream/1.0.0"
REFUSAL: Final = "na"
LIST: Final = "ls"
MAX_LINE: Final = 1024
"""Bytes of a line with its newline. Ours are below 64; without a bound a stranger fills the memory."""
MAX_PROPOSALS: Final = 64
"""Lines that a listener answers. Each costs the dialler a round trip; whoever needs more is guessing."""
_MAX_PREFIX: Final = 2


class NoCommonProtocol(ProtocolError):
    """The peer speaks none of the protocols that were proposed; it did nothing wrong."""


def encode_line(text: str) -> bytes:
    """One line as it goes over the wire."""
    raw = text.encode() + b"\n"
    return encode_varint(len(raw)) + raw


class _Kind(Enum):
    """What a line is."""

    GREETING = auto()
    REFUSAL = auto()
    LIST = auto()
    NAME = auto()


_KINDS: Final = {GREETING: _Kind.GREETING, REFUSAL: _Kind.REFUSAL, LIST: _Kind.LIST}


class _State(Enum):
    """What the peer has to say next."""

    GREETING = auto()
    NAME = auto()
    DONE = auto()


class _Negotiation:
    """What both roles do: cut lines, and let the role's table say what each means."""

    _steps: ClassVar[dict[tuple[_State, _Kind], str]]
    """Names of methods by state and line; a missing entry is the peer's error."""

    def __init__(self) -> None:
        self._state = _State.GREETING
        self._received = bytearray()
        self._unsent = bytearray()
        self._selected: str | None = None

    @property
    def selected(self) -> str | None:
        """The protocol agreed on; None as long as there is none."""
        return self._selected

    @property
    def greeted(self) -> bool:
        """Whether the peer's greeting has come."""
        return self._state is not _State.GREETING

    @property
    def trailing_data(self) -> bytes:
        """What the peer sent behind its last line: the first bytes of the selected protocol."""
        return bytes(self._received) if self._selected is not None else b""

    def data_to_send(self) -> bytes:
        """Return what is to be sent now, once; b"" for nothing."""
        unsent, self._unsent = bytes(self._unsent), bytearray()
        return unsent

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes of the peer; then look at `selected` and `data_to_send`.

        Once a protocol is selected, hand bytes to that protocol instead, `trailing_data` first.

        Raises:
            RemoteProtocolError: what it sent is no multistream-select.
            NoCommonProtocol: there is nothing left to propose, or too much was proposed.
        """
        self._received += data
        while self._state is not _State.DONE and (line := self._next_line()) is not None:
            step = self._steps.get((self._state, _KINDS.get(line, _Kind.NAME)))
            if step is None:
                raise RemoteProtocolError(f"multistream-select: unexpected line {line[:80]!r}")
            getattr(self, step)(line)

    def _next_line(self) -> str | None:
        prefix = decode_varint(self._received, max_bytes=_MAX_PREFIX)
        if prefix is None:
            return None
        length, start = prefix
        if not 1 <= length <= (len(GREETING) + 1 if self._state is _State.GREETING else MAX_LINE):
            raise RemoteProtocolError(f"multistream-select: a line of {length} bytes")
        if len(self._received) < start + length:
            return None
        raw = bytes(self._received[start : start + length])
        if raw[-1:] != b"\n":
            raise RemoteProtocolError("multistream-select: a line without a newline")
        del self._received[: start + length]
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError("multistream-select: a line that is not UTF-8") from None

    def _say(self, text: str) -> None:
        self._unsent += encode_line(text)

    def _select(self, protocol: str) -> None:
        self._selected = protocol
        self._state = _State.DONE


class Dialler(_Negotiation):
    """The side that proposes.

    Args:
        protocols: what to propose, best first; at least one.
    """

    _steps: ClassVar = {
        (_State.GREETING, _Kind.GREETING): "_greeted",
        (_State.NAME, _Kind.REFUSAL): "_refused",
        (_State.NAME, _Kind.NAME): "_accepted",
    }

    def __init__(self, protocols: Sequence[str]) -> None:
        super().__init__()
        self._proposed, *self._further = protocols
        self._say(GREETING)
        self._say(self._proposed)

    @property
    def optimistic(self) -> bool:
        """Whether bytes of the protocol may follow at once: only one is proposed, and it is that or nothing."""
        return not self._further

    def _greeted(self, _line: str) -> None:
        self._state = _State.NAME

    def _refused(self, _line: str) -> None:
        if not self._further:
            raise NoCommonProtocol(f"the peer does not speak {self._proposed}")
        self._proposed = self._further.pop(0)
        self._say(self._proposed)

    def _accepted(self, line: str) -> None:
        if line != self._proposed:
            raise RemoteProtocolError(f"multistream-select: {self._proposed} is answered with {line[:80]!r}")
        self._select(line)


class Listener(_Negotiation):
    """The side that is asked.

    Args:
        protocols: what is spoken here.
    """

    _steps: ClassVar = {
        (_State.GREETING, _Kind.GREETING): "_greeted",
        (_State.NAME, _Kind.LIST): "_asked_for_all",
        (_State.NAME, _Kind.NAME): "_proposed",
    }

    def __init__(self, protocols: Collection[str]) -> None:
        super().__init__()
        self._protocols = protocols
        self._proposals = 0

    def _greeted(self, _line: str) -> None:
        self._state = _State.NAME
        self._say(GREETING)

    def _asked_for_all(self, _line: str) -> None:
        self._count()
        names = b"".join(map(encode_line, self._protocols)) + b"\n"
        self._unsent += encode_varint(len(names)) + names

    def _proposed(self, line: str) -> None:
        self._count()
        if line in self._protocols:
            self._say(line)
            self._select(line)
        else:
            self._say(REFUSAL)

    def _count(self) -> None:
        self._proposals += 1
        if self._proposals > MAX_PROPOSALS:
            raise NoCommonProtocol(f"the peer proposed {MAX_PROPOSALS} protocols, none of them spoken here")
