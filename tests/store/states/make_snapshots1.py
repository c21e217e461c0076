"""Makes `snapshots1.tar.gz`: a snapshot directory as p2pboot 0.1.0 left it while it kept announcements as files.

    python -m tests.store.states.make_snapshots1 OUTPUT

It runs only with a p2pboot that still does (the last commit that does is 53061c7); what it made is kept beside it and
migrated by `tests.store.snapshots.test_migration`. The same in every run but for times and inodes.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

from p2pboot.store.snapshots.arriving import ArrivingSnapshots
from p2pboot.store.snapshots.evidence import keep_evidence

from p2pboot.core.timetoke.agreement import Conflict
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from tests.core.timetoke.samples import ALICE, BOB, CHUNK, announce, payload_of, sign


def main(output: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "snapshots"
        fill(directory)
        with tarfile.open(output, "w:gz") as archive:
            archive.add(directory, "snapshots")


def fill(directory: Path) -> None:
    store = DiskSnapshotStore(directory, chunk_length=CHUNK)
    kept = payload_of(500)
    store.insert(kept, f"3:{sign(kept)}\n")
    store.announcements.put(announce(kept, ALICE, 4))
    store.announcements.put(announce(kept, BOB, 4))
    store.announcements.put(announce(payload_of(10), ALICE, 3))
    with store.announcements.exclusive():  # leaves its lock file
        pass
    first, second = announce(payload_of(1), ALICE, 2), announce(payload_of(2), ALICE, 2)
    keep_evidence(directory, Conflict(2, first, second))
    arriving = ArrivingSnapshots(store)
    whole = payload_of(600)  # complete, and killed before it was verified
    finish(arriving, DiskSnapshotStore(directory.parent / "other", chunk_length=CHUNK), whole)
    partial = payload_of(2000)  # every second chunk is there
    source = DiskSnapshotStore(directory.parent / "source", chunk_length=CHUNK)
    root = source.insert(partial)
    begun = arriving.begin(root, source.table(root))
    for index in range(0, source.table(root).count, 2):
        begun.write(index, source.chunk(root, index).data)
    begun.close()


def finish(arriving: ArrivingSnapshots, source: DiskSnapshotStore, payload: bytes) -> None:
    root = source.insert(payload)
    begun = arriving.begin(root, source.table(root))
    for index in range(source.table(root).count):
        begun.write(index, source.chunk(root, index).data)
    begun.finish()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
