"""Makes `schema10.sqlite3` and `schema10.record`: a node's state as p2pboot 0.1.0 of schema 10 left it.

    python -m tests.store.states.make_schema10 OUTPUT RECORD

It runs only with a p2pboot of that schema (the last commit that has one is 5d8280a); what it made is kept and migrated
by `test_migration`. The same in every run but for the order of SQLite's pages, and the name of the state in both.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from p2pboot.store.filenames import DATABASE_NAME, RECORD_NAME
from p2pboot.store.store import Store
from tests.store.states.make_schema1 import CREATED, manifest


def main(output: Path, record: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state"
        fill(state)
        with contextlib.closing(sqlite3.connect(state / DATABASE_NAME)) as made:
            (schema,) = made.execute("PRAGMA user_version").fetchone()
        if schema != 10:
            sys.exit(f"this p2pboot writes schema {schema}, not 10")
        shutil.copyfile(state / DATABASE_NAME, output)
        shutil.copyfile(state / RECORD_NAME, record)


def fill(state: Path) -> None:
    held, coming = (manifest(number, created_at=CREATED + number) for number in (7, 8))
    with Store.open(state) as store:
        for one in (held, coming):
            store.manifests.put(one, None)
            store.trust.accept(one)
        store.manifests.set_head(held.digest)
        store.publications.record(
            held.raw,
            signers=held.signers,
            channel=held.channel,
            arch=held.arch,
            manifest_version=7,
            digest=held.digest,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
