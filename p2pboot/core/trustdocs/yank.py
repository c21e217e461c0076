"""Yanks: certain content of a channel and arch shall not be booted any more, whatever number it comes under.

::

    {"arch": "x86_64", "channel": "stable", "content": "<64 hex>", "created_at": "…", "fleet": "<64 hex>",
     "reason": "does not mount its root", "signatures": […], "spec": "p2pboot-yank/1"}

`content` is that of the manifest (:func:`p2pboot.core.manifest.content.content_digest`): renewals of it are yanked as
well. It takes the threshold of whoever may publish there, lists no signers, and lasts while those count.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import is_digest
from p2pboot.core.manifest import fields
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT, Document, Unchecked, decode, drafted
from p2pboot.errors import Malformed

SPEC: Final = "p2pboot-yank/1"
MAX_REASON_BYTES: Final = 512
MAX_YANKS: Final = 64
"""Of one channel and arch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YankBody:
    """What a yank says; times in unix seconds. Every field has passed the rules of the format."""

    fleet: str
    channel: str
    arch: str
    content: str
    reason: str
    created_at: int

    @property
    def pair(self) -> tuple[str, str]:
        """The channel and arch."""
        return self.channel, self.arch

    def members(self) -> dict[str, Any]:
        """The document's members without its signatures."""
        return {
            "spec": SPEC,
            "fleet": self.fleet,
            "channel": self.channel,
            "arch": self.arch,
            "content": self.content,
            "reason": self.reason,
            "created_at": format_time(self.created_at),
        }

    def document(self) -> bytes:
        """The document that waits for its signatures.

        Raises:
            UsageError: it breaks a rule of the format; the message names the member.
        """
        return drafted(self.members(), decode_yank, "a yank")


@dataclass(frozen=True, slots=True, kw_only=True)
class Yank(Document):
    """A yank whose signatures are valid; whether they are enough is the policy's to know."""

    body: YankBody

    @classmethod
    def parse(cls, raw: bytes) -> Yank:
        """Read a yank from anyone; it may still lack signatures.

        Raises:
            Malformed: no yank, or not in its one form.
            SignatureError: a signature does not match.
        """
        return check_yank(decode_yank(raw))

    @property
    def pair(self) -> tuple[str, str]:
        """The channel and arch."""
        return self.body.pair

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Yank) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)


def check_yank(found: Unchecked[YankBody], *, trusted: tuple[str, ...] = ()) -> Yank:
    """Check what `decode_yank` read.

    Args:
        found: it.
        trusted: key ids whose signatures are checked first.

    Raises:
        SignatureError: a signature does not match.
        Malformed: not in canonical form.
    """
    found.check(first=trusted)
    return Yank(raw=found.raw, digest=found.digest, signed_by=found.signers, body=found.claims)


class _Yank(msgspec.Struct, frozen=True, kw_only=True):
    fleet: str
    channel: str
    arch: str
    content: str
    reason: str
    created_at: str


_DECODER: Final = msgspec.json.Decoder(_Yank)


def decode_yank(raw: bytes) -> Unchecked[YankBody]:
    """Stage one of reading a yank: see `envelope.decode`.

    Raises:
        Malformed: naming the member and what is wrong with it.
        SignatureError: a signature is none.
    """
    return decode(raw, SPEC, _DECODER, _read, max_bytes=MAX_DOCUMENT)


def _read(wire: _Yank) -> YankBody:
    for name in ("fleet", "content"):
        if not is_digest(getattr(wire, name)):
            raise Malformed(f"{name}: must be 64 lowercase hex digits")
    return YankBody(
        fleet=wire.fleet,
        channel=fields.check_channel("channel", wire.channel),
        arch=fields.check_arch("arch", wire.arch),
        content=wire.content,
        reason=fields.check_text("reason", wire.reason, max_bytes=MAX_REASON_BYTES, min_bytes=0),
        created_at=fields.check_time("created_at", wire.created_at),
    )
