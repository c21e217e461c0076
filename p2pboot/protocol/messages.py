"""Requests and replies of `/p2pboot/sync/1` and `/p2pboot/artifact/1`, with the limits that both sides share.

What all protocols have in common is here as well: how a request is parsed, and what a reply looks like.

Owns what the JSON objects mean; `protocol.frames` owns how they are cut out of the stream, `protocol.client`
what a client makes of a reply. `docs/protocol-wire.md` is the specification.

A request is a frozen object that was checked when it was built, so a server never meets an invalid one and a
client can not send one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, fields
from enum import StrEnum
from itertools import islice
from typing import Any, ClassVar, Final, Self, get_args

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest.detached import MAX_DETACHED_CHARS
from p2pboot.core.names import ARCHS, check_name
from p2pboot.core.pieces import MIB
from p2pboot.core.trustdocs.chain import MAX_CHAIN
from p2pboot.protocol.checks import InvalidRequest, check_digest, check_integer, decode_base64
from p2pboot.protocol.frames import NotJson, decode_object, encode_array, encode_frame
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL, SnapshotRequest
from p2pboot.protocol.swarm import MAX_ASK, MAX_RETRY_MS, SWARM_PROTOCOL, SwarmRequest
from p2pboot.protocol.withheld import readable

SYNC_PROTOCOL: Final = "/p2pboot/sync/1"
ARTIFACT_PROTOCOL: Final = "/p2pboot/artifact/1"

MAX_READ: Final = 16 * MIB
"""Bytes that one `read` may ask for: the largest piece, so that every piece can be had by one request."""
MAX_IN_FLIGHT: Final = 16
"""Requests of one stream that a server works on; further ones wait unread, so that they cost the sender."""
MAX_HEADS: Final = 256
MAX_HEADS_BYTES: Final = MAX_HEADS * 1024
"""An entry with one signer takes about 350 bytes; 1 KiB each leaves room for ten signers."""
MAX_PEERS: Final = 32
MAX_PEER_RECORD: Final = 4096
"""Bytes of one signed peer record; one with a dozen addresses takes about 600."""
MAX_ASKERS_RECORD: Final = 2800
"""Bytes of the asker's own record for which a request of `peers` has room, whatever else is in it."""
TOLD_S: Final = 60.0
"""How long the record of who asked for peers is told to others; who wants to be told of asks again before."""
MAX_PEERS_BYTES: Final = MAX_PEERS * (MAX_PEER_RECORD * 4 // 3 + 8)
MAX_DETACHED: Final = MAX_DETACHED_CHARS
"""Characters of a detached signature's text: it travels in a header. Usually 88."""
MAX_COUNTER: Final = 2**53 - 1
"""Largest integer that every JSON implementation reads exactly (RFC 8259, section 6)."""


MAX_DOCUMENTS_BYTES: Final = 1024 * 1024
"""Of one reply with trust documents; who needs more asks again."""


def roots_topic(fleet: str) -> str:
    """The gossip topic on which new roots of one fleet are announced."""
    return f"/p2pboot/1/roots/{fleet}"


def freshness_topic(fleet: str, channel: str, arch: str) -> str:
    """The gossip topic of freshness statements of one fleet, channel and architecture."""
    return f"/p2pboot/1/freshness/{fleet}/{channel}/{arch}"


def yanks_topic(fleet: str, channel: str, arch: str) -> str:
    """The gossip topic of yanks of one fleet, channel and architecture."""
    return f"/p2pboot/1/yanks/{fleet}/{channel}/{arch}"


def manifest_topic(channel: str, arch: str) -> str:
    """The gossip topic on which manifests of one channel and architecture are announced."""
    return f"/p2pboot/1/manifests/{channel}/{arch}"


class Status(StrEnum):
    """What a reply says of its request. Only `OK` has a body."""

    OK = "ok"
    NOT_FOUND = "not_found"  # not held right now
    RANGE = "range"  # outside of the artifact
    BUSY = "busy"  # over this server's limits; another time, or another peer
    GONE = "gone"  # it was held, and what is on disk is not it any more
    BAD_REQUEST = "bad_request"  # an intact frame that is no request


def _check_name(value: object, what: str) -> None:
    if value is None:
        return
    try:
        check_name(value if isinstance(value, str) else "", what)
    except ValueError:
        raise InvalidRequest(f"{what} is not 1 to 64 of a-z 0-9 . _ -, the first a letter or digit") from None


@dataclass(frozen=True, slots=True)
class _OfPairs:
    """A request about channels and architectures; None means any."""

    channel: str | None = None
    arch: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.channel, "channel")
        if self.arch is not None and self.arch not in ARCHS:  # canonical names only: no aarch64
            raise InvalidRequest(f"arch is not one of {', '.join(ARCHS)}")


class HeadsRequest(_OfPairs):
    """Which current manifests the peer holds wholly, with their artifacts."""

    op: ClassVar[str] = "heads"


