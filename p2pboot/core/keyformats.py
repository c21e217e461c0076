"""Key formats: our own TOML key file, and the formats of others that a key can be imported from.

Works on bytes; reading and writing files is :mod:`p2pboot.store.keyfiles`. No message ever shows a byte of
what may be a secret.

Our file::

    secret_key = "<64 hex digits>"   # the 32-byte Ed25519 seed
    public_key = "<64 hex digits>"   # optional; must belong to secret_key
    version = 1                      # optional; stands before the signatures of snapshots, and nowhere else

Imported: the raw 32-byte seed (``identity.key`` of Phase's plasmd), 64 hex digits, PKCS#8 PEM (RFC 8410; also
version 2 with the public key, RFC 5958), OpenSSH ``ed25519``, libp2p's protobuf private key (64-byte form and
the older 96-byte one), and our own file. Text may have what editors and other tools add: a byte-order mark, CRLF,
indentation, text before and after a PEM block. Other forms that keys come in are recognised and refused by name.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from typing import TYPE_CHECKING, Final

from p2pboot.core.identity import KEY_BYTES, SecretKey
from p2pboot.core.textfiles import SAVE_AS_UTF8, OtherEncoding, decode_text
from p2pboot.core.tomlform import parse_toml
from p2pboot.errors import KeyFileError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

MAX_KEY_FILE: Final = 64 * 1024
"""No key file is larger, bytes; the largest of the formats is a few hundred."""

_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_REMEDY_FORMAT: Final = 'it must have a line: secret_key = "<64 hex digits>"'
_FORMATS: Final = (
    "raw 32 bytes, 64 hex digits, PKCS#8 PEM, OpenSSH, a libp2p private key, or a p2pboot key file"
)
_TOML_PLACE: Final = re.compile(r"\(at line (\d+), column \d+\)")  # not there when it is the text's end
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----(.*?)-----END \1-----", re.DOTALL)
_PEM_LINE: Final = re.compile(r"[A-Za-z0-9+/= ]+")
_PEM_BEGIN: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_OPENSSH: Final = "OPENSSH PRIVATE KEY"
_PKCS8: Final = "PRIVATE KEY"
_PKCS8_ENCRYPTED: Final = "ENCRYPTED PRIVATE KEY"
_SECRET_LABELS: Final = (_OPENSSH, _PKCS8, _PKCS8_ENCRYPTED)
_PUBLIC_LABELS: Final = ("PUBLIC KEY", "CERTIFICATE", "SSH2 PUBLIC KEY")
_PUBLIC_MARKS: Final = ("ssh-ed25519 ", "ed25519:", "12D3KooW")
# PrivateKey { Type: Ed25519 (1), Data: 64 or 96 bytes }, see peer-ids.md of the libp2p specifications.
_LIBP2P_64: Final = bytes.fromhex("08011240")
_LIBP2P_96: Final = bytes.fromhex("08011260")
_LIBP2P_PUBLIC: Final = bytes.fromhex("08011220")
_DER_SEQUENCE: Final = 0x30
# What files begin with, in the place of which 32 bytes are no key; of DER, id-Ed25519 and a version before it.
_MAGICS: Final = (
    b"\x1f\x8b\x08\x00",
    b"\x1f\x8b\x08\x08",
    b"\x7fELF",
    b"PK\x03\x04",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"%PDF-",
    b"MZ\x90\x00",
)
_MARKS: Final = (
    b"-----BEGIN",
    b"PRIVATE KEY",
    b"openssh-key-v",
    b"secret_key",
    b"ssh-ed25519",
    b"SQLite format",
    bytes.fromhex("300506032b6570"),
)
# OneAsymmetricKey version 2 (RFC 5958, example in RFC 8410), as Rust's crates write it: the number 1,
# id-Ed25519, the seed, possibly attributes [0], the public key [1]. The cryptography package reads version 1.
_PKCS8_V2: Final = re.compile(
    rb"\x30.\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20(.{32})(?:\xa0.*)?\x81\x21\x00(.{32})",
    re.DOTALL,
)


def parse_key_toml(text: str, *, source: str) -> SecretKey:
    """Read our own key file. Extra entries, such as ``version``, are tolerated.

    Args:
        text: content of the file.
        source: what to call it in messages, usually its path.

    Raises:
        KeyFileError: no TOML, no ``secret_key``, wrong length, not hex, or ``public_key`` of another key.
    """
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise _no_toml(text, str(error), source) from None
    if "secret_key" not in document:
        raise KeyFileError(f"{source} has no secret_key", remedy=_REMEDY_FORMAT)
    secret = SecretKey(_hex_entry(document["secret_key"], "secret_key", source))
    if "public_key" in document:
        stated = _hex_entry(document["public_key"], "public_key", source)
        _check_public(secret, stated, "public_key", source)
    return secret


def _no_toml(text: str, said: str, source: str) -> KeyFileError:
    """Name the line that is wrong. The parser's own message may quote it, and with it the secret."""
    place = _TOML_PLACE.search(said)
    number = int(place[1]) if place else text.count("\n") + 1
    if "secret_key" not in text:
        return KeyFileError(f"{source} is not a TOML key file", remedy=_REMEDY_FORMAT)
    return KeyFileError(
        f"{source} is not a TOML key file: line {number} is no entry",
        remedy="correct that line, or take it out; a remark begins with #",
    )


