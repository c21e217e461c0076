"""The form of every trust document: canonical JSON, signed over ``<spec>`` NUL and the document without ``signatures``.

A stranger's bytes are read in stages that cost more the further they go, as manifests are (see
:mod:`p2pboot.core.manifest.candidate`): size and types; then the reader's own question, whether it names anybody who
is trusted; then the signatures, over bytes that are cut out of the document and not built anew; last the canonical
form, which shows that what was cut out is what the document says.

Signed bytes begin with the document's spec and a NUL, so they are no manifest's (32 bytes), no detached signature's and
no payload's (both begin with ``{``), and one document's signature is no other's.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import SIGNATURE_BYTES, PublicKey, SecretKey
from p2pboot.core.jsonform import canonical, decode_canonical, decode_typed
from p2pboot.core.manifest.fields import check_base64
from p2pboot.errors import Malformed, SignatureError, UsageError

MAX_DOCUMENT: Final = 65_536
"""Bytes of a trust document, unless its format says less: what one gossip message carries."""

MAX_SIGNATURES: Final = 32
"""Bounds the signature checks that one document can ask for: 32 cost 2 ms."""

_MEMBER: Final = b'"signatures":'


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of ``signatures``."""

    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True):
    spec: str
    signatures: msgspec.Raw


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_SIGNATURES: Final = msgspec.json.Decoder(list[Signature])


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What every trust document has. Whether anybody believes its signers is another question.

    Two documents are equal when their bytes are; two with one digest say the same, whoever signed them.
    """

    raw: bytes
    """The document: what is gossiped, stored and served."""
    digest: str
    """Its identity: SHA-256 of the body, the canonical JSON without ``signatures``; 64 lowercase hex digits."""
    signed_by: tuple[str, ...]
    """The key ids whose valid signatures it bears, sorted."""


T = TypeVar("T")


class Unchecked(Generic[T]):
    """A document of the right types whose claims and signatures nobody has checked yet.

    Args:
        raw: its bytes.
        spec: what it is.
        claims: what it says, as values.
        body: its bytes without ``signatures``, as they were cut out of it.
        signatures: by whom it says that it is signed.
        build: makes the checked document of the claims.
    """

    __slots__ = ("_build", "body", "claims", "raw", "signatures", "spec")

    def __init__(
        self,
        raw: bytes,
        spec: str,
        claims: T,
        body: bytes,
        signatures: Sequence[Signature],
    ) -> None:
        """Use `decode`."""
        self.raw = raw
        self.spec = spec
        self.claims = claims
        self.body = body
        self.signatures = tuple(signatures)

    @property
    def digest(self) -> str:
        """SHA-256 of the body, hex."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def signers(self) -> tuple[str, ...]:
        """The key ids that it says it is signed by, sorted."""
        return tuple(one.keyid for one in self.signatures)

    def check(self, *, first: Collection[str] = ()) -> None:
        """Check every signature, then the canonical form.

        Args:
            first: key ids to begin with: with the trusted ones here a forger's document costs one check.

        Raises:
            SignatureError: a signature does not match.
            Malformed: it is not in its one form.
        """
        message = signed_bytes(self.spec, self.body)
        for one in sorted(self.signatures, key=lambda one: one.keyid not in first):
            if not PublicKey.from_keyid(one.keyid).verify(message, _signature_bytes(one)):
                raise SignatureError(
                    f"the signature of {one.keyid} does not match",
                    remedy="the document was changed after it was signed: get it again",
                )
        value = decode_canonical(self.raw, max_bytes=MAX_DOCUMENT)
        del value["signatures"]
        if canonical(value) != self.body:
            raise Malformed("signatures: stands in the document a second time")