@dataclass(frozen=True, slots=True)
class PeersRequest(_OfPairs):
    """Whom the peer knows; channel and arch are hints at what the asker looks for.

    Args:
        digest: of the manifest that the asker fetches or serves: it is told of others who do.
        record: the asker's own signed peer record, in base64; it may be told to those others.
        site: what the asker's operator calls the place where it stands; a name.
    """

    op: ClassVar[str] = "peers"
    digest: str | None = None
    record: str | None = None
    site: str | None = None

    def __post_init__(self) -> None:
        _OfPairs.__post_init__(self)
        if self.digest is not None:
            check_digest(self.digest, "digest")
        if self.record is not None and not 1 <= len(self.record_bytes or b"") <= MAX_PEER_RECORD:
            raise InvalidRequest(f"record is not base64 of 1 to {MAX_PEER_RECORD} bytes")
        _check_name(self.site, "site")

    @property
    def record_bytes(self) -> bytes | None:
        """The record, unread; None without one."""
        return decode_base64(self.record)


@dataclass(frozen=True, slots=True)
class RootsRequest:
    """Roots of a fleet above a version, ascending.

    Args:
        fleet: the digest of version 1; or of any version, by who does not know what its fleet is called.
        after: the version; 0 for all.
    """

    op: ClassVar[str] = "roots"
    fleet: str
    after: int | None = 0

    def __post_init__(self) -> None:
        check_digest(self.fleet, "fleet")
        if self.after is None:  # absent, or null
            object.__setattr__(self, "after", 0)
        check_integer(self.after, "after", 0, MAX_COUNTER)


@dataclass(frozen=True, slots=True)
class _OfPair:
    """A request about one channel and architecture."""

    channel: str
    arch: str

    def __post_init__(self) -> None:
        _check_name(self.channel or "", "channel")
        if self.arch not in ARCHS:
            raise InvalidRequest(f"arch is not one of {', '.join(ARCHS)}")


class FreshnessRequest(_OfPair):
    """The newest freshness statements of a channel and arch, one of each fleet that the peer follows."""

    op: ClassVar[str] = "freshness"


@dataclass(frozen=True, slots=True)
class YanksRequest(_OfPair):
    """The yanks of a channel and arch, the newest first.

    Args:
        after: the content of the last one that came, to ask for those behind it; None from the newest on.
    """

    op: ClassVar[str] = "yanks"
    after: str | None = None

    def __post_init__(self) -> None:
        _OfPair.__post_init__(self)
        if self.after is not None:
            check_digest(self.after, "after")


@dataclass(frozen=True, slots=True)
class ManifestRequest:
    """One manifest, named by its manifest digest."""

    op: ClassVar[str] = "manifest"
    digest: str

    def __post_init__(self) -> None:
        check_digest(self.digest, "digest")


@dataclass(frozen=True, slots=True)
class _OfArtifact:
    sha256: str

    def __post_init__(self) -> None:
        check_digest(self.sha256, "sha256")


@dataclass(frozen=True, slots=True)
class ReadRequest(_OfArtifact):
    """`length` bytes of an artifact from `offset` on (both in bytes); never answered with fewer."""

    op: ClassVar[str] = "read"
    offset: int
    length: int

    def __post_init__(self) -> None:
        check_digest(self.sha256, "sha256")
        check_integer(self.offset, "offset", 0, MAX_COUNTER)
        check_integer(self.length, "length", 1, MAX_READ)


@dataclass(frozen=True, slots=True)
class _OfCut(_OfArtifact):
    """A request about an artifact as it is cut by one piece table.

    Args:
        table: the BLAKE3 of the table; None: that of the newest manifest that the peer has.
    """

    table: str | None = None

    def __post_init__(self) -> None:
        check_digest(self.sha256, "sha256")
        if self.table is not None:
            check_digest(self.table, "table")


class PiecesRequest(_OfCut):
    """The piece table of an artifact."""

    op: ClassVar[str] = "pieces"


class HaveRequest(_OfCut):
    """The bitmap of the pieces that the peer holds and has verified."""

    op: ClassVar[str] = "have"


DocumentsRequest = RootsRequest | FreshnessRequest | YanksRequest
SyncRequest = HeadsRequest | ManifestRequest | PeersRequest | DocumentsRequest
ArtifactRequest = ReadRequest | PiecesRequest | HaveRequest
Request = SyncRequest | ArtifactRequest | SnapshotRequest | SwarmRequest
_REQUESTS: Final[Mapping[tuple[str, str], type[Request]]] = {
    (protocol, kind.op): kind
    for protocol, union in (
        (SYNC_PROTOCOL, SyncRequest),
        (ARTIFACT_PROTOCOL, ArtifactRequest),
        (SNAPSHOT_PROTOCOL, SnapshotRequest),
        (SWARM_PROTOCOL, SwarmRequest),
    )
    for kind in get_args(union)
}
_MEMBERS: Final = {kind: tuple(field.name for field in fields(kind)) for kind in _REQUESTS.values()}


