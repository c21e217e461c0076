"""The rule of Phase's verifier, written a second time with the standard library and `cryptography` alone.

It takes a manifest when the required members are there and one of its signatures, made by the given key, is
an Ed25519 signature over the SHA-256 of the base64-decoded `signed.data`. That is all it looks at.
"""

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

REQUIRED = (
    "version",
    "manifest_version",
    "channel",
    "arch",
    "created_at",
    "expires_at",
    "artifacts",
    "signed",
    "signatures",
)
REQUIRED_OF_ARTIFACT = ("hash", "size", "path", "urls")


class PhaseRejectsError(Exception):
    """Phase's verifier would not take it."""


def phase_verify(raw: bytes, public_key: bytes) -> dict[str, Any]:
    """Return what was signed, as Phase's tools would read it."""
    document: dict[str, Any] = json.loads(raw)
    _require(document, REQUIRED)
    for name, artifact in document["artifacts"].items():
        for entry in artifact.values() if name == "dtbs" else [artifact]:
            _require(entry, REQUIRED_OF_ARTIFACT)
            algorithm, _, digest = entry["hash"].partition(":")
            if algorithm != "sha256" or len(bytes.fromhex(digest)) != 32:
                raise PhaseRejectsError(f"{name}: {entry['hash']}")
    data = base64.b64decode(document["signed"]["data"], validate=True)
    digest = hashlib.sha256(data).digest()
    key = Ed25519PublicKey.from_public_bytes(public_key)
    for entry in document["signatures"]:
        try:
            key.verify(base64.b64decode(entry["sig"], validate=True), digest)
        except InvalidSignature:
            continue
        signed: dict[str, Any] = json.loads(data)
        return signed
    raise PhaseRejectsError("no signature of this key")


def _require(members: dict[str, Any], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in members]
    if missing:
        raise PhaseRejectsError(f"without {', '.join(missing)}")
