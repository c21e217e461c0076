"""Peer-to-peer provider node for signed boot manifests and their artifacts, and for Timetoke snapshots.

Importing the package imports nothing else: `p2pboot --help` and the offline commands start at once. The names
of the Timetoke source system are here as well; each is imported when it is used for the first time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

__version__ = "0.1.0"

RELEASE_DATE: Final = 1_795_305_600
"""2026-11-22T00:00:00Z in unix seconds, the day this version was released (see CHANGELOG.md).

No machine that runs this version can truthfully believe in an earlier time, so verification takes it as the
floor of the clock: a machine without a battery that starts in 1970 still boots, and the verdict says so.
"""

# Their types are in __init__.pyi. Imports under TYPE_CHECKING would make every layer depend on every other.
_TIMETOKE: Final = {
    "NodeConfig": "p2pboot.config.timetoke",
    "NetworkPruningCommitment": "p2pboot.core.timetoke.replay",
    "NetworkPruningEnvelope": "p2pboot.core.timetoke.replay",
    "NetworkPruningSegment": "p2pboot.core.timetoke.replay",
    "NetworkPruningSnapshot": "p2pboot.core.timetoke.replay",
    "SnapshotSigningKey": "p2pboot.core.timetoke.signatures",
    "SnapshotStore": "p2pboot.store.snapshots.base",
    "MemorySnapshotStore": "p2pboot.store.snapshots.memory",
    "DiskSnapshotStore": "p2pboot.store.snapshots.disk",
    "TimetokeRecord": "p2pboot.core.timetoke.records",
    "TimetokeReplayError": "p2pboot.core.timetoke.replay",
    "TimetokeReplayValidator": "p2pboot.core.timetoke.replay",
    "TimetokeSnapshot": "p2pboot.core.timetoke.snapshot",
    "TimetokeSnapshotConsumer": "p2pboot.store.snapshots.consumer",
    "TimetokeSnapshotError": "p2pboot.core.timetoke.errors",
    "TimetokeSnapshotHandle": "p2pboot.core.timetoke.records",
    "TimetokeSnapshotProducer": "p2pboot.publish.snapshots",
}


def __getattr__(name: str) -> Any:
    module = _TIMETOKE.get(name)
    if module is None:
        raise AttributeError(f"module 'p2pboot' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_TIMETOKE})
