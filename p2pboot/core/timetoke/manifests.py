"""What a file of a snapshot store is: records, or the source system's other signed document, a manifest of chunks.

The source system keeps `manifest/chunks.json`: an object with `version` and `segments`, which names files in `chunks/`.
It is signed, named by its BLAKE3 and asked for as a snapshot of records is, so we list, serve and verify it. What it
names is the source system's matter.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from p2pboot.core.timetoke.errors import SnapshotMalformed
from p2pboot.core.timetoke.reader import SnapshotReader

if TYPE_CHECKING:
    from p2pboot.core.timetoke.reader import Payload

KIND_RECORDS: Final = "records"
KIND_CHUNKS: Final = "manifest of chunks"
KIND_UNKNOWN: Final = "unknown content"

MAX_CHUNK_MANIFEST: Final = 16 * 1024 * 1024
"""Bytes; an entry takes about 200."""

_RECORDS_START: Final = re.compile(rb'\s*\{\s*"(?:timetoke_root|records)"\s*:')


def chunk_manifest_length(payload: Payload) -> int | None:
    """How many chunks a manifest of chunks names; None when the payload is none."""
    if len(payload) > MAX_CHUNK_MANIFEST or _RECORDS_START.match(payload):
        return None
    try:
        document = json.loads(bytes(payload))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or type(document.get("version")) is not int or "records" in document:
        return None
    segments = document.get("segments")
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        return None
    return len(segments)


def payload_kind(payload: Payload) -> str:
    """What a payload is, without reading all of it where it is large."""
    if _RECORDS_START.match(payload):
        return KIND_RECORDS
    if chunk_manifest_length(payload) is not None:
        return KIND_CHUNKS
    try:
        _ = SnapshotReader(payload).timetoke_root
    except SnapshotMalformed:
        return KIND_UNKNOWN
    return KIND_RECORDS
