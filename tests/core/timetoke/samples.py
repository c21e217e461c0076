"""Records, payloads and announcements to test with."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from p2pboot.core.identity import SecretKey
from p2pboot.core.timetoke.announcement import Announcement, SnapshotFacts
from p2pboot.core.timetoke.chunks import ChunkTableBuilder
from p2pboot.core.timetoke.records import TimetokeRecord
from p2pboot.core.timetoke.signatures import KeySigner, PayloadSignature
from p2pboot.core.timetoke.snapshot import TimetokeSnapshot

VECTORS = Path(__file__).parents[2] / "vectors" / "timetoke"
INDEX: dict[str, Any] = json.loads((VECTORS / "index.json").read_text())
NAMES = [entry["name"] for entry in INDEX["snapshots"]]
VECTOR_KEY = SecretKey(bytes.fromhex(INDEX["secret_key"]))

ALICE, BOB, CAROL = (SecretKey(bytes([number]) * 32) for number in (1, 2, 3))
TIMETOKE_ROOT = "7e" * 32
CREATED_AT = 1_764_158_400
CHUNK = 64 * 1024


def record(number: int = 0, **changes: Any) -> TimetokeRecord:
    values: dict[str, Any] = {
        "identity": f"identity-{number:08}",
        "balance": number * 10**20,
        "epoch_accrual": number,
        "decay_rate": 0.975,
        "last_update": 1_700_000_000,
        "last_sync": 1_700_000_001,
        "last_decay": 1_700_000_002,
        **changes,
    }
    return TimetokeRecord(**values)


@cache
def payload_of(records: int, timetoke_root: str = TIMETOKE_ROOT) -> bytes:
    return TimetokeSnapshot(timetoke_root, tuple(record(number) for number in range(records))).to_bytes()


def sign(payload: bytes, key: SecretKey = ALICE) -> str:
    return PayloadSignature(KeySigner(key).sign(payload)).base64


def facts_of(payload: bytes, *, chunk_length: int = CHUNK, **changes: Any) -> SnapshotFacts:
    builder = ChunkTableBuilder(chunk_length)
    builder.update(payload)
    root, table = builder.finish()
    values: dict[str, Any] = {
        "root": root,
        "size": table.size,
        "chunk_length": chunk_length,
        "chunk_table": table.digest,
        "timetoke_root": json.loads(payload)["timetoke_root"],
        "record_count": len(json.loads(payload)["records"]),
        **changes,
    }
    return SnapshotFacts(**values)


def announce(payload: bytes, key: SecretKey = ALICE, sequence: int = 1, **changes: Any) -> Announcement:
    signature = changes.pop("payload_signature", None) or sign(payload, key)
    return Announcement.make(
        facts_of(payload, **changes),
        sequence=sequence,
        created_at=CREATED_AT,
        payload_signature=signature,
        key=key,
    )
