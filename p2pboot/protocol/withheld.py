"""Why a peer does not give what it is asked for, and what it knows of and does not offer (in the reply to `heads`).

It is for people, and decides nothing: so what is not of this form is passed over, where a wrong entry of the list
itself would be the peer's fault. `docs/protocol-wire.md` is the specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.names import NAME_PATTERN
from p2pboot.protocol.frames import MAX_PAYLOAD, first_fitting

MAX_WITHHELD: Final = 16
MAX_WITHHELD_BYTES: Final = MAX_PAYLOAD - 256
"""Of the list as JSON; status and length of the same header take about 50."""

MAX_REASON: Final = 200
"""Characters of an explanation; what is longer is cut."""

_REASON = re.compile(r"[a-z][a-z_-]{0,31}")


def readable(value: object) -> str:
    """The printable characters among the first MAX_REASON of a text; "" for what is no text.

    Both sides use this, for what one node says to the people at another: the one to send nothing that is cut off
    elsewhere, the other because a stranger wrote it, and a terminal would obey.
    """
    if not isinstance(value, str):
        return ""
    return "".join(character for character in value[:MAX_REASON] if character.isprintable()).strip()


@dataclass(frozen=True, slots=True)
class WithheldHead:
    """A channel and arch of which a peer has a manifest that it does not offer; that peer's word.

    Args:
        channel: a name.
        arch: a name; canonical ones are what can be asked for.
        reason: a word for programs, like "expired"; there may be new ones.
        text: the same for people, at most MAX_REASON characters.
    """

    channel: str
    arch: str
    reason: str
    text: str


def encode_withheld(entries: Iterable[WithheldHead]) -> list[dict[str, str]]:
    """The member's value: the first entries that fit into a header."""
    documents = ({**asdict(entry), "text": readable(entry.text)} for entry in entries)
    return first_fitting(documents, MAX_WITHHELD, MAX_WITHHELD_BYTES)


def decode_withheld(value: object) -> tuple[WithheldHead, ...]:
    """What a peer sent, whatever it is: the first MAX_WITHHELD entries that make sense."""
    if not isinstance(value, list):
        return ()
    found = (_decode_entry(item) for item in value[:MAX_WITHHELD])
    return tuple(entry for entry in found if entry is not None)


def _decode_entry(item: object) -> WithheldHead | None:
    match item:
        case {"channel": str(channel), "arch": str(arch), "reason": str(reason), **others} if (
            NAME_PATTERN.fullmatch(channel) and NAME_PATTERN.fullmatch(arch) and _REASON.fullmatch(reason)
        ):
            return WithheldHead(channel, arch, reason, readable(others.get("text")) or reason)
    return None
