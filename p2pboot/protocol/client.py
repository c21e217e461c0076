"""What a client may ask, and what it accepts as an answer.

A `Query` is a request together with what an acceptable answer looks like: how long its body may be, and how
it is read. So nothing is allocated that was not asked for, and a reply that does not fit is the peer's fault
at once.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import DIGEST_BYTES, is_digest
from p2pboot.core.manifest import MAX_MANIFEST
from p2pboot.core.names import NAME_PATTERN
from p2pboot.core.pieces import PieceSet, PieceTable, piece_count
from p2pboot.core.trustdocs.chain import MAX_CHAIN
from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT
from p2pboot.errors import ProtocolError, RemoteProtocolError
from p2pboot.protocol.checks import is_keyid
from p2pboot.protocol.frames import decode_array
from p2pboot.protocol.messages import (
    MAX_ASKERS_RECORD,
    MAX_COUNTER,
    MAX_DETACHED,
    MAX_DOCUMENTS_BYTES,
    MAX_HEADS,
    MAX_HEADS_BYTES,
    MAX_PEER_RECORD,
    MAX_PEERS,
    MAX_PEERS_BYTES,
    FreshnessRequest,
    HaveRequest,
    Head,
    HeadsRequest,
    ManifestRequest,
    PeersRequest,
    PiecesRequest,
    ReadRequest,
    Request,
    RootsRequest,
    Status,
    YanksRequest,
    encode_request,
)
from p2pboot.protocol.withheld import WithheldHead, decode_withheld

T_co = TypeVar("T_co", covariant=True)
_Header = Mapping[str, object]


class PeerRefused(ProtocolError):
    """The peer answered in good order, and not with ok; the stream stays usable.

    `reason` is what the peer says why, for people: bounded, printable, and its word only; often "".
    """

    def __init__(self, status: Status, op: str, reason: str = "") -> None:
        super().__init__(f"the peer answered {status.value} to {op}" + (f": {reason}" if reason else ""))
        self.status = status
        self.reason = reason


class PeerLacks(PeerRefused):
    """It does not hold what was asked for (`not_found`), or not intact any more (`gone`)."""


class PeerBusy(PeerRefused):
    """It serves others first: ask later, or another peer.

    `retry_s` is when it says that it is worth asking again, seconds, None where it says nothing; `ask` are the ids of
    peers that may have what it does not give now. Its word only, and bounded.
    """

    def __init__(
        self,
        status: Status,
        op: str,
        reason: str = "",
        retry_s: float | None = None,
        ask: tuple[str, ...] = (),
    ) -> None:
        super().__init__(status, op, reason)
        self.retry_s = retry_s
        self.ask = ask


class HeadsReply(NamedTuple):
    """What a peer says that it offers, and what it knows of and does not offer; hearsay, both."""

    heads: tuple[Head, ...]
    withheld: tuple[WithheldHead, ...] = ()


class ManifestReply(NamedTuple):
    """A manifest's bytes as a stranger gave them, and the text of its detached signature if it has one."""

    raw: bytes
    detached: str | None


@dataclass(frozen=True, slots=True)
class Query(Generic[T_co]):
    """A request and the answer that it allows.

    Args:
        request: what is asked.
        min_length, max_length: of the body, bytes; equal where the length is known beforehand.
        decode: makes the answer from header and body; raises RemoteProtocolError, Malformed or ValueError
            when the peer sent nonsense. It may keep the body.
        label: what is asked for, in messages; by default the operation.
        memory: makes the memory that a body of so many bytes comes into, exactly as long.
        begin: is given the header of an ok reply before its body comes; raises as `decode` does.
    """

    request: Request
    min_length: int
    max_length: int
    decode: Callable[[_Header, bytearray], T_co]
    label: str = ""
    memory: Callable[[int], bytearray] = bytearray
    begin: Callable[[_Header], None] | None = None

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self.label or self.request.op

    @property
    def frame(self) -> bytes:
        """What goes on the wire."""
        return encode_request(self.request)


def ask_heads(channel: str | None = None, arch: str | None = None) -> Query[HeadsReply]:
    """Which manifests does the peer hold wholly? At most 256; narrow it with channel and arch."""
    return Query(HeadsRequest(channel, arch), len("[]"), MAX_HEADS_BYTES, _decode_heads)


def ask_peers(
    channel: str | None = None,
    arch: str | None = None,
    *,
    digest: str | None = None,
    record: bytes = b"",
    site: str | None = None,
) -> Query[tuple[bytes, ...]]:
    """Whom does the peer know? At most 32 signed peer records, unverified.

    Args:
        channel: what is looked for; None for anything.
        arch: what is looked for; None for anything.
        digest: of the manifest that is fetched or served.
        record: the own signed one, which may be told to others for 60 s. One above `MAX_ASKERS_RECORD` is left out:
            the request has no room for it.
        site: the operator's name of the place where this machine stands.
    """
    told = b64encode(record).decode() if 1 <= len(record) <= MAX_ASKERS_RECORD else None
    request = PeersRequest(channel, arch, digest, told, site)
    return Query(request, len("[]"), MAX_PEERS_BYTES, _decode_peers)


