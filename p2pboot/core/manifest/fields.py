"""The rules for single fields of manifests and trust documents: names, bounded text, base64, URLs, digests.

Every function takes the place of the field first and raises :class:`~p2pboot.errors.Malformed` with it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

from p2pboot.core.digests import is_digest
from p2pboot.core.identity import PublicKey
from p2pboot.core.jsonform import FORBIDDEN_CHARACTERS, MAX_INTEGER
from p2pboot.core.names import ARCHS, check_name
from p2pboot.core.timestamps import parse_time
from p2pboot.errors import Malformed

MAX_VERSION_BYTES: Final = 128
MAX_CMDLINE_BYTES: Final = 4096
"""Twice what x86 and arm64 kernels take (COMMAND_LINE_SIZE is 2048), as much as any architecture does."""
MAX_NAME_BYTES: Final = 255
"""A host name has at most 253 characters (RFC 1035)."""
MAX_PEER_ID_BYTES: Final = 128
MAX_URLS: Final = 16
MAX_URL_BYTES: Final = 2048
MAX_SIGNERS: Final = 32
"""Bounds the signature checks that one message of 64 KiB can ask for: 32 cost 2 ms."""

# RFC 3986 absolute-URI with scheme http or https: no user, no fragment, ASCII only. That leaves out white
# space, quotes, backslashes and the braces of an iPXE "${setting}": a URL can go into a script as it is.
_PCHAR: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_URL: Final = re.compile(
    r"https?://(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    rf"(?:/{_PCHAR}*)?(?:\?(?:{_PCHAR}|\?)*)?"
)
_MAX_PORT: Final = 65_535


def check_text(place: str, text: str, *, max_bytes: int, min_bytes: int = 1) -> str:
    """Return ``text`` if its UTF-8 form has an allowed length and no control characters."""
    length = len(text.encode())
    if length < min_bytes:
        raise Malformed(f"{place}: must not be empty")
    if length > max_bytes:
        raise Malformed(f"{place}: {length} bytes are more than the {max_bytes} that are allowed")
    found = FORBIDDEN_CHARACTERS.search(text)
    if found is not None:
        raise Malformed(f"{place}: control character U+{ord(found[0]):04X} is not allowed")
    return text


def check_channel(place: str, name: str) -> str:
    """Return ``name`` if a channel can be called so."""
    try:
        return check_name(name, "the name")
    except ValueError as error:
        raise Malformed(f"{place}: {error}") from None


def check_arch(place: str, name: str) -> str:
    """Return ``name`` if it is the canonical name of an architecture.

    Aliases are for people and URLs: a second spelling in a document would be a second document.
    """
    if name not in ARCHS:
        raise Malformed(f"{place}: {name[:40]!r} is not one of {', '.join(ARCHS)}")
    return name


def check_integer(place: str, number: int) -> int:
    """Return ``number`` if it is from 1 to 2^53-1."""
    if not 1 <= number <= MAX_INTEGER:
        raise Malformed(f"{place}: {str(number)[:24]} is not from 1 to 2^53-1")
    return number


def check_time(place: str, text: str) -> int:
    """Return the unix seconds of ``YYYY-MM-DDTHH:MM:SSZ``."""
    try:
        return parse_time(text)
    except ValueError as error:
        raise Malformed(f"{place}: {error}") from None


def check_hash(place: str, text: str, algorithm: str) -> str:
    """Return the bare hex digest of ``<algorithm>:<64 lowercase hex>``."""
    prefix, _, digest = text.partition(":")
    if prefix != algorithm:
        raise Malformed(f"{place}: {prefix[:20]!r} is not the hash algorithm {algorithm}")
    if not is_digest(digest):
        raise Malformed(f"{place}: must be {algorithm}: and 64 lowercase hex digits")
    return digest


def check_urls(place: str, urls: Sequence[str]) -> tuple[str, ...]:
    """Return download addresses if there are not too many and each is an absolute http(s) URL."""
    if len(urls) > MAX_URLS:
        raise Malformed(f"{place}: {len(urls)} are more than the {MAX_URLS} that are allowed")
    for index, url in enumerate(urls):
        _check_url(f"{place}[{index}]", url)
    return tuple(urls)


def _check_url(place: str, url: str) -> None:
    if len(url) > MAX_URL_BYTES:
        raise Malformed(f"{place}: {len(url)} bytes are more than the {MAX_URL_BYTES} that are allowed")
    match = _URL.fullmatch(url)
    if match is None or not 1 <= int(match["port"] or 1) <= _MAX_PORT:
        raise Malformed(f"{place}: {url[:80]!r} is not an absolute http or https URL (RFC 3986)")


def check_base64(place: str, text: str) -> bytes:
    """Return the bytes of padded base64 (RFC 4648, 4) that re-encodes to itself."""
    try:
        decoded = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:
        decoded = b""
    if not decoded or base64.b64encode(decoded).decode("ascii") != text:
        raise Malformed(f"{place}: not padded base64 that re-encodes to itself")
    return decoded


def check_signers(place: str, keyids: Sequence[str]) -> tuple[str, ...]:
    """Return key ids if there are 1 to 32, each valid, sorted and none twice."""
    if not 1 <= len(keyids) <= MAX_SIGNERS:
        raise Malformed(f"{place}: {len(keyids)} signers, must be 1 to {MAX_SIGNERS}")
    for index, keyid in enumerate(keyids):
        try:
            PublicKey.from_keyid(keyid)
        except ValueError as error:
            raise Malformed(f"{place}[{index}]: {error}") from None
    if list(keyids) != sorted(set(keyids)):
        raise Malformed(f"{place}: must be sorted and name nobody twice")
    return tuple(keyids)
