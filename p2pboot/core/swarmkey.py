r"""The key of a private mesh, libp2p's pre-shared key, and the file that it comes in.

Spec: https://github.com/libp2p/specs/blob/master/pnet/Private-Networks-PSK-V1.md. The file is what go-libp2p, Kubo,
js-libp2p and rust-libp2p read::

    /key/swarm/psk/1.0.0/
    /base16/
    <64 hex digits>

or `/base64/` with base64, or `/bin/` with the 32 bytes as they are. Works on bytes; files are read and written in
:mod:`p2pboot.store.keyfiles`. No message shows a byte of what may be the key.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import hmac
import re
from typing import Final

from p2pboot.core.salsa20 import KEY_BYTES, first_block
from p2pboot.core.textfiles import SAVE_AS_UTF8, OtherEncoding, decode_text
from p2pboot.errors import KeyFileError

HEADER: Final = "/key/swarm/psk/1.0.0/"
BASE16: Final = "/base16/"
BASE64: Final = "/base64/"
BINARY: Final = "/bin/"

_FORM: Final = f"it has three lines: {HEADER}, {BASE16}, 64 hex digits; make one: p2pboot key swarm FILE"
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*")
_ANY_HEADER: Final = re.compile(r"/key/swarm/psk/[^/\s]{1,20}/")
_BINARY_FILE: Final = re.compile(
    re.escape(HEADER.encode()) + rb"[ \t]*\r?\n" + re.escape(BINARY.encode()) + rb"[ \t]*\r?\n(.*)", re.DOTALL
)
_FINGERPRINT_NONCE: Final = b"finprint"
_FINGERPRINT_BYTES: Final = 16


class SwarmKey:
    """A swarm key: whoever has it is of the mesh. Its `repr` and `str` show the fingerprint only.

    Args:
        raw: 32 random bytes.

    Raises:
        ValueError: not 32 bytes.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a swarm key is {KEY_BYTES} bytes, not {len(raw)}")
        self._raw = bytes(raw)

    @property
    def raw(self) -> bytes:
        """The 32 secret bytes. For key files and the cipher only: never log or show them."""
        return self._raw

    @property
    def fingerprint(self) -> str:
        """32 hex digits by which people compare keys without showing them: as Kubo and rust-libp2p make them.

        Shake-128 of the first block of Salsa20's keystream for the nonce "finprint".
        """
        block = first_block(self._raw, _FINGERPRINT_NONCE)
        return hashlib.shake_128(block).hexdigest(_FINGERPRINT_BYTES)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SwarmKey):
            return NotImplemented
        return hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        return f"SwarmKey(fingerprint={self.fingerprint!r})"


def parse_swarm_key(data: bytes, *, source: str) -> SwarmKey:
    """Read the content of a swarm key's file.

    Text may have what editors add: a byte-order mark, CRLF, blanks at the ends of lines, empty lines at the end.

    Args:
        data: all of it.
        source: what to call it in messages, usually its path.

    Raises:
        KeyFileError: it is no such file, of another version, in an unknown encoding, or the key is no 32 bytes.
    """
    binary = _BINARY_FILE.match(data.removeprefix(codecs.BOM_UTF8))
    if binary is not None:
        raw = binary[1]
        for end in (b"\r\n", b"\n"):  # an editor's; it may as well be the key's own last byte
            if len(raw) == KEY_BYTES + len(end) and raw.endswith(end):
                raw = raw[:KEY_BYTES]
        return _of_length(raw, source)
    lines = [line.rstrip() for line in _text(data, source).rstrip().split("\n")]
    if lines[0] != HEADER:
        raise _no_swarm_key(lines[0], source)
    if len(lines) != 3:
        raise KeyFileError(f"{source} is no whole swarm key: it has {len(lines)} lines, not 3", remedy=_FORM)
    return _of_length(_decoded(lines[1], lines[2], source), source)


def render_swarm_key(key: SwarmKey) -> str:
    """Return the content of a file for `key`; it holds the secret."""
    return f"{HEADER}\n{BASE16}\n{key.raw.hex()}\n"


def _decoded(encoding: str, text: str, source: str) -> bytes:
    try:
        if encoding == BASE16 and _HEX.fullmatch(text):
            return bytes.fromhex(text)
        if encoding == BASE64:
            return base64.b64decode(text, validate=True)
    except ValueError:
        pass
    if encoding in (BASE16, BASE64):
        raise KeyFileError(f"{source}: its third line is not {encoding.strip('/')}", remedy=_FORM)
    raise KeyFileError(
        f"{source}: its second line is not {BASE16}, {BASE64} or {BINARY}, which say how the key is written",
        remedy=_FORM,
    )


def _text(data: bytes, source: str) -> str:
    try:
        return decode_text(data)
    except OtherEncoding as error:
        raise KeyFileError(f"{source} {error}", remedy=SAVE_AS_UTF8) from None
    except ValueError:
        raise KeyFileError(f"{source} is not a swarm key", remedy=_FORM) from None


def _no_swarm_key(first_line: str, source: str) -> KeyFileError:
    if _ANY_HEADER.fullmatch(first_line):
        return KeyFileError(
            f"{source} is a swarm key of another version, {first_line}; {HEADER} is known here", remedy=_FORM
        )
    return KeyFileError(f"{source} is not a swarm key: its first line is not {HEADER}", remedy=_FORM)


def _of_length(raw: bytes, source: str) -> SwarmKey:
    if len(raw) != KEY_BYTES:
        raise KeyFileError(
            f"{source}: the swarm key has {len(raw)} bytes, not {KEY_BYTES}",
            remedy="copy the whole file of another node, or make a new one for all: p2pboot key swarm FILE",
        )
    return SwarmKey(raw)
