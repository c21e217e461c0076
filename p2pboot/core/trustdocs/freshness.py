"""Freshness statements: what the newest manifest of a channel and arch is, said again every few hours.

::

    {"arch": "x86_64", "channel": "stable", "created_at": "…", "fleet": "<64 hex>",
     "head": {"digest": "<64 hex>", "manifest_version": 7}, "minimum": 6,
     "paused": {"since": "…"},                      of a roll-out only, while it is paused
     "root_version": 2, "signatures": […], "signers": ["ed25519:…"],
     "spec": "p2pboot-freshness/1", "valid_until": "…"}

Whoever holds machines back has nothing younger to show. A statement alone makes nobody take anything: it only takes
away. Of two the one with the later `created_at` counts, so that there is no counter that could be lost.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import is_digest
from p2pboot.core.jsonform import MAX_INTEGER
from p2pboot.core.manifest import fields
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.envelope import Document, Unchecked, decode, drafted
from p2pboot.errors import Malformed, SignatureError

SPEC: Final = "p2pboot-freshness/1"
MAX_FRESHNESS: Final = 4096
"""Bytes; one takes about 700."""

VALID_S: Final = 86_400
RENEW_S: Final = 6 * 3600
SETTLE_S: Final = 3600
"""For how long after a publication clients may still take what was the head before: mirrors fill meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessBody:
    """What a statement says; times in unix seconds. Every field has passed the rules of the format."""

    fleet: str
    root_version: int
    channel: str
    arch: str
    created_at: int
    valid_until: int
    head_version: int
    """The `manifest_version` of the newest manifest."""
    head_digest: str
    """Its manifest digest, hex."""
    minimum: int
    """Nothing lower is to be taken; at most `head_version`."""
    signers: tuple[str, ...]
    paused_since: int | None = None
    """When a roll-out was paused; None while it goes on."""

    @property
    def pair(self) -> tuple[str, str]:
        """The channel and arch."""
        return self.channel, self.arch

    def members(self) -> dict[str, Any]:
        """The document's members without its signatures."""
        members: dict[str, Any] = {
            "spec": SPEC,
            "fleet": self.fleet,
            "root_version": self.root_version,
            "channel": self.channel,
            "arch": self.arch,
            "created_at": format_time(self.created_at),
            "valid_until": format_time(self.valid_until),
            "head": {"manifest_version": self.head_version, "digest": self.head_digest},
            "minimum": self.minimum,
            "signers": sorted(self.signers),
        }
        if self.paused_since is not None:
            members["paused"] = {"since": format_time(self.paused_since)}
        return members

    def document(self) -> bytes:
        """The document that waits for its signatures.

        Raises:
            UsageError: it breaks a rule of the format; the message names the member.
        """
        return drafted(self.members(), decode_freshness, "a freshness statement")


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness(Document):
    """A statement signed by exactly those whom it names; whether they have a say is the policy's to know."""

    body: FreshnessBody

    @classmethod
    def parse(cls, raw: bytes) -> Freshness:
        """Read a statement from anyone.

        Raises:
            Malformed: no statement, or not in its one form.
            SignatureError: a signature is missing, foreign, or does not match.
        """
        return check_freshness(decode_freshness(raw))

    @property
    def pair(self) -> tuple[str, str]:
        """The channel and arch."""
        return self.body.pair

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Freshness) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)


def check_freshness(found: Unchecked[FreshnessBody]) -> Freshness:
    """Check what `decode_freshness` read.

    Raises:
        SignatureError: a signature is missing, foreign, or does not match.
        Malformed: not in canonical form.
    """
    if found.signers != found.claims.signers:
        raise SignatureError("signatures: must be one of each of the signers, and no other")
    found.check()
    return Freshness(raw=found.raw, digest=found.digest, signed_by=found.signers, body=found.claims)


class _Head(msgspec.Struct, frozen=True):
    manifest_version: int
    digest: str


class _Paused(msgspec.Struct, frozen=True):
    since: str


class _Freshness(msgspec.Struct, frozen=True, kw_only=True):
    fleet: str
    root_version: int
    channel: str
    arch: str
    created_at: str
    valid_until: str
    head: _Head
    minimum: int
    signers: list[str]
    paused: _Paused | msgspec.UnsetType = msgspec.UNSET


_DECODER: Final = msgspec.json.Decoder(_Freshness)


def decode_freshness(raw: bytes) -> Unchecked[FreshnessBody]:
    """Stage one of reading a statement: see `envelope.decode`.

    Raises:
        Malformed: naming the member and what is wrong with it.
        SignatureError: a signature is none.
    """
    return decode(raw, SPEC, _DECODER, _read, max_bytes=MAX_FRESHNESS)


def _read(wire: _Freshness) -> FreshnessBody:
    fleet, root_version = check_fleet(wire.fleet, wire.root_version)
    if not is_digest(wire.head.digest):
        raise Malformed("head.digest: must be 64 lowercase hex digits")
    created_at = fields.check_time("created_at", wire.created_at)
    valid_until = fields.check_time("valid_until", wire.valid_until)
    if valid_until <= created_at:
        raise Malformed("valid_until: must be later than created_at")
    head_version = fields.check_integer("head.manifest_version", wire.head.manifest_version)
    if not 0 <= wire.minimum <= head_version:
        raise Malformed("minimum: must be from 0 to the head's version")
    since = None
    if not isinstance(wire.paused, msgspec.UnsetType):
        since = fields.check_time("paused.since", wire.paused.since)
        if since > created_at:
            raise Malformed("paused.since: must not be later than created_at")
    return FreshnessBody(
        fleet=fleet,
        root_version=root_version,
        channel=fields.check_channel("channel", wire.channel),
        arch=fields.check_arch("arch", wire.arch),
        created_at=created_at,
        valid_until=valid_until,
        head_version=head_version,
        head_digest=wire.head.digest,
        minimum=wire.minimum,
        signers=fields.check_signers("signers", wire.signers),
        paused_since=since,
    )


def check_fleet(fleet: str, root_version: int) -> tuple[str, int]:
    """Return a fleet and the version of its root, if they have the right form; Malformed otherwise."""
    if not is_digest(fleet):
        raise Malformed("fleet: must be 64 lowercase hex digits")
    is_none = not int(fleet, 16)
    if not (root_version == 0 if is_none else 1 <= root_version <= MAX_INTEGER):
        raise Malformed("root_version: from 1 to 2^53-1; without a root, where fleet is 64 zeros, 0")
    return fleet, root_version
