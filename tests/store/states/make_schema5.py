"""Makes `schema5.sqlite3`: the database of a snapshot directory's state as p2pboot 0.1.0 of schema 5 left it.

    python -m tests.store.states.make_schema5 OUTPUT

It runs only with a p2pboot of that schema (the last commit that has one is 48f2a61); what it made is kept and migrated
by `test_migration`. The same in every run but for the order of SQLite's pages, and the times of the file that was
hashed. Nobody fetches manifests into a snapshot directory; the one here is for the fault that schema 5 remembers of it.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from p2pboot.core.timetoke.agreement import Conflict
from p2pboot.store.filenames import DATABASE_NAME
from p2pboot.store.hashing import hash_file
from p2pboot.store.store import Store
from tests.core.timetoke.samples import ALICE, BOB, announce, payload_of
from tests.store.states.make_schema1 import manifest

ANNOUNCED = (
    announce(payload_of(30), ALICE, 5),
    announce(payload_of(30), BOB, 5),
    announce(payload_of(20), ALICE, 4),
)
CONFLICT = Conflict(3, announce(payload_of(1), ALICE, 3), announce(payload_of(2), ALICE, 3))
FAULTY, FAULT = manifest(7), "its kernel is another"


def main(output: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state"
        fill(state)
        with contextlib.closing(sqlite3.connect(state / DATABASE_NAME)) as made:
            (schema,) = made.execute("PRAGMA user_version").fetchone()
        if schema != 5:
            sys.exit(f"this p2pboot writes schema {schema}, not 5")
        shutil.copyfile(state / DATABASE_NAME, output)


def fill(state: Path) -> None:
    with Store.open(state) as store:
        for one in ANNOUNCED:
            store.announcements.put(one)
        store.announcements.put_conflict(CONFLICT)
        store.manifests.put(FAULTY, None)
        store.manifests.set_fault(FAULTY.digest, FAULT)
        hashed = state.parent / "payload"
        hashed.write_bytes(payload_of(20))
        hash_file(hashed, cache=store.hashes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
