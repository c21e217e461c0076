"""The detached signature: ``manifest.json.sig`` beside ``manifest.json``.

Base64 of an Ed25519 signature over the *file's bytes* by one signer, made after all have signed. Tools that
know nothing of the manifest format check it with one call. It can not be mistaken for an embedded signature,
which is made over exactly 32 bytes: no manifest is that short.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

from p2pboot.core.identity import SIGNATURE_BYTES, PublicKey, SecretKey
from p2pboot.core.manifest.candidate import Manifest
from p2pboot.core.manifest.fields import check_base64
from p2pboot.errors import Malformed, SignatureError

MAX_DETACHED_CHARS: Final = 256
"""A signature is 88 characters; the rest is for white space around it."""

_BLANKS: Final = " \t\r\n"


def sign_detached(file_bytes: bytes, key: SecretKey) -> str:
    """Return the text of the ``.sig`` file: 88 characters of base64.

    Nothing but a complete manifest is signed so: else whoever has somebody sign a "manifest" chooses the bytes, which
    might mean something elsewhere (see the table of signed forms in ``docs/protocol.md``).

    Raises:
        Malformed, SignatureError: the file is no manifest that all its signers have signed.
    """
    Manifest.parse(file_bytes)
    return base64.b64encode(key.sign(file_bytes)).decode("ascii")


def check_detached(file_bytes: bytes, sig_text: str, signers: Sequence[str]) -> str:
    """Find out who made a detached signature.

    Args:
        file_bytes: the manifest's exact bytes.
        sig_text: the content of the ``.sig`` file; blanks and line ends around it are allowed.
        signers: the manifest's signers (key ids).

    Returns:
        The key id of the signer whose signature it is.

    Raises:
        SignatureError: empty, undecodable, or not the signature of any of them.
    """
    text = sig_text.strip(_BLANKS)
    if len(sig_text) > MAX_DETACHED_CHARS or not text:
        raise SignatureError("the detached signature is empty or too long")
    try:
        signature = check_base64("detached", text)
    except Malformed:
        signature = b""
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureError(f"the detached signature is not base64 of {SIGNATURE_BYTES} bytes")
    for keyid in signers:
        if PublicKey.from_keyid(keyid).verify(file_bytes, signature):
            return keyid
    raise SignatureError("the detached signature is not that of any signer over these bytes")