@dataclass(frozen=True, slots=True)
class BadRequest:
    """An intact frame that is no request of this protocol; `reason` is for people and repeats no input."""

    op: ClassVar[str] = "bad_request"
    reason: str


def parse_request(protocol: str, payload: bytes) -> Request | BadRequest:
    """What the payload of one frame asks for. Never raises, whatever a stranger sends.

    Args:
        protocol: of the stream; an operation of another one is unknown.
        payload: of one frame, at most 4096 bytes.
    """
    try:
        members = decode_object(payload)
    except NotJson as error:
        return BadRequest(str(error))
    op = members.get("op")
    kind = _REQUESTS.get((protocol, op)) if isinstance(op, str) else None
    if kind is None:
        return BadRequest("op is not an operation of this protocol")
    values: dict[str, Any] = {name: members.get(name) for name in _MEMBERS[kind]}
    try:
        return kind(**values)  # which checks every value, whatever its type: members come from strangers
    except InvalidRequest as error:
        return BadRequest(error.message)


def encode_request(request: Request) -> bytes:
    """The frame of a request; absent filters are left out."""
    members = ((name, getattr(request, name)) for name in _MEMBERS[type(request)])
    return encode_frame({"op": request.op, **{name: value for name, value in members if value is not None}})


@dataclass(frozen=True, slots=True)
class LongBody:
    """A body that is not held in memory: whoever sends it reads it on as the other side takes it.

    Args:
        first: its first bytes, at least one.
        length: of all of it, bytes.
        read: gives some of it, exactly: from which byte on, and how many. What it raises ends the reply in the middle.
    """

    first: bytes
    length: int
    read: Callable[[int, int], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: a header and, when ok, its body.

    `extra` are further members of the header; one with another status than OK has no body: see `refusal` and `busy`.
    `long_body` stands in place of `body`. `ended` is told how the reply ended, unless the stream ends before: whether
    all of it was handed to the connection, or another one went out in its place. It neither waits nor raises.
    """

    status: Status
    body: bytes | bytearray | memoryview = b""
    extra: Mapping[str, object] | None = None
    long_body: LongBody | None = None
    ended: Callable[[bool], None] | None = None

    @classmethod
    def refusal(cls, status: Status, reason: str | None) -> Self:
        """Another answer than ok.

        Args:
            status: not OK.
            reason: for the people at the other end, one line without anything that only this node's operator may
                know, such as paths.
        """
        return cls(status, extra={"reason": readable(reason)} if reason else None)

    @classmethod
    def busy(cls, retry_s: float, ask: Iterable[str] = ()) -> Self:
        """Not now.

        Args:
            retry_s: when it is worth asking again, seconds.
            ask: ids of peers that may have what is asked for; the first MAX_ASK are named.
        """
        named = list(islice(ask, MAX_ASK))
        return cls(
            Status.BUSY,
            extra={"retry_ms": round(min(retry_s * 1000, MAX_RETRY_MS)), **({"ask": named} if named else {})},
        )

    def encode_header(self) -> bytes:
        """The frame that goes before the body.

        Raises:
            LocalProtocolError: `extra` does not fit.
        """
        header: dict[str, object] = {"status": self.status.value}
        if self.status is Status.OK:
            header["length"] = len(self.body) if self.long_body is None else self.long_body.length
        return encode_frame({**header, **(self.extra or {})})


@dataclass(frozen=True, slots=True)
class Head:
    """A manifest that a peer holds wholly: an entry of the reply to `heads`.

    Hearsay until the manifest itself is there and verified. `size` is that of the manifest file, bytes.
    """

    channel: str
    arch: str
    signers: tuple[str, ...]
    manifest_version: int
    digest: str
    size: int


def encode_heads(heads: Iterable[Head]) -> bytes:
    """The body of the reply to `heads`: the first that fit into MAX_HEADS and MAX_HEADS_BYTES."""
    return encode_array(map(asdict, heads), MAX_HEADS, MAX_HEADS_BYTES)


def encode_documents(documents: Iterable[bytes]) -> bytes:
    """The body of a reply with trust documents: as many of the first as fit into MAX_DOCUMENTS_BYTES."""
    return encode_array((b64encode(one).decode() for one in documents), MAX_CHAIN, MAX_DOCUMENTS_BYTES)


def encode_peers(records: Iterable[bytes]) -> bytes:
    """The body of the reply to `peers`: the first MAX_PEERS of the records that are not too large."""
    usable = (b64encode(record).decode() for record in records if 1 <= len(record) <= MAX_PEER_RECORD)
    return encode_array(usable, MAX_PEERS, MAX_PEERS_BYTES)
