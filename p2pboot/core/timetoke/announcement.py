"""Announcements: a signer says which snapshot it made, and in which order.

A small document in canonical JSON (RFC 8785) with exactly these members::

    {"chunk_length": 1048576, "chunk_table": "<64 hex>",  length and BLAKE3 digest of the chunk table
     "created_at": "2025-11-26T12:00:00Z",
     "payload_signature": "<base64>",                     what stands in the .sig file
     "record_count": 100000, "root": "<64 hex>",          BLAKE3 of the payload
     "sequence": 7,                                       from the source: higher is newer
     "sig": "<base64>",                                   over all but this member
     "signer": "ed25519:<64 hex>", "size": 12345678,
     "spec": "timetoke-announcement/1", "timetoke_root": "<64 hex>"}

`sig` is Ed25519 over the ASCII bytes `timetoke-announcement/1`, one NUL byte, and the canonical JSON without
`sig`. The prefix keeps it apart from the signature over a payload: no payload begins so.

So a stranger's chunk is checked as soon as it is there, spam costs one signature check, and "latest" has an
order. :meth:`Announcement.parse` is strict: one announcement has one form.
"""

from __future__ import annotations

import base64
import dataclasses
from typing import Any, Final

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import is_digest
from p2pboot.core.identity import SIGNATURE_BYTES, PublicKey, SecretKey
from p2pboot.core.jsonform import MAX_INTEGER, canonical, decode_typed, not_canonical
from p2pboot.core.manifest.fields import check_base64, check_time
from p2pboot.core.pieces import PieceTable, piece_count
from p2pboot.core.timestamps import format_time
from p2pboot.errors import Malformed, SignatureError

SPEC: Final = "timetoke-announcement/1"
MAX_ANNOUNCEMENT: Final = 4096
"""Bytes; one takes about 800."""

_DOMAIN: Final = SPEC.encode("ascii") + b"\0"


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document's members, sorted by name."""

    chunk_length: int
    chunk_table: str
    created_at: str
    payload_signature: str
    record_count: int
    root: str
    sequence: int
    sig: str
    signer: str
    size: int
    spec: str
    timetoke_root: str


