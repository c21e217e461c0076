"""A whole snapshot as one value, read from its payload and written to it."""

from __future__ import annotations

from collections.abc import Iterator

from p2pboot.core.dataclass import dataclass
from p2pboot.core.timetoke.reader import SnapshotReader
from p2pboot.core.timetoke.records import TimetokeRecord, timetoke_root_text
from p2pboot.core.timetoke.writer import encode_snapshot


@dataclass(frozen=True, slots=True)
class TimetokeSnapshot:
    """A whole snapshot in memory. For large ones iterate over a :class:`~.reader.SnapshotReader` instead.

    Args:
        timetoke_root: 64 lowercase hex digits, as the source system computed it over its ledger.
        records: in the payload's order.

    Raises:
        ValueError: the timetoke root is not one.
    """

    timetoke_root: str
    records: tuple[TimetokeRecord, ...]

    def __post_init__(self) -> None:
        timetoke_root_text(self.timetoke_root)
        object.__setattr__(self, "records", tuple(self.records))

    @classmethod
    def from_bytes(cls, payload: bytes) -> TimetokeSnapshot:
        """Read a whole payload.

        Raises:
            SnapshotMalformed: it is none.
        """
        reader = SnapshotReader(payload)
        records = tuple(reader)
        return cls(reader.timetoke_root, records)

    def to_bytes(self) -> bytes:
        """Write the payload: the bytes that are signed, hashed, stored and sent."""
        return b"".join(encode_snapshot(self.records, self.timetoke_root))

    def __iter__(self) -> Iterator[TimetokeRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)