def parse_key_version(text: str, *, source: str) -> int | None:
    """Read the ``version`` of a key file that `parse_key_toml` took; None where it has none.

    Raises:
        KeyFileError: it is no whole number from 0 to 2^32-1.
    """
    version = parse_toml(text.removeprefix("\ufeff")).get("version")
    if version is not None and (type(version) is not int or not 0 <= version < 2**32):
        raise KeyFileError(
            f"{source}: version is not a whole number from 0 to {2**32 - 1}",
            remedy="write it without quotes, for example version = 1, or leave the line out",
        )
    return version


def import_version(data: bytes, *, source: str) -> int | None:
    """Read the ``version`` of what `import_secret` took: our own key file may have one, other formats have none.

    Raises:
        KeyFileError: it is no whole number from 0 to 2^32-1.
    """
    try:
        text = decode_text(data).strip()
        parse_toml(text)
    except ValueError:
        return None
    return parse_key_version(text, source=source)


def render_key_toml(key: SecretKey, version: int | None = None) -> str:
    """Return the content of a key file for ``key``; it holds the secret."""
    stated = "" if version is None else f"version = {version}\n"
    return (
        "# Ed25519 key of p2pboot. Whoever has secret_key can sign in your name: keep it to yourself.\n"
        f'secret_key = "{key.seed.hex()}"\n'
        f'public_key = "{key.public.hex}"\n'
        f"{stated}"
    )


def import_secret(data: bytes, *, source: str, password: bytes | None = None) -> SecretKey:
    """Read a secret key in any known format; which one shows from the bytes.

    Args:
        data: content of the file, at most :data:`MAX_KEY_FILE` bytes.
        source: what to call it in messages, usually its path.
        password: of an encrypted key, if there is one.

    Raises:
        KeyFileError: no known format, another kind of key, encrypted and no (or the wrong) password, or
            halves that do not belong together.
    """
    if len(data) > MAX_KEY_FILE:
        raise KeyFileError(f"{source} is too large for a key file", remedy=f"give {_FORMATS}")
    if len(data) == KEY_BYTES:  # first: random bytes may begin like anything
        _refuse_known(data, source)
        return _secret(data, source)
    if data.startswith((_LIBP2P_64, _LIBP2P_96, _LIBP2P_PUBLIC)):
        return _from_libp2p(data, source)
    _refuse_other_binary(data, source)
    try:
        text = decode_text(data).strip()
    except OtherEncoding as error:
        raise KeyFileError(f"{source} {error}", remedy=SAVE_AS_UTF8) from None
    except ValueError as error:
        text = data.decode("latin-1")  # a name or a remark beside the key; what a PEM block says is ASCII
        if "secret_key" in text:
            raise KeyFileError(f"{source} {error}", remedy=SAVE_AS_UTF8) from None
        if _PEM_BEGIN.search(text) is None:
            raise _unknown(data, source) from None
    if _PEM_BEGIN.search(text):
        return _from_pem(text, source, password)
    if text.startswith(_PUBLIC_MARKS):
        raise _public_only(source)
    if _HEX.fullmatch(text):
        return _secret(bytes.fromhex(text), source)
    if "secret_key" in text:
        return parse_key_toml(text, source=source)
    _refuse_other_text(text, source)
    raise _unknown(data, source)