_WIRE: Final = msgspec.json.Decoder(_Wire)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFacts:
    """What is announced of a snapshot, whoever announces it: signers of one payload agree on all of it.

    Its fields are members of the document.

    Args:
        root: BLAKE3 of the payload, hex.
        size: of the payload, bytes.
        chunk_length: of every chunk but the last, bytes.
        chunk_table: BLAKE3 of the chunk table, hex.
        timetoke_root: as the payload states it.
        record_count: how many records there are.
    """

    root: str
    size: int
    chunk_length: int
    chunk_table: str
    timetoke_root: str
    record_count: int

    @classmethod
    def of(cls, root: str, table: PieceTable, timetoke_root: str, record_count: int) -> SnapshotFacts:
        """Put together what publishing a payload finds out."""
        return cls(
            root=root,
            size=table.size,
            chunk_length=table.piece_length,
            chunk_table=table.digest,
            timetoke_root=timetoke_root,
            record_count=record_count,
        )

    @property
    def total_chunks(self) -> int:
        """Into how many chunks the payload is cut."""
        return piece_count(self.size, self.chunk_length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A well-formed announcement with a good signature; says nothing about whether its signer is trusted."""

    raw: bytes
    """The document: what is gossiped, stored and served."""
    facts: SnapshotFacts
    sequence: int
    created_at: int
    """Unix seconds."""
    signer: str
    """A key id."""
    payload_signature: str
    """Base64; whether it is the signer's over the payload shows when the payload is there."""

    @property
    def root(self) -> str:
        """BLAKE3 of the payload, hex."""
        return self.facts.root

    @property
    def subject(self) -> tuple[str, str]:
        """What signers must agree on to add up: (root, timetoke root)."""
        return self.facts.root, self.facts.timetoke_root

    @classmethod
    def parse(cls, raw: bytes) -> Announcement:
        """Read an announcement from a stranger.

        Raises:
            Malformed: no announcement, or not in its one form.
            SignatureError: `sig` is not the signer's.
        """
        return claim(raw).confirm()

    @classmethod
    def make(
        cls, facts: SnapshotFacts, *, sequence: int, created_at: int, payload_signature: str, key: SecretKey
    ) -> Announcement:
        """Sign an announcement.

        Raises:
            ValueError: a value that has no place in an announcement (a sequence below 0, for example).
        """
        body: dict[str, Any] = {
            **dataclasses.asdict(facts),
            "created_at": format_time(created_at),
            "payload_signature": payload_signature,
            "sequence": sequence,
            "signer": key.public.keyid,
            "spec": SPEC,
        }
        sig = base64.b64encode(key.sign(_DOMAIN + canonical(body))).decode("ascii")
        try:
            return cls.parse(canonical(body | {"sig": sig}))
        except Malformed as error:
            raise ValueError(error.message) from None


@dataclass(frozen=True, slots=True)
class Claim:
    """A document in the form of an announcement whose signature nobody has checked yet."""

    announcement: Announcement
    signed: bytes
    sig: bytes

    @property
    def signer(self) -> str:
        """Who is said to have signed it."""
        return self.announcement.signer

    def confirm(self) -> Announcement:
        """Check the signature: the one thing here that costs more than microseconds.

        Raises:
            SignatureError: it is not the signer's.
        """
        if not PublicKey.from_keyid(self.signer).verify(self.signed, self.sig):
            raise SignatureError(f"the announcement is not signed by {self.signer}")
        return self.announcement


def claim(raw: bytes) -> Claim:
    """Read everything but the signature.

    Raises:
        Malformed: no announcement, or not in its one form.
    """
    if len(raw) > MAX_ANNOUNCEMENT:
        raise Malformed(f"{len(raw)} bytes are more than an announcement's {MAX_ANNOUNCEMENT}")
    wire = decode_typed(raw, _WIRE)
    if wire.spec != SPEC:
        raise Malformed(f"spec: {wire.spec[:40]!r} is not {SPEC!r}")
    announcement = Announcement(
        raw=raw,
        facts=_facts(wire),
        sequence=_counter("sequence", wire.sequence),
        created_at=check_time("created_at", wire.created_at),
        signer=_keyid(wire.signer),
        payload_signature=wire.payload_signature,
    )
    _signature("payload_signature", wire.payload_signature)
    sig = _signature("sig", wire.sig)
    members = msgspec.structs.asdict(wire)
    expected = canonical(members)
    if expected != raw:
        raise Malformed(not_canonical(raw, expected))
    del members["sig"]
    return Claim(announcement, _DOMAIN + canonical(members), sig)


def _facts(wire: _Wire) -> SnapshotFacts:
    for name in ("root", "chunk_table", "timetoke_root"):
        if not is_digest(getattr(wire, name)):
            raise Malformed(f"{name}: must be 64 lowercase hex digits")
    try:
        piece_count(wire.size, wire.chunk_length)
    except ValueError as error:
        raise Malformed(f"chunk_length: {error}") from None
    return SnapshotFacts(
        root=wire.root,
        size=_counter("size", wire.size),
        chunk_length=wire.chunk_length,
        chunk_table=wire.chunk_table,
        timetoke_root=wire.timetoke_root,
        record_count=_counter("record_count", wire.record_count),
    )


def _counter(place: str, number: int) -> int:
    if not 0 <= number <= MAX_INTEGER:
        raise Malformed(f"{place}: {str(number)[:24]} is not from 0 to 2^53-1")
    return number


def _keyid(text: str) -> str:
    try:
        return PublicKey.from_keyid(text).keyid
    except ValueError as error:
        raise Malformed(f"signer: {error}") from None


def _signature(place: str, text: str) -> bytes:
    raw = check_base64(place, text)
    if len(raw) != SIGNATURE_BYTES:
        raise Malformed(f"{place}: holds {len(raw)} bytes, an Ed25519 signature has {SIGNATURE_BYTES}")
    return raw
