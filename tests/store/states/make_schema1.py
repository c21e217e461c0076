"""Makes `schema1.sqlite3`: the database of a state directory as p2pboot 0.1.0 of schema 1 left it.

    python -m tests.store.states.make_schema1 OUTPUT

It runs only with a p2pboot of that schema (the last commit that has one is 2bca533); what it made is kept beside it and
migrated by `test_migration`. The same in every run but for the order of SQLite's pages.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from p2pboot.store.store import DATABASE_NAME, Store
from tests.store.samples import KEY, OTHER_KEY, manifest

DAY_S = 86_400
CREATED = 1_764_158_400


def main(output: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        fill(state)
        with contextlib.closing(sqlite3.connect(state / DATABASE_NAME)) as made:
            (schema,) = made.execute("PRAGMA user_version").fetchone()
        if schema != 1:
            sys.exit(f"this p2pboot writes schema {schema}, not 1")
        shutil.copyfile(state / DATABASE_NAME, output)


def fill(state: Path) -> None:
    kept = manifest(7, created_at=CREATED + DAY_S)
    lost = manifest(3, channel="testing", created_at=CREATED, keys=(KEY, OTHER_KEY))
    other = manifest(9, channel="beta", created_at=CREATED + 2 * DAY_S, keys=(OTHER_KEY,))
    with Store.open(state) as store:
        for each in (kept, other):
            store.manifests.put(each, None)
            store.manifests.set_head(each.digest)
        for each in (kept, lost, other):  # the catalogue does not have `lost`
            assert store.trust.accept(each)
        store.trust.record_equivocation(kept.raw, manifest(7, text="another").raw)
        store.publications.record(
            kept.raw,
            signers=kept.signers,
            channel=kept.channel,
            arch=kept.arch,
            manifest_version=kept.manifest_version,
            digest=kept.digest,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
