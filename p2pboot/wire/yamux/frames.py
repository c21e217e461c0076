"""Yamux's frames: a header of 12 bytes, and for data a body.

::

    version 1 | type 1 | flags 2 | stream id 4 | length 4      all big-endian

The length of a DATA frame is that of its body; of a WINDOW_UPDATE the bytes by which the window grows; of a PING its
value; of a GO_AWAY the reason.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

HEADER: Final = Struct(">BBHII")
HEADER_BYTES: Final = HEADER.size

DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8

NORMAL: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
NO_ROOM: Final = 0x1001
GATED: Final = 0x1007
"""libp2p's numbers for these, of its list of errors of connections; other implementations show them as unknown ones."""

SESSION: Final = 0
"""The stream id of frames that belong to no stream."""
INITIAL_WINDOW: Final = 256 * 1024
"""What either side may send on a new stream. It is never announced, and nobody begins with another one."""
MAX_STREAM_ID: Final = (1 << 32) - 1


def header(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    """One frame's header, or a whole frame that has no body."""
    return HEADER.pack(0, kind, flags, stream_id, length)