def _public_only(source: str) -> KeyFileError:
    return KeyFileError(f"{source} holds a public key", remedy="give the file with the secret key")


def _unknown(data: bytes, source: str) -> KeyFileError:
    return KeyFileError(
        f"{source} ({len(data)} bytes) is no key in a known format", remedy=f"give {_FORMATS}"
    )


def _refuse_known(data: bytes, source: str) -> None:
    """Refuse 32 bytes that others know as well: what some other file begins with, or what a disk holds that lost it.

    A key that is one of these by chance has not been made yet: each is rarer than one in 10^9.
    """
    if _is_text(data):  # a PEM file that was cut off would be everybody's key
        raise KeyFileError(
            f"{source} holds 32 bytes of text, which is no key",
            remedy="copy the file again, whole; if these bytes really are the key, give them as 64 hex digits",
        )
    if data.startswith((_LIBP2P_64, _LIBP2P_96, _LIBP2P_PUBLIC, *_MAGICS)) or any(
        mark in data for mark in _MARKS
    ):
        raise KeyFileError(
            f"{source} holds the first 32 bytes of another file, which is no key",
            remedy="copy the file again, whole; if these bytes really are the key, give them as 64 hex digits",
        )


def _secret(seed: bytes, source: str) -> SecretKey:
    """A key of 32 bytes, but for those that a disk or its flash gives where it lost what was there."""
    if seed in (bytes(KEY_BYTES), b"\xff" * KEY_BYTES):
        raise KeyFileError(
            f"{source}: every byte of the key is {seed[0]:02x}, so everybody has it",
            remedy="restore the file from a copy, or make a new key: p2pboot key generate",
        )
    return SecretKey(seed)


def _is_text(data: bytes) -> bool:
    """Whether bytes are text in a usual encoding; of 32 random bytes not one in 10^9 times all are."""
    characters = data.removeprefix(codecs.BOM_UTF8)
    if not any(data[1::2]):
        characters = data[::2]
    elif not any(data[::2]):
        characters = data[1::2]
    elif data.startswith(codecs.BOM_UTF16_LE) and not any(data[3::2]):
        characters = data[2::2]
    elif data.startswith(codecs.BOM_UTF16_BE) and not any(data[2::2]):
        characters = data[3::2]
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(
            characters
        )  # its last character may be cut in two
    except UnicodeDecodeError:
        return False
    return bool(text) and all(character.isprintable() or character in "\t\r\n" for character in text)


def _refuse_other_binary(data: bytes, source: str) -> None:
    """Name the forms of keys that are not read, where their bytes give them away."""
    if len(data) == 2 * KEY_BYTES and SecretKey(data[:KEY_BYTES]).public.raw == data[KEY_BYTES:]:
        raise KeyFileError(
            f"{source} is a 64-byte key of NaCl, the secret half and the public one",
            remedy="give the first 32 bytes: head -c 32 FILE | p2pboot key import -",
        )
    if len(data) > 2 and data[0] == _DER_SEQUENCE and data[1] == len(data) - 2:
        raise KeyFileError(
            f"{source} is a key in DER form",
            remedy="make a PEM of it: openssl pkey -inform DER -in FILE -out PEM",
        )
    unmarked = data.removeprefix(codecs.BOM_UTF8)
    edited = any(len(unmarked.removesuffix(end)) == KEY_BYTES for end in (b"", b"\n", b"\r\n"))
    if edited and len(data) > KEY_BYTES and not _is_text(data):
        raise KeyFileError(
            f"{source} has {len(data)} bytes, and a raw key 32: an editor added a mark or a line end",
            remedy="copy the file again, without opening it in an editor",
        )


