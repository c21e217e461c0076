"""The values of a snapshot: records, and the small facts about a whole one.

Field names and their order are the source system's; they are the order of the bytes, too.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import force_setattr

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import is_digest
from p2pboot.core.timetoke.numbers import U64_MAX, U128_MAX, round_f32


class TimetokeRecord(msgspec.Struct, frozen=True):
    """One identity's account; an invalid one can not exist.

    Args:
        identity: any Unicode text.
        balance: unsigned, 128 bits.
        epoch_accrual: unsigned, 64 bits.
        decay_rate: finite; kept as the nearest 32-bit float.
        last_update: unsigned, 64 bits, as all that follow; the source system's times.
        last_sync: likewise.
        last_decay: likewise.

    Raises:
        TypeError: a field is of another type.
        ValueError: a number is out of range, or the identity is no Unicode text (lone surrogates).
    """

    identity: str
    balance: int
    epoch_accrual: int
    decay_rate: float
    last_update: int
    last_sync: int
    last_decay: int

    def __post_init__(self) -> None:
        if not isinstance(self.identity, str):
            raise TypeError("identity is not a text")
        if not self.identity.isascii():
            _check_unicode(self.identity)
        _check_unsigned("balance", self.balance, U128_MAX)
        _check_unsigned("epoch_accrual", self.epoch_accrual, U64_MAX)
        _check_unsigned("last_update", self.last_update, U64_MAX)
        _check_unsigned("last_sync", self.last_sync, U64_MAX)
        _check_unsigned("last_decay", self.last_decay, U64_MAX)
        rate = self.decay_rate
        if type(rate) is not float and type(rate) is not int:
            raise TypeError("decay_rate is not a number")
        try:
            force_setattr(self, "decay_rate", round_f32(float(rate)))
        except (ValueError, OverflowError):
            raise ValueError(f"decay_rate: {str(rate)[:40]} is not a finite 32-bit float") from None


RECORD_FIELDS: Final = TimetokeRecord.__struct_fields__


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("identity holds half a surrogate pair, which has no UTF-8 form") from None


def _check_unsigned(name: str, value: int, highest: int) -> None:
    if type(value) is not int:  # True is an int in Python and in no other language
        raise TypeError(f"{name} is not an integer")
    if not 0 <= value <= highest:
        raise ValueError(f"{name}: {str(value)[:44]} is not from 0 to {highest}")


def timetoke_root_text(root: str | bytes) -> str:
    """Return a timetoke root as payloads state it: 64 lowercase hex digits.

    Args:
        root: that text, or its 32 bytes.

    Raises:
        ValueError: neither.
    """
    text = root.hex() if isinstance(root, bytes) else root
    if not is_digest(text):
        raise ValueError(f"timetoke root {str(text)[:80]!r} is not 64 lowercase hex digits")
    return text


@dataclass(frozen=True, slots=True)
class TimetokeSnapshotHandle:
    """What a published (or wholly received) snapshot is known by.

    Args:
        root: BLAKE3 of the payload, 64 lowercase hex digits.
        total_chunks: into how many chunks the payload is cut.
        record_count: how many records it has.
        timetoke_root: as the payload states it; empty for a manifest of chunks, which states none.
        signature: base64 of the Ed25519 signature over the payload, None where it is not signed.
    """

    root: str
    total_chunks: int
    record_count: int
    timetoke_root: str
    signature: str | None
