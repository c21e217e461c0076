"""Requests and replies of `/p2pboot/snapshot/1`: announcements, and snapshots chunk by chunk.

Owns what the JSON objects of this protocol mean, for both sides; `protocol.snapshot_client` what a client
makes of a reply. `docs/protocol-wire.md` is the specification.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import ClassVar, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import MAX_PIECES
from p2pboot.protocol.checks import InvalidRequest, check_digest, check_integer, is_keyid
from p2pboot.protocol.frames import encode_array

SNAPSHOT_PROTOCOL: Final = "/p2pboot/snapshot/1"
SNAPSHOT_TOPIC: Final = "/p2pboot/1/snapshots"
"""The gossip topic of announcements; a message is one announcement's bytes."""

MAX_SNAPSHOT_HEADS: Final = 256
MAX_SNAPSHOT_HEADS_BYTES: Final = MAX_SNAPSHOT_HEADS * 256
"""An entry takes about 190 bytes."""


@dataclass(frozen=True, slots=True)
class SnapshotHeadsRequest:
    """Which announced snapshots the peer holds."""

    op: ClassVar[str] = "heads"


@dataclass(frozen=True, slots=True)
class AnnouncementRequest:
    """The announcement of one snapshot by one signer (a key id)."""

    op: ClassVar[str] = "announcement"
    signer: str
    root: str

    def __post_init__(self) -> None:
        if not is_keyid(self.signer):
            raise InvalidRequest("signer is not ed25519: and 64 lowercase hex digits")
        check_digest(self.root, "root")


@dataclass(frozen=True, slots=True)
class _OfSnapshot:
    root: str

    def __post_init__(self) -> None:
        check_digest(self.root, "root")


class InfoRequest(_OfSnapshot):
    """Size, chunks and signature of a snapshot."""

    op: ClassVar[str] = "info"


class ChunksRequest(_OfSnapshot):
    """The chunk table of a snapshot."""

    op: ClassVar[str] = "chunks"


@dataclass(frozen=True, slots=True)
class ChunkRequest(_OfSnapshot):
    """One chunk."""

    op: ClassVar[str] = "chunk"
    index: int

    def __post_init__(self) -> None:
        check_digest(self.root, "root")
        check_integer(self.index, "index", 0, MAX_PIECES - 1)


SnapshotRequest = SnapshotHeadsRequest | AnnouncementRequest | InfoRequest | ChunksRequest | ChunkRequest


@dataclass(frozen=True, slots=True)
class SnapshotHead:
    """An announced snapshot that a peer holds; hearsay until the announcement is there and checked."""

    signer: str
    sequence: int
    root: str


def encode_snapshot_heads(heads: Iterable[SnapshotHead]) -> bytes:
    """The body of the reply to `heads`: the first 256."""
    return encode_array(map(asdict, heads), MAX_SNAPSHOT_HEADS, MAX_SNAPSHOT_HEADS_BYTES)