def _refuse_other_text(text: str, source: str) -> None:
    """Likewise for text."""
    if text.startswith("PuTTY-User-Key-File-"):
        raise KeyFileError(
            f"{source} is a key of PuTTY",
            remedy="export it as an OpenSSH key: puttygen FILE -O private-openssh -o KEY",
        )
    if _HEX.fullmatch(re.sub(r"0[xX]|[\s:]", "", text)):
        raise KeyFileError(
            f"{source} has more than the 64 hex digits of a key: 0x, colons or blanks",
            remedy="write the 64 digits alone, on one line",
        )
    try:
        decoded = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return
    if len(decoded) in (KEY_BYTES, 2 * KEY_BYTES):
        raise KeyFileError(
            f"{source} is base64 of {len(decoded)} bytes",
            remedy="give the key as 32 raw bytes: base64 -d FILE | head -c 32 | p2pboot key import -",
        )
    if decoded.startswith((_LIBP2P_64, _LIBP2P_96)):
        raise KeyFileError(
            f"{source} is base64 of a libp2p private key", remedy="base64 -d FILE | p2pboot key import -"
        )


def _from_pem(text: str, source: str, password: bytes | None) -> SecretKey:
    """Read the one secret key among a file's PEM blocks, whatever stands around it."""
    blocks = [(match[1], match[2]) for match in _PEM.finditer(text)]
    secret = [(label, body) for label, body in blocks if label in _SECRET_LABELS]
    if len(secret) > 1:
        raise KeyFileError(f"{source} holds {len(secret)} secret keys", remedy="give a file with one")
    if not secret:
        raise _no_secret(text, [label for label, _ in blocks], source)
    label, body = secret[0]
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    if any(_PEM_LINE.fullmatch(line) is None for line in lines):
        raise KeyFileError(
            f"{source} has characters inside of its PEM block that are not base64",
            remedy="take out what was put before or between its lines, such as quotation marks, or copy the file again",
        )
    pem = "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()
    if label == _OPENSSH:
        return _from_openssh(pem, source, password)
    return _from_pkcs8(pem, source, password, is_encrypted=label == _PKCS8_ENCRYPTED)


def _no_secret(text: str, whole: list[str], source: str) -> KeyFileError:
    begun = [match[1] for match in _PEM_BEGIN.finditer(text)]
    if len(begun) > len(whole):
        return KeyFileError(
            f"{source} is cut off: its PEM block has no END line", remedy="copy the file again, whole"
        )
    if all(label in _PUBLIC_LABELS for label in whole):
        return _public_only(source)
    return KeyFileError(f"{source} is no Ed25519 key in a known format", remedy=f"give {_FORMATS}")


def _from_libp2p(data: bytes, source: str) -> SecretKey:
    if data.startswith(_LIBP2P_PUBLIC):
        raise _public_only(source)
    body = data[len(_LIBP2P_64) :]
    if len(body) != data[3]:
        raise KeyFileError(
            f"{source} is a libp2p private key of {len(body)} instead of {data[3]} bytes",
            remedy="copy the file again: it is cut off or has something appended",
        )
    secret = _secret(body[:KEY_BYTES], source)
    for start in range(KEY_BYTES, len(body), KEY_BYTES):
        _check_public(secret, body[start : start + KEY_BYTES], "the public half", source)
    return secret


