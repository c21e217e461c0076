"""Reading a manifest: from any bytes to a :class:`Manifest`, in stages that cost more the further they go.

The order is a defence against floods. A message of 64 KiB can be made so that its canonical form costs tens
of milliseconds; a stranger must not be able to ask for that. So a reader of gossip takes the stages one by
one and leaves at the first that fails:

1. :meth:`Candidate.decode`: size and types. What the candidate says now is a claim.
2. the reader's own cheap questions: is it this topic's channel and arch, is a signer trusted?
3. :meth:`Candidate.check_signatures`: Ed25519 over the SHA-256 of the signed bytes.
4. :meth:`Candidate.check_form`: the signed bytes are canonical, and the document is exactly what follows
   from them. The document is *rebuilt from the signed bytes* and compared, so the work is bounded by what
   the signers signed, not by what a stranger wrapped around their signature.

:meth:`Manifest.parse` is all of them. Nobody else makes a Manifest: an invalid one can not exist.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import SIGNATURE_BYTES, PublicKey
from p2pboot.core.jsonform import canonical, decode_canonical, decode_typed, not_canonical, shown
from p2pboot.core.manifest import fields
from p2pboot.core.manifest.document import ENVELOPE, MAX_MANIFEST, Signature, read_statement
from p2pboot.core.manifest.model import Statement
from p2pboot.errors import Malformed, SignatureError

_UNSIGNED_MEMBERS = frozenset({"signed", "signatures"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Statement):
    """A whole manifest: well-formed, canonical, and signed by every signer it names.

    That says nothing about whether the signers are *trusted*, or whether it is in date: :mod:`..verify` does.
    Two manifests are equal when their bytes are.
    """

    raw: bytes
    """The document: what is gossiped, stored and served."""
    data: bytes
    """The signed bytes: the canonical JSON of the document without ``signed`` and ``signatures``."""
    digest: str
    """The manifest's identity: SHA-256 of ``data``, 64 lowercase hex digits."""

    @classmethod
    def parse(cls, raw: bytes) -> Manifest:
        """Read a complete manifest.

        Args:
            raw: the document's exact bytes, from anyone.

        Raises:
            Malformed: no manifest, not canonical, or the document is not what was signed.
            SignatureError: a signature is missing, foreign, undecodable or does not match.
        """
        return Candidate.decode(raw).check_form()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        return self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<Manifest {self.channel}/{self.arch} {self.manifest_version} sha256:{self.digest[:16]}>"


