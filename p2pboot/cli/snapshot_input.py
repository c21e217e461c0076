"""What the snapshot commands read: records as JSON lines, whole payloads, mapped files, keys."""

from __future__ import annotations

import codecs
import contextlib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from p2pboot.cli.files import open_input
from p2pboot.core.identity import PublicKey, parse_keyid
from p2pboot.core.timetoke.errors import SnapshotMalformed
from p2pboot.core.timetoke.reader import MAX_VALUE_BYTES, decode_record
from p2pboot.errors import UsageError, machine_error

if TYPE_CHECKING:
    from p2pboot.core.timetoke.records import TimetokeRecord, TimetokeSnapshotHandle
    from p2pboot.publish.snapshots import TimetokeSnapshotProducer

_PEEK_BYTES = 4096
_PART_BYTES = 1024 * 1024
_CHUNK_MANIFEST = re.compile(rb'\s*\{(?=[^{]*"segments"\s*:)(?=[^{]*"version"\s*:)')
_PAYLOAD_START = re.compile(rb'\s*\{\s*"(?:timetoke_root|records)"\s*:')


def publish_file(
    producer: TimetokeSnapshotProducer, file: Path, timetoke_root: str | None
) -> TimetokeSnapshotHandle:
    """Publish what a file (or standard input, for "-") holds.

    Args:
        producer: publishes it.
        file: records as JSON lines, or a whole payload.
        timetoke_root: needed for records; of a payload it must be the one that it states.

    Raises:
        UsageError: there is no such file, a line is no record, or the timetoke root is missing or wrong.
        SnapshotMalformed: a payload that is none.
    """
    with open_input(file, what="snapshot") as stream:
        start = stream.read(_PEEK_BYTES)
        _refuse_other_texts(start, file)
        if start.startswith(codecs.BOM_UTF8):
            start = start.removeprefix(codecs.BOM_UTF8)
            if _PAYLOAD_START.match(start):
                raise SnapshotMalformed(
                    f"{file} begins with a byte order mark, and a payload is signed byte for byte",
                    remedy="save it without one, and without changing anything else",
                )
        if _PAYLOAD_START.match(start):
            return producer.publish_payload(_parts(start, stream), timetoke_root)
        if timetoke_root is None:
            raise UsageError(
                f"{file} holds records, and nothing says of which ledger",
                remedy="give its root: --timetoke-root <64 hex digits>",
            )
        try:
            return producer.publish(_records(start, stream, file), timetoke_root)
        except ValueError as error:
            raise UsageError(f"--timetoke-root: {error}") from None


def _refuse_other_texts(start: bytes, file: Path) -> None:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"{file} is UTF-16 text", remedy="save it as UTF-8")
    if _CHUNK_MANIFEST.match(start):
        raise SnapshotMalformed(
            f"{file} is a manifest of chunks, not a snapshot of records",
            remedy="it is served and listed as it is, with the signature that its own system gives it",
        )


@contextlib.contextmanager
def map_file(path: Path) -> Iterator[mmap.mmap]:
    """A file's content without copying it.

    Raises:
        UsageError: there is no such file.
        SnapshotMalformed: it is empty.
        MachineError: it can not be read.
    """
    if path.is_fifo():  # opening it waits for a writer, and it can not be mapped
        raise UsageError(f"{path} is a pipe, not a file", remedy="give the file itself")
    with open_input(path, what="snapshot") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise SnapshotMalformed(f"{path} is empty, so it is no snapshot") from None
        except OSError as error:
            raise machine_error(error, f"map {path}") from error
        with mapped:
            yield mapped


def parse_public_key(text: str) -> PublicKey:
    """Read the value of `--public-key`; UsageError when it is none."""
    try:
        return parse_keyid(text)
    except ValueError as error:
        raise UsageError(f"--public-key: {error}") from None


def _parts(start: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    yield start
    while part := stream.read(_PART_BYTES):
        yield part


def _records(start: bytes, stream: IO[bytes], file: Path) -> Iterator[TimetokeRecord]:
    for number, line in enumerate(_lines(start, stream), start=1):
        if not line.strip():
            continue
        if len(line) > MAX_VALUE_BYTES:
            raise UsageError(f"{file}: line {number} is longer than {MAX_VALUE_BYTES} bytes")
        try:
            yield decode_record(line)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{file}: line {number} is no record: {error}") from None


def _lines(start: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    """The lines of what was read already and of what follows, each cut off where it is too long."""
    *whole, rest = start.split(b"\n")
    yield from whole
    yield rest + stream.readline(MAX_VALUE_BYTES + 1)
    while line := stream.readline(MAX_VALUE_BYTES + 1):
        yield line
