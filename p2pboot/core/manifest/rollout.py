"""The member ``rollout``: a manifest of ``<channel>.next`` that takes the place of another one, machine by machine.

::

    "rollout": {"duration_s": 86400, "into": "stable", "over": "<64 hex>", "percent": 100, "salt": "<text>",
                "start": "2026-01-01T00:00:00Z",
                "resumed": "2026-01-02T00:00:00Z"}      only of one that was paused

What follows from it for a machine is :mod:`p2pboot.core.rollouts`'s.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import is_digest
from p2pboot.core.jsonform import decode_typed, shown
from p2pboot.core.manifest import fields
from p2pboot.core.names import NEXT, is_next
from p2pboot.core.timestamps import format_time
from p2pboot.errors import Malformed

MAX_SALT_BYTES: Final = 64
MAX_DURATION_S: Final = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Rollout:
    """To whom a manifest is given, and when.

    Args:
        into: the channel whose machines it is for.
        over: the content in there that it takes the place of (:mod:`.content`), hex.
        start: unix seconds.
        duration_s: until all whom it is for have it, from the start; 0 for at once.
        percent: of the machines, 0 to 100.
        salt: what a machine's place depends on, so that not always the same ones are the first; 1 to 64 bytes.
        resumed: unix seconds; what a statement says of a pause since before is over. None where none ever was.
    """

    into: str
    over: str
    start: int
    duration_s: int
    percent: int
    salt: str
    resumed: int | None = None

    def members(self) -> dict[str, Any]:
        """The member, as plain values."""
        members: dict[str, Any] = {
            "into": self.into,
            "over": self.over,
            "start": format_time(self.start),
            "duration_s": self.duration_s,
            "percent": self.percent,
            "salt": self.salt,
        }
        if self.resumed is not None:
            members["resumed"] = format_time(self.resumed)
        return members


class _Rollout(msgspec.Struct, frozen=True):
    into: str
    over: str
    start: str
    duration_s: int
    percent: int
    salt: str
    resumed: str | msgspec.UnsetType = msgspec.UNSET


_DECODER: Final = msgspec.json.Decoder(_Rollout)


def read_rollout(raw: msgspec.Raw, channel: str) -> Rollout:
    """Read the member out of a manifest of a channel.

    Raises:
        Malformed: naming the member and what is wrong with it.
    """
    wire = decode_typed(raw, _DECODER, place="rollout")
    if channel != wire.into + NEXT:
        raise Malformed(
            f"rollout.into: a roll-out into it is a manifest of the channel {shown(wire.into)}{NEXT}"
        )
    if is_next(wire.into):
        raise Malformed(f"rollout.into: {wire.into[:64]!r} is the channel of a roll-out itself")
    if not is_digest(wire.over):
        raise Malformed("rollout.over: must be 64 lowercase hex digits")
    if not 0 <= wire.duration_s <= MAX_DURATION_S:
        raise Malformed(f"rollout.duration_s: must be from 0 to {MAX_DURATION_S}")
    if not 0 <= wire.percent <= 100:
        raise Malformed("rollout.percent: must be from 0 to 100")
    return Rollout(
        wire.into,
        wire.over,
        fields.check_time("rollout.start", wire.start),
        wire.duration_s,
        wire.percent,
        fields.check_text("rollout.salt", wire.salt, max_bytes=MAX_SALT_BYTES),
        None
        if isinstance(wire.resumed, msgspec.UnsetType)
        else fields.check_time("rollout.resumed", wire.resumed),
    )
