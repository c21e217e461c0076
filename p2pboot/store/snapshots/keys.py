"""The key that signs snapshots: a key file as any other, whose `version` goes before its signatures."""

from __future__ import annotations

import logging
from pathlib import Path

from p2pboot.core.keyformats import parse_key_toml, parse_key_version
from p2pboot.core.timetoke.signatures import SnapshotSigningKey
from p2pboot.store.keyfiles import Warn, load_or_generate, read_key_text

logger = logging.getLogger(__name__)


def load_snapshot_key(path: Path, *, warn: Warn = logger.warning) -> SnapshotSigningKey:
    """Read the key that signs snapshots.

    Args:
        path: of its key file.
        warn: told when others than the owner may read the secret.

    Raises:
        KeyFileError: there is none, it is no valid key file, or its version is no number from 0 to 2^32-1.
        MachineError: it can not be read.
    """
    text = read_key_text(path, warn)
    key = parse_key_toml(text, source=str(path))
    return SnapshotSigningKey(key.seed, parse_key_version(text, source=str(path)))


def load_or_generate_snapshot_key(path: Path, *, warn: Warn = logger.warning) -> SnapshotSigningKey:
    """Read the key that signs snapshots; make it first, without a version, if there is none.

    Raises:
        KeyFileError: what is there is not a valid key file.
        MachineError: it can not be read or written.
    """
    load_or_generate(path, warn=_said_below)
    return load_snapshot_key(path, warn=warn)


def _said_below(_text: str) -> None:
    """The file is read twice; who may read it is said once."""