class Candidate:
    """A document of the right types whose claims nobody has checked yet."""

    __slots__ = ("_authentic", "claims", "data", "raw", "signatures")

    def __init__(self, raw: bytes, claims: Statement, data: bytes, signatures: Sequence[Signature]) -> None:
        """Use :meth:`decode`."""
        self.raw = raw
        self.claims = claims
        self.data = data
        self.signatures = tuple(signatures)
        self._authentic = False

    @classmethod
    def decode(cls, raw: bytes) -> Candidate:
        """Stage one: at most 64 KiB, JSON, right members and types, every known field within its rules.

        A document that still lacks signatures is decoded as well (see :attr:`missing_signers`).

        Raises:
            Malformed: naming the field and what is wrong with it.
        """
        if len(raw) > MAX_MANIFEST:
            raise Malformed(f"{len(raw)} bytes are more than the {MAX_MANIFEST} that a manifest may have")
        try:
            return cls._decode(raw)
        except Malformed as error:
            from p2pboot.core.manifest.foreign import explain_foreign  # most need no explanation

            raise explain_foreign(raw, error) from None

    @classmethod
    def _decode(cls, raw: bytes) -> Candidate:
        envelope = decode_typed(raw, ENVELOPE)
        if len(envelope.signatures) > fields.MAX_SIGNERS:
            raise Malformed(f"signatures: more than {fields.MAX_SIGNERS}")
        data = fields.check_base64("signed.data", envelope.signed.data)
        return cls(raw, read_statement(raw), data, envelope.signatures)

    @property
    def channel(self) -> str:
        """The channel that it claims."""
        return self.claims.channel

    @property
    def arch(self) -> str:
        """The architecture that it claims."""
        return self.claims.arch

    @property
    def signers(self) -> tuple[str, ...]:
        """The key ids that it claims to be signed by."""
        return self.claims.signers

    @property
    def digest(self) -> str:
        """SHA-256 of the signed bytes, hex: the manifest's identity if it is one."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def missing_signers(self) -> tuple[str, ...]:
        """Who is named as a signer and has no signature here."""
        present = {signature.keyid for signature in self.signatures}
        return tuple(keyid for keyid in self.signers if keyid not in present)

    def check_signatures(self, *, first: Collection[str] = ()) -> None:
        """Stage two: exactly one valid signature per signer, in the signers' order.

        Args:
            first: key ids to begin with. With the trusted ones here, a forger's document costs one signature
                check, however many signatures of his own he put before the forged one.

        Raises:
            SignatureError: a signature is missing, foreign, out of order, undecodable or does not match.
        """
        if not self._authentic:
            if self.missing_signers:
                raise SignatureError(
                    f"not signed yet by {', '.join(self.missing_signers)}",
                    remedy="let every signer sign it: p2pboot manifest sign FILE --key PATH",
                )
            self.check_present_signatures(first=first)
            self._authentic = True

    def check_present_signatures(self, *, first: Collection[str] = ()) -> None:
        """Check the signatures that are there, and that they are in the signers' order.

        Raises:
            SignatureError: one is foreign, out of order, undecodable or does not match.
        """
        present = [signature.keyid for signature in self.signatures]
        expected = [keyid for keyid in self.signers if keyid in present]
        if present != expected:
            # A foreign or doubled signature would make a second document of the same manifest.
            raise SignatureError("signatures: must be one for each of the signers, in the same order")
        digest = hashlib.sha256(self.data).digest()
        for signature in sorted(self.signatures, key=lambda signature: signature.keyid not in first):
            if not PublicKey.from_keyid(signature.keyid).verify(digest, _signature_bytes(signature)):
                raise SignatureError(
                    f"the signature of {signature.keyid} does not match",
                    remedy="the manifest was changed after it was signed: get it again from its publisher",
                )

    def check_form(self) -> Manifest:
        """Last stage, after the signatures (which it checks if nobody did): canonical, and as signed.

        Raises:
            Malformed: not canonical, or the document differs from what was signed.
            SignatureError: see :meth:`check_signatures`.
        """
        self.check_signatures()
        self.check_canonical()
        statement = {
            field.name: getattr(self.claims, field.name) for field in dataclasses.fields(self.claims)
        }
        return Manifest(raw=self.raw, data=self.data, digest=self.digest, **statement)

    def check_canonical(self) -> None:
        """Check that the signed bytes are canonical and that the document is rebuilt exactly from them.

        After this, what the candidate claims is what was signed: the bytes are the same.

        Raises:
            Malformed: saying where the document leaves what was signed.
        """
        try:
            body = decode_canonical(self.data, max_bytes=MAX_MANIFEST)
        except Malformed as error:
            raise Malformed(f"signed.data: {error.message}") from None
        if not isinstance(body, dict) or not _UNSIGNED_MEMBERS.isdisjoint(body):
            raise Malformed("signed.data: must be an object without the members signed and signatures")
        expected = assemble(body, self.data, self.signatures)
        if expected != self.raw:
            raise Malformed(_difference(self.raw, body) or not_canonical(self.raw, expected))


def assemble(body: dict[str, Any], data: bytes, signatures: Sequence[Signature]) -> bytes:
    """Return the one document that follows from signed members, their canonical bytes, and signatures."""
    return canonical(
        {
            **body,
            "signed": {"data": base64.b64encode(data).decode("ascii")},
            "signatures": [{"keyid": entry.keyid, "sig": entry.sig} for entry in signatures],
        }
    )


def _signature_bytes(signature: Signature) -> bytes:
    try:
        decoded = fields.check_base64("signatures", signature.sig)
    except Malformed:
        decoded = b""
    if len(decoded) != SIGNATURE_BYTES:
        raise SignatureError(f"the signature of {signature.keyid} is not base64 of {SIGNATURE_BYTES} bytes")
    return decoded


def _difference(raw: bytes, body: dict[str, Any]) -> str | None:
    """Name the first member in which a document differs from what was signed; None if it is only the form.

    Only a message depends on this. Members are compared as re-encoded bytes, by the fast encoder.
    """
    try:
        document = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    for name in sorted((document.keys() | body.keys()) - _UNSIGNED_MEMBERS):
        if name not in body:
            return f"{shown(name)}: is not part of what was signed"
        if name not in document:
            return f"{shown(name)}: was signed and is missing"
        if msgspec.json.encode(document[name]) != msgspec.json.encode(body[name]):
            return f"{shown(name)}: differs from what was signed"
    return None