def ask_roots(fleet: str, after: int = 0) -> Query[tuple[bytes, ...]]:
    """Which roots of a fleet come after a version? At most 1 MiB of them: ask again from there on.

    Args:
        fleet: the digest of version 1, or of any version that is known.
        after: a version; 0 for all.
    """
    return Query(RootsRequest(fleet, after), len("[]"), MAX_DOCUMENTS_BYTES, _decode_documents)


def ask_freshness(channel: str, arch: str) -> Query[tuple[bytes, ...]]:
    """What is the newest freshness statement? One of each fleet, unverified."""
    return Query(FreshnessRequest(channel, arch), len("[]"), MAX_DOCUMENTS_BYTES, _decode_documents)


def ask_yanks(channel: str, arch: str, after: str | None = None) -> Query[tuple[bytes, ...]]:
    """What was yanked? Unverified, the newest first; at most 1 MiB of them: see `fetch.asking.yankpages`.

    Args:
        channel: its yanks.
        arch: and of this (canonical) one.
        after: the content of the last one that came before; None from the newest on.
    """
    return Query(YanksRequest(channel, arch, after), len("[]"), MAX_DOCUMENTS_BYTES, _decode_documents)


def may_be_cut(documents: Iterable[bytes]) -> bool:
    """Whether a reply with these documents had no room for one more, if that is as large as a document may be."""
    one_more = _base64_length(MAX_DOCUMENT)
    return len("[]") + sum(_base64_length(len(one)) for one in documents) + one_more > MAX_DOCUMENTS_BYTES


def _base64_length(size: int) -> int:
    """What a document of so many bytes takes in a reply, its quotes and a comma with it."""
    return -(-size // 3) * 4 + len('"",')


def ask_manifest(digest: str) -> Query[ManifestReply]:
    """The manifest with this manifest digest (64 lowercase hex digits)."""
    return Query(ManifestRequest(digest), 1, MAX_MANIFEST, _decode_manifest)


def ask_read(
    sha256: str, offset: int, length: int, memory: Callable[[int], bytearray] = bytearray
) -> Query[bytearray]:
    """`length` bytes (1 to 16 MiB) of an artifact, from `offset` bytes on; see `Query` for the memory."""
    return Query(
        ReadRequest(sha256, offset, length), length, length, lambda _header, body: body, memory=memory
    )


def ask_pieces(sha256: str, *, size: int, piece_length: int, table_digest: str) -> Query[PieceTable]:
    """The piece table of an artifact, checked against what the signed manifest says of it; it is asked for by name."""

    def decode(_header: _Header, body: bytearray) -> PieceTable:
        return PieceTable.parse(bytes(body), size=size, piece_length=piece_length, digest_hex=table_digest)

    length = piece_count(size, piece_length) * DIGEST_BYTES
    return Query(PiecesRequest(sha256, table_digest), length, length, decode)


def ask_have(sha256: str, count: int, table_digest: str | None = None) -> Query[PieceSet]:
    """Which of the `count` pieces of an artifact, as this table cuts it, does the peer hold?"""
    length = -(-count // 8)
    return Query(
        HaveRequest(sha256, table_digest),
        length,
        length,
        lambda _header, body: PieceSet.from_bytes(bytes(body), count),
    )


def _decode_manifest(header: _Header, body: bytearray) -> ManifestReply:
    detached = header.get("detached")
    if detached is not None and not (isinstance(detached, str) and len(detached) <= MAX_DETACHED):
        raise RemoteProtocolError(f"detached is neither null nor a text of at most {MAX_DETACHED} characters")
    return ManifestReply(bytes(body), detached)


def _decode_documents(_header: _Header, body: bytearray) -> tuple[bytes, ...]:
    return tuple(_decode_item(item, "trust document", MAX_DOCUMENT) for item in decode_array(body, MAX_CHAIN))


def _decode_peers(_header: _Header, body: bytearray) -> tuple[bytes, ...]:
    return tuple(_decode_item(item, "peer record", MAX_PEER_RECORD) for item in decode_array(body, MAX_PEERS))


def _decode_item(item: object, what: str, most: int) -> bytes:
    """The bytes of one entry of an array in base64."""
    try:
        raw = b64decode(item, validate=True) if isinstance(item, str) else b""
    except ValueError:
        raw = b""
    if not 1 <= len(raw) <= most:
        raise RemoteProtocolError(f"a {what} is not base64 of 1 to {most} bytes")
    return raw


def _decode_heads(header: _Header, body: bytearray) -> HeadsReply:
    heads = tuple(_decode_head(item) for item in decode_array(body, MAX_HEADS))
    return HeadsReply(heads, decode_withheld(header.get("withheld")))


def _decode_head(item: object) -> Head:
    match item:
        case {
            "channel": str(channel),
            "arch": str(arch),
            "signers": [str(), *_] as signers,
            "manifest_version": int(version),
            "digest": str(digest),
            "size": int(size),
        } if (
            NAME_PATTERN.fullmatch(channel)
            and NAME_PATTERN.fullmatch(arch)
            and all(is_keyid(signer) for signer in signers)
            and is_digest(digest)
            and type(version) is int  # True matches int() as well
            and 1 <= version <= MAX_COUNTER
            and type(size) is int
            and 1 <= size <= MAX_MANIFEST
        ):
            return Head(channel, arch, tuple(signers), version, digest, size)
    raise RemoteProtocolError("an entry of heads has a member that is missing or not allowed")
