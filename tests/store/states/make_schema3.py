"""Makes `schema3.sqlite3`: the database of a state directory as p2pboot 0.1.0 of schema 3 left it.

    python -m tests.store.states.make_schema3 OUTPUT

It runs only with a p2pboot of that schema (the last commit that has one is 53061c7), and with `make_schema1` beside it;
what it made is kept and migrated by `test_migration`. The same in every run but for the order of SQLite's pages, and
the times of the file that was hashed.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from blake3 import blake3

from p2pboot.core.pieces import MIN_PIECE, PieceTable
from p2pboot.store.filenames import DATABASE_NAME
from p2pboot.store.hashing import hash_file
from p2pboot.store.publications import Dated
from p2pboot.store.store import Store
from tests.store.states.make_schema1 import CREATED, DAY_S, OTHER_KEY, artifact, manifest

SIZES = {"kernel": 1, "initramfs": 2}  # of the artifacts of every manifest here
DATA = {key: random.Random(size).randbytes(size) for key, size in SIZES.items()}
HELD = {artifact(key, size, "stable").sha256: DATA[key] for key, size in SIZES.items()}


def main(output: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state"
        fill(state)
        with contextlib.closing(sqlite3.connect(state / DATABASE_NAME)) as made:
            (schema,) = made.execute("PRAGMA user_version").fetchone()
        if schema != 3:
            sys.exit(f"this p2pboot writes schema {schema}, not 3")
        shutil.copyfile(state / DATABASE_NAME, output)


def fill(state: Path) -> None:
    before, held, coming = (manifest(number, created_at=CREATED + number) for number in (6, 7, 8))
    other = manifest(9, channel="beta", created_at=CREATED + 2 * DAY_S, keys=(OTHER_KEY,))
    elsewhere = manifest(4, channel="nightly")
    with Store.open(state) as store:
        for key in SIZES:
            bring_in(store, key)
        for each in (before, held, coming, other):
            store.manifests.put(each, "signature" if each is held else None)
            if each is not coming:
                store.manifests.set_head(each.digest)
            assert store.trust.accept(each)
        store.trust.record_equivocation(coming.raw, manifest(8, text="another").raw)
        for each, is_elsewhere in ((held, False), (elsewhere, True)):
            store.publications.record(
                each.raw,
                signers=each.signers,
                channel=each.channel,
                arch=each.arch,
                manifest_version=each.manifest_version,
                digest=each.digest,
                elsewhere=is_elsewhere,
            )
        store.publications.raise_counter(held.signers, "stable", "x86_64", 41)
        dated = Dated(held.manifest_version, held.created_at, held.expires_at)
        store.publications.note_date(held.signers, held.channel, held.arch, dated)
        hashed = state.parent / "kernel"
        hashed.write_bytes(DATA["kernel"])
        hash_file(hashed, cache=store.hashes)


def bring_in(store: Store, key: str) -> None:
    data = DATA[key]
    table = PieceTable(len(data), MIN_PIECE, blake3(data).digest())
    partial = store.blobs.begin(artifact(key, len(data), "stable"), table)
    assert partial is not None
    partial.write(0, data)
    partial.finish()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