def decode(
    raw: bytes, spec: str, decoder: msgspec.json.Decoder[Any], read: Callable[[Any], T], *, max_bytes: int
) -> Unchecked[T]:
    """Stage one: size, JSON, members and types, every known field within its rules. Cheap for any input.

    Args:
        raw: the document, from anyone.
        spec: what it must be.
        decoder: of the members that the format names; others are left for the canonical form.
        read: makes the claims of what was decoded; raises Malformed.
        max_bytes: what the format allows.

    Raises:
        Malformed: naming the member and what is wrong with it.
        SignatureError: a signature is none.
    """
    if len(raw) > max_bytes:
        raise Malformed(f"{len(raw)} bytes are more than the {max_bytes} that {spec} may have")
    envelope = decode_typed(raw, _ENVELOPE)
    if envelope.spec != spec:
        raise Malformed(f"spec: {envelope.spec[:40]!r} is not {spec!r}")
    signatures = decode_typed(envelope.signatures, _SIGNATURES, place="signatures")
    if len(signatures) > MAX_SIGNATURES:
        raise Malformed(f"signatures: more than {MAX_SIGNATURES}")
    keyids = [one.keyid for one in signatures]
    for index, keyid in enumerate(keyids):
        try:
            PublicKey.from_keyid(keyid)
        except ValueError as error:
            raise Malformed(f"signatures[{index}].keyid: {error}") from None
    if keyids != sorted(set(keyids)):
        # Another order, or one key twice, would be a second form of the same document.
        raise Malformed("signatures: must be sorted by keyid, and hold each once")
    for one in signatures:
        _signature_bytes(one)
    claims = read(decode_typed(raw, decoder))
    return Unchecked(raw, spec, claims, _without(raw, bytes(envelope.signatures)), signatures)


def signed_bytes(spec: str, body: bytes) -> bytes:
    """What signers sign: the spec, one NUL byte, and the canonical JSON of all but ``signatures``."""
    return spec.encode("ascii") + b"\0" + body


def unsigned(members: Mapping[str, Any]) -> bytes:
    """Return a document that waits for its signatures."""
    return canonical({**members, "signatures": []})


def drafted(members: Mapping[str, Any], decode: Callable[[bytes], object], what: str) -> bytes:
    """Return a document that waits for its signatures, and keeps every rule of its format.

    Args:
        members: of it, but for its signatures.
        decode: reads such a document.
        what: it is, for people.

    Raises:
        UsageError: it breaks a rule; the message names the member.
    """
    try:
        raw = unsigned(members)
        decode(raw)
    except (Malformed, ValueError) as error:
        message = error.message if isinstance(error, Malformed) else str(error)
        raise UsageError(f"this can not be said in {what}: {message}") from None
    return raw


def add_signature(raw: bytes, key: SecretKey) -> bytes:
    """Return a document with this key's signature at its place; signing twice changes nothing.

    Args:
        raw: a document that was checked.
        key: of the signer; whether it has a say is the format's to know.
    """
    members = msgspec.json.decode(raw)
    kept = [one for one in members.pop("signatures") if one["keyid"] != key.public.keyid]
    message = signed_bytes(members["spec"], canonical(members))
    sig = base64.b64encode(key.sign(message)).decode("ascii")
    signatures = sorted([*kept, {"keyid": key.public.keyid, "sig": sig}], key=lambda one: one["keyid"])
    return canonical({**members, "signatures": signatures})


def with_signatures(raw: bytes, others: Iterable[bytes]) -> bytes:
    """Return a document with the signatures that other copies of it bear as well.

    Args:
        raw: a document that was checked.
        others: copies that were checked, of the same body.
    """
    members = msgspec.json.decode(raw)
    found = {one["keyid"]: one for copy in (*others, raw) for one in msgspec.json.decode(copy)["signatures"]}
    return canonical({**members, "signatures": [found[keyid] for keyid in sorted(found)]})


def only_signatures_of(raw: bytes, keyids: Collection[str]) -> bytes:
    """Return a document with the signatures of these keys alone: others mean nothing to whoever reads it."""
    members = msgspec.json.decode(raw)
    kept = [one for one in members["signatures"] if one["keyid"] in keyids]
    return canonical({**members, "signatures": kept})


def _signature_bytes(one: Signature) -> bytes:
    try:
        decoded = check_base64("signatures", one.sig)
    except Malformed:
        decoded = b""
    if len(decoded) != SIGNATURE_BYTES:
        raise SignatureError(f"the signature of {one.keyid} is not base64 of {SIGNATURE_BYTES} bytes")
    return decoded


def _without(raw: bytes, value: bytes) -> bytes:
    """Cut the member ``signatures`` out; what is canonical stays so, and of what is not `Unchecked.check` tells."""
    member = _MEMBER + value
    at = raw.rfind(member)
    before, after = raw[:at], raw[at + len(member) :]
    if at < 0:
        raise Malformed("signatures: not in canonical form (RFC 8785)")
    if before.endswith(b","):
        return before[:-1] + after
    return before + after.removeprefix(b",")
