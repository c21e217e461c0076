"""Makes `schema1.sqlite3`: the database of a state directory as p2pboot 0.1.0 of schema 1 left it.

    python -m tests.store.states.make_schema1 OUTPUT

It runs only with a p2pboot of that schema (the last commit that has one is 2bca533); what it made is kept beside it and
migrated by `test_migration`. The same in every run but for the order of SQLite's pages.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Artifact, Manifest, compose, sign
from p2pboot.core.pieces import MIN_PIECE, PieceTable
from p2pboot.store.filenames import DATABASE_NAME
from p2pboot.store.store import Store

DAY_S = 86_400
CREATED = 1_764_158_400
KEY, OTHER_KEY = SecretKey(bytes(range(32))), SecretKey(bytes(range(1, 33)))


def main(output: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        fill(state)
        with contextlib.closing(sqlite3.connect(state / DATABASE_NAME)) as made:
            (schema,) = made.execute("PRAGMA user_version").fetchone()
        if schema != 1:
            sys.exit(f"this p2pboot writes schema {schema}, not 1")
        shutil.copyfile(state / DATABASE_NAME, output)


def artifact(key: str, size: int, channel: str) -> Artifact:
    data = random.Random(size).randbytes(size)
    return Artifact.describe(
        key,
        channel=channel,
        arch="arm64",
        sha256=hashlib.sha256(data).hexdigest(),
        size=size,
        piece_length=MIN_PIECE,
        table_digest=PieceTable(size, MIN_PIECE, blake3(data).digest()).digest,
    )


def manifest(
    version: int,
    *,
    channel: str = "stable",
    created_at: int = CREATED,
    keys: Sequence[SecretKey] = (KEY,),
    text: str = "2025.11.26",
) -> Manifest:
    """What `fill` signs: it needs nothing that a p2pboot of that schema does not have."""
    body = compose(
        version=text,
        manifest_version=version,
        channel=channel,
        arch="arm64",
        created_at=created_at,
        expires_at=created_at + 30 * DAY_S,
        artifacts=[artifact("kernel", 1, channel), artifact("initramfs", 2, channel)],
        provider_peer_id=keys[0].public.peer_id,
        provider_name="test",
        signers=[key.public.keyid for key in keys],
    )
    return Manifest.parse(sign(body, keys))


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
