"""Writing a manifest: compose what is to be signed, then add one signature per signer.

Signers may sign at different times on different machines: a document with some signatures missing is passed
on from one to the next, and every step checks it again, so that nobody signs or passes on what was altered.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import SIGNATURE_BYTES, SecretKey
from p2pboot.core.jsonform import canonical
from p2pboot.core.manifest.candidate import Candidate, assemble
from p2pboot.core.manifest.document import (
    MAX_MANIFEST,
    SPEC,
    Signature,
    artifact_members,
    read_statement,
)
from p2pboot.core.manifest.model import Artifact, Statement
from p2pboot.core.manifest.rollout import Rollout
from p2pboot.core.timestamps import format_time
from p2pboot.errors import ArtifactError, Malformed, UsageError

_PLACEHOLDER = base64.b64encode(bytes(SIGNATURE_BYTES)).decode("ascii")


class ManifestTooLarge(ArtifactError):
    """More than a manifest can say: download addresses or artifacts have to go."""


@dataclass(frozen=True, slots=True)
class ManifestBody:
    """What is going to be signed: made by :func:`compose`, so it follows every rule of the format."""

    data: bytes
    """Its canonical JSON: the signed bytes."""
    statement: Statement
    """The same, as values."""

    @property
    def digest(self) -> str:
        """The identity that the manifest will have: SHA-256 of ``data``, hex."""
        return hashlib.sha256(self.data).hexdigest()


def compose(  # noqa: PLR0913 - one argument for each thing that a manifest says
    *,
    version: str,
    manifest_version: int,
    channel: str,
    arch: str,
    created_at: int,
    expires_at: int,
    artifacts: Iterable[Artifact],
    provider_peer_id: str,
    provider_name: str,
    signers: Iterable[str],
    cmdline: str | None = None,
    rollout: Rollout | None = None,
) -> ManifestBody:
    """Compose a manifest from its parts.

    Args:
        version: the image's version, 1 to 128 bytes.
        manifest_version: the counter, from 1.
        channel: a name (:data:`p2pboot.core.names.NAME_PATTERN`).
        arch: one of :data:`p2pboot.core.names.ARCHS`, no alias.
        created_at: unix seconds.
        expires_at: unix seconds, later than ``created_at``.
        artifacts: kernel and initramfs, or a UKI in place of both, and any others; in any order.
        provider_peer_id: of the building node.
        provider_name: 1 to 255 bytes.
        signers: key ids (``ed25519:<hex>``) of exactly those who will sign, 1 to 32; in any order.
        cmdline: kernel command line, at most 4096 bytes.
        rollout: to which machines it is given, and when; of a channel that ends in ``.next``.

    Raises:
        UsageError: a part breaks a rule of the format; the message names the member.
        ArtifactError: two artifacts of one key.
        ManifestTooLarge: more artifacts and addresses than the 64 KiB of a manifest can hold.
    """
    artifacts = list(artifacts)
    keys = [artifact.key for artifact in artifacts]
    if len(set(keys)) != len(keys):
        raise ArtifactError(f"two artifacts are called {next(key for key in keys if keys.count(key) > 1)!r}")
    members = {
        "spec": SPEC,
        "version": version,
        "manifest_version": manifest_version,
        "channel": channel,
        "arch": arch,
        "artifacts": artifact_members(artifacts),
        "provider": {"peer_id": provider_peer_id, "name": provider_name},
        "signers": sorted(set(signers)),
    }
    if cmdline is not None:
        members["cmdline"] = cmdline
    if rollout is not None:
        members["rollout"] = rollout.members()
    try:
        members |= {"created_at": format_time(created_at), "expires_at": format_time(expires_at)}
        data = canonical(members)
        statement = read_statement(data)
    except (Malformed, ValueError) as error:
        raise UsageError(f"this can not be said in a manifest: {error}") from None
    _check_size(data, statement)
    return ManifestBody(data, statement)


def _check_size(data: bytes, statement: Statement) -> None:
    """Refuse now what would be too large once everybody has signed: signatures have one fixed length."""
    complete = [Signature(keyid, _PLACEHOLDER) for keyid in statement.signers]
    size = len(assemble(msgspec.json.decode(data), data, complete))
    if size > MAX_MANIFEST:
        raise ManifestTooLarge(
            f"the manifest would have {size} bytes with its {len(statement.artifacts)} artifacts,"
            f" more than the {MAX_MANIFEST} that are allowed",
            remedy="publish fewer artifacts, or put some of them into one archive, as is done with device trees",
        )


def unsigned(body: ManifestBody) -> bytes:
    """Return the document that waits for its signatures: canonical, ``signatures`` empty."""
    return assemble(msgspec.json.decode(body.data), body.data, ())


def missing_signers(raw: bytes) -> tuple[str, ...]:
    """Return which signers of a document have not signed yet; empty when it is complete.

    Raises:
        Malformed, SignatureError: it was altered, or a signature that is there is not valid.
    """
    return _open(raw).missing_signers


def add_signature(raw: bytes, key: SecretKey) -> bytes:
    """Sign a document that waits for this key; return it with the signature at its place.

    Ed25519 over the SHA-256 of the signed bytes. Signing twice changes nothing.

    Raises:
        UsageError: the key is not one of the signers that the document names.
        Malformed, SignatureError: it was altered, or a signature that is there is not valid.
    """
    document = _open(raw)
    keyid = key.public.keyid
    if keyid not in document.signers:
        raise UsageError(
            f"{keyid} is not one of the signers that this manifest names",
            remedy=f"sign with one of {', '.join(document.signers)}, or build it with --signer {keyid}",
        )
    if keyid not in document.missing_signers:
        return raw
    sig = base64.b64encode(key.sign(hashlib.sha256(document.data).digest())).decode("ascii")
    signatures = sorted((*document.signatures, Signature(keyid, sig)), key=lambda entry: entry.keyid)
    return assemble(msgspec.json.decode(document.data), document.data, signatures)


def sign(body: ManifestBody, keys: Iterable[SecretKey]) -> bytes:
    """Return the complete manifest, signed by every signer.

    Args:
        body: what to sign.
        keys: the secret keys of all its signers, in any order.

    Raises:
        UsageError: a key is not a signer's, or a signer's key is not among them.
    """
    raw = unsigned(body)
    for key in keys:
        raw = add_signature(raw, key)
    missing = missing_signers(raw)
    if missing:
        raise UsageError(f"the key of {', '.join(missing)} is needed to sign this manifest")
    return raw


def _open(raw: bytes) -> Candidate:
    """Read a document that may lack signatures and check everything else about it."""
    document = Candidate.decode(raw)
    document.check_present_signatures()
    document.check_canonical()
    return document
