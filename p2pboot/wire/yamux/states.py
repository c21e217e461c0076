"""The two directions of a stream, as tables: what may happen in which state, and what comes of it.

FIN ends one direction in order, RST both at once; a direction that has ended in order stays so whatever comes.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Sending(Enum):
    """Our direction."""

    OPEN = auto()
    CLOSING = auto()  # nothing more is written; what waits goes out, then FIN
    ENDED = auto()
    RESET = auto()


class Receiving(Enum):
    """The peer's direction."""

    OPEN = auto()
    ENDED = auto()
    RESET = auto()


class Cause(Enum):
    """What moves a direction."""

    DATA = auto()
    CLOSE = auto()
    FIN = auto()
    RST = auto()


# Missing entries are errors: ours where we send, the peer's where it does.
SENDING: Final = {
    (Sending.OPEN, Cause.DATA): Sending.OPEN,
    (Sending.OPEN, Cause.CLOSE): Sending.CLOSING,
    (Sending.CLOSING, Cause.CLOSE): Sending.CLOSING,
    (Sending.CLOSING, Cause.FIN): Sending.ENDED,
    (Sending.ENDED, Cause.CLOSE): Sending.ENDED,
    (Sending.OPEN, Cause.RST): Sending.RESET,
    (Sending.CLOSING, Cause.RST): Sending.RESET,
    (Sending.ENDED, Cause.RST): Sending.ENDED,
    (Sending.RESET, Cause.RST): Sending.RESET,
}
RECEIVING: Final = {
    (Receiving.OPEN, Cause.DATA): Receiving.OPEN,
    (Receiving.OPEN, Cause.FIN): Receiving.ENDED,
    (Receiving.ENDED, Cause.FIN): Receiving.ENDED,
    (Receiving.OPEN, Cause.RST): Receiving.RESET,
    (Receiving.ENDED, Cause.RST): Receiving.ENDED,
    (Receiving.RESET, Cause.RST): Receiving.RESET,
}