def _from_pkcs8(pem: bytes, source: str, password: bytes | None, *, is_encrypted: bool) -> SecretKey:
    if is_encrypted and password is None:
        raise KeyFileError(
            f"{source} is encrypted",
            remedy="decrypt it first: openssl pkcs8 -in FILE -out PLAIN (and remove PLAIN after the import)",
        )
    if (secret := _from_pkcs8_v2(pem, source)) is not None:
        return secret
    from cryptography.exceptions import (  # 90 ms that others need not wait for
        InternalError,
        UnsupportedAlgorithm,
    )
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    # A password that an unencrypted key does not need would be an error of its own.
    needed = password if is_encrypted else None
    try:
        loaded = load_pem_private_key(pem, needed)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        InternalError,
    ) as error:  # the last: halves of X448 keys
        hint = "check the password" if needed is not None else "copy the file again"
        raise KeyFileError(f"{source} can not be read as a PKCS#8 key", remedy=hint) from error
    return _ed25519_of(loaded, source)


def _from_pkcs8_v2(pem: bytes, source: str) -> SecretKey | None:
    try:
        der = base64.b64decode(b"".join(pem.splitlines()[1:-1]), validate=True)
    except binascii.Error:
        return None
    match = _PKCS8_V2.fullmatch(der)
    if match is None:
        return None
    secret = _secret(match[1], source)
    _check_public(secret, match[2], "the public half", source)
    return secret


def _from_openssh(pem: bytes, source: str, password: bytes | None) -> SecretKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    encrypted = _openssh_is_encrypted(pem)
    try:
        loaded = load_ssh_private_key(pem, password if encrypted else None)
    except (TypeError, UnsupportedAlgorithm) as error:
        if not encrypted:
            raise KeyFileError(f"{source} is no Ed25519 key", remedy="give an Ed25519 key") from error
        raise KeyFileError(
            f"{source} has a passphrase",
            remedy="import a copy without one: ssh-keygen -p -N '' -f COPY (and remove the copy after)",
        ) from error
    except ValueError as error:
        raise KeyFileError(
            f"{source} can not be read as an OpenSSH key", remedy="copy the file again"
        ) from error
    return _ed25519_of(loaded, source)


def _openssh_is_encrypted(pem: bytes) -> bool:
    """Whether the cipher named after the magic of an OpenSSH key is another than ``none``."""
    try:
        blob = base64.b64decode(b"".join(pem.split(b"-----")[2].split()))
    except binascii.Error:
        return False
    return not blob.startswith(b"openssh-key-v1\0\0\0\0\x04none")


def _ed25519_of(loaded: PrivateKeyTypes, source: str) -> SecretKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not isinstance(loaded, Ed25519PrivateKey):
        raise KeyFileError(f"{source} is no Ed25519 key", remedy="give an Ed25519 key")
    return _secret(loaded.private_bytes_raw(), source)


def _hex_entry(value: object, name: str, source: str) -> bytes:
    if not isinstance(value, str):
        raise KeyFileError(f"{source}: {name} is not a string", remedy="write 64 hex digits in quotes")
    if len(value) != 2 * KEY_BYTES:
        raise KeyFileError(
            f"{source}: {name} has {len(value)} characters instead of 64", remedy="write the 32 bytes as hex"
        )
    if _HEX.fullmatch(value) is None:
        raise KeyFileError(f"{source}: {name} is not hexadecimal", remedy="write 64 digits of 0-9 a-f")
    return bytes.fromhex(value)


def _check_public(secret: SecretKey, stated: bytes, name: str, source: str) -> None:
    """Refuse halves that do not belong together: one of them is not what its owner thinks it is.

    What the file states is not shown: somebody may have put the secret there.
    """
    if secret.public.raw != stated:
        raise KeyFileError(
            f"{source}: {name} does not belong to the secret key, whose public key is {secret.public.hex}",
            remedy="restore the file from a copy, or correct public_key if you are sure of the secret",
        )
