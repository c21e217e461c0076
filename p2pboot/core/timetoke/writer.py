r"""Values to bytes: exactly what the source system's serde_json writes.

Compact JSON, members in declaration order; a text escapes `"`, `\`, and the control characters below U+0020
(`\b \f \n \r \t` by name, others as `\u00xx` in lower-case hex) and nothing else: no `/`, no U+007F, no other
Unicode. RFC 8785 is another form: it has no integers beyond 2^53 and widens 32-bit floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring
from typing import Final

from p2pboot.core.timetoke.numbers import f32_text
from p2pboot.core.timetoke.records import TimetokeRecord, timetoke_root_text

BATCH_BYTES: Final = 256 * 1024
"""About what one item of `encode_snapshot` holds: few enough calls, little enough memory."""


def encode_record(record: TimetokeRecord) -> str:
    """Write one record."""
    return (
        f'{{"identity":{encode_basestring(record.identity)},"balance":{record.balance},'
        f'"epoch_accrual":{record.epoch_accrual},"decay_rate":{f32_text(record.decay_rate)},'
        f'"last_update":{record.last_update},"last_sync":{record.last_sync},"last_decay":{record.last_decay}}}'
    )


def encode_snapshot(records: Iterable[TimetokeRecord], timetoke_root: str | bytes) -> Iterator[bytes]:
    """Write a payload in parts, for any number of records in bounded memory.

    Args:
        records: taken one after another.
        timetoke_root: 64 lowercase hex digits, or 32 bytes.

    Raises:
        ValueError: the timetoke root is not one.
    """
    batch = [f'{{"timetoke_root":"{timetoke_root_text(timetoke_root)}","records":[']
    size, separator = 0, ""
    for record in records:
        text = encode_record(record)
        batch += (separator, text)
        separator = ","
        size += len(text)
        if size >= BATCH_BYTES:
            yield "".join(batch).encode()
            batch, size = [], 0
    batch.append("]}")
    yield "".join(batch).encode()
