"""Evidence: two signed documents that can not both be honest, and what they prove to whoever sees them.

A file of evidence is self-contained: anybody can judge it, without a network, a state, or believing who wrote it. What
it proves is only ever about keys: that they signed both. Who held them, nobody can tell.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.freshness import contradict
from p2pboot.core.jsonform import decode_typed
from p2pboot.core.manifest import Manifest
from p2pboot.core.manifest.fields import check_base64
from p2pboot.core.timestamps import format_time, parse_time
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.root import Root, check_signers
from p2pboot.errors import Malformed, P2PBootError, SignatureError

SPEC: Final = "p2pboot-evidence/1"
MANIFEST: Final = "manifest"
ROOT: Final = "root"
FRESHNESS: Final = "freshness"

MAX_FILE: Final = 8 * 1024 * 1024
"""Bytes of a file of evidence: room for some thirty of the largest, or a thousand usual ones."""
MAX_ENTRIES: Final = 1024
_MAX_WORDS: Final = 256


class NoEvidence(P2PBootError):
    """Two documents that prove nothing: both may be honest, or somebody made one up."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"this proves nothing: {why}", remedy="ask whoever showed it to you for the whole of it"
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two documents, as they were received.

    Args:
        kind: `MANIFEST`, `ROOT` or `FRESHNESS`.
        subject: what they are about, for people; nothing depends on it.
        first: one of them, bytes.
        second: the other.
        before: of roots, the version before, by which both were taken; None where it is not at hand.
        source: by whose word, for people; nothing depends on it.
        found_at: when, unix seconds; None where nobody knows. Nothing depends on it.
    """

    kind: str
    subject: str
    first: bytes
    second: bytes
    before: bytes | None = None
    source: str = ""
    found_at: int | None = None

    @property
    def name(self) -> str:
        """What it is called: 16 hex digits, the same on every machine that has these two."""
        both = sorted(hashlib.sha256(raw).digest() for raw in (self.first, self.second))
        return hashlib.sha256(b"".join(both)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Finding:
    """What evidence proves.

    Args:
        kind: as of the evidence.
        subject: what it is about, as the documents say.
        what: the contradiction, one line.
        digests: the identities of the two.
        culprits: key ids that signed both. Of roots it may be none: then enough keys signed each, and `involved` are
            those that signed either.
        involved: key ids that had a say and signed one of them.
        given: what one has to believe for that; empty where nothing is needed.
    """

    kind: str
    subject: str
    what: str
    digests: tuple[str, str]
    culprits: tuple[str, ...]
    involved: tuple[str, ...]
    given: str = ""

    @property
    def proves(self) -> str:
        """One line for a person."""
        if self.culprits:
            return f"{', '.join(self.culprits)} signed both"
        return f"keys of one role signed both, with none in common: {', '.join(self.involved)}"

    @property
    def proves_not(self) -> str:
        """The limits of it, one line for a person."""
        return (
            "who had these keys, which of the two was meant, or which was first;"
            " a lost counter or a restored backup looks the same as a stolen key"
        )


def judge(evidence: Evidence) -> Finding:
    """Find out what two documents prove.

    Raises:
        NoEvidence: nothing.
        Malformed, SignatureError: one of them is none, or was changed after it was signed.
    """
    match evidence.kind:
        case "manifest":
            return _manifests(Manifest.parse(evidence.first), Manifest.parse(evidence.second))
        case "freshness":
            return _statements(Freshness.parse(evidence.first), Freshness.parse(evidence.second))
        case "root":
            before = None if evidence.before is None else Root.parse(evidence.before)
            return _roots(Root.parse(evidence.first), Root.parse(evidence.second), before)
    raise Malformed(f"kind: {evidence.kind[:40]!r} is none of {MANIFEST}, {ROOT} and {FRESHNESS}")


def _manifests(first: Manifest, second: Manifest) -> Finding:
    if first.digest == second.digest:
        raise NoEvidence("it is one manifest twice")
    number = (first.channel, first.arch, first.manifest_version)
    if number != (second.channel, second.arch, second.manifest_version):
        raise NoEvidence("the two manifests are not of one channel, arch and number")
    culprits = _common(first.signers, second.signers)
    if not culprits:
        raise NoEvidence("no key signed both manifests; anybody may sign one of any number")
    return Finding(
        MANIFEST,
        f"{first.channel}/{first.arch}",
        f"two manifests with version {first.manifest_version}: sha256:{first.digest} and sha256:{second.digest}",
        (first.digest, second.digest),
        culprits,
        culprits,
    )


def _statements(first: Freshness, second: Freshness) -> Finding:
    if not contradict(first, second):
        raise NoEvidence(
            "no key signed both statements in one second, or lowered the minimum with the later one"
        )
    early, late = sorted((first, second), key=lambda one: one.body.created_at)
    at = format_time(late.body.created_at)
    if early.body.created_at == late.body.created_at:
        what = f"two statements of {at}: sha256:{early.digest} and sha256:{late.digest}"
    else:
        what = (
            f"the statement of {at} (sha256:{late.digest}) asks for version {late.body.minimum} at least,"
            f" an earlier one (sha256:{early.digest}) for {early.body.minimum}"
        )
    culprits = _common(first.signed_by, second.signed_by)
    return Finding(FRESHNESS, "/".join(first.pair), what, (first.digest, second.digest), culprits, culprits)


def _roots(first: Root, second: Root, before: Root | None) -> Finding:
    if first.digest == second.digest:
        raise NoEvidence("it is one root twice")
    if first.version != second.version:
        raise NoEvidence("the two roots are of different versions")
    try:
        given = _given_first(first, second) if before is None else _given_before(first, second, before)
    except SignatureError as error:
        raise NoEvidence(error.message) from None
    culprits = _common(first.signed_by, second.signed_by)
    say = set((before or first).body.root.keys)
    involved = tuple(sorted(say & {*first.signed_by, *second.signed_by}))
    return Finding(
        ROOT,
        first.body.name,
        f"two roots of version {first.version}: sha256:{first.digest} and sha256:{second.digest}",
        (first.digest, second.digest),
        tuple(key for key in culprits if key in say),
        involved,
        given,
    )


def _given_before(first: Root, second: Root, before: Root) -> str:
    """Both follow from one root: whoever believes that one would have taken either."""
    if before.version + 1 != first.version:
        raise NoEvidence("the version before the two roots is not the one that is beside them")
    check_signers(before, None)
    for one in (first, second):
        check_signers(one, before)
    return f"that root version {before.version} is sha256:{before.digest}"


def _given_first(first: Root, second: Root) -> str:
    """Without the version before, the keys of one of them must have signed both as it demands."""
    for one in (first, second):
        check_signers(one, None)
    if not first.body.root.is_met_by(second.signed_by):
        raise NoEvidence(
            "the second root is not signed by enough root keys of the first, and the version before is not there"
        )
    return f"that root version {first.version} is sha256:{first.digest}"


def _common(one: Sequence[str], other: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(one).intersection(other)))


# -- files -----------------------------------------------------------------------------------------------------------


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: str
    first: str
    second: str
    subject: str = ""
    before: str | None = None
    source: str = ""
    found_at: str | None = None


class _File(msgspec.Struct, frozen=True):
    spec: str
    evidence: list[_Entry]


_DECODER: Final = msgspec.json.Decoder(_File)


def encode(found: Sequence[Evidence]) -> bytes:
    """Return a file of evidence.

    Raises:
        ValueError: there is more than a file may have.
    """
    entries = [
        _Entry(
            one.kind,
            _text(one.first),
            _text(one.second),
            one.subject[:_MAX_WORDS],
            None if one.before is None else _text(one.before),
            one.source[:_MAX_WORDS],
            None if one.found_at is None else format_time(one.found_at),
        )
        for one in found
    ]
    raw = msgspec.json.format(msgspec.json.encode(_File(SPEC, entries)), indent=1) + b"\n"
    if len(raw) > MAX_FILE or len(entries) > MAX_ENTRIES:
        raise ValueError(f"more than {MAX_ENTRIES} pieces of evidence, or {MAX_FILE} bytes")
    return raw


def decode(raw: bytes) -> list[Evidence]:
    """Read anybody's file of evidence; what it proves `judge` says.

    Args:
        raw: of any content; what is longer than `MAX_FILE` is refused.

    Raises:
        Malformed: it is none.
    """
    if len(raw) > MAX_FILE:
        raise Malformed(f"it has {len(raw)} bytes, more than the {MAX_FILE} that a file of evidence may have")
    wire = decode_typed(raw, _DECODER)
    if wire.spec != SPEC:
        raise Malformed(f"spec: {wire.spec[:40]!r} is not {SPEC!r}")
    if not 1 <= len(wire.evidence) <= MAX_ENTRIES:
        raise Malformed(f"evidence: must have 1 to {MAX_ENTRIES} entries")
    return [_read(f"evidence[{index}]", one) for index, one in enumerate(wire.evidence)]


def _read(place: str, wire: _Entry) -> Evidence:
    try:
        found_at = None if wire.found_at is None else parse_time(wire.found_at)
    except ValueError as error:
        raise Malformed(f"{place}.found_at: {error}") from None
    return Evidence(
        wire.kind,
        wire.subject[:_MAX_WORDS],
        check_base64(f"{place}.first", wire.first),
        check_base64(f"{place}.second", wire.second),
        None if wire.before is None else check_base64(f"{place}.before", wire.before),
        wire.source[:_MAX_WORDS],
        found_at,
    )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
