"""Databases that earlier versions left become present ones, wholly or not at all."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import sqlite3
from pathlib import Path

import pytest

from p2pboot.core.clock import AcceptedTime
from p2pboot.core.rollback import AcceptedHead
from p2pboot.core.trustdocs.chain import Anchor, Chain
from p2pboot.errors import MachineError
from p2pboot.store import database as database_module
from p2pboot.store.database import APPLICATION_ID, Database
from p2pboot.store.filenames import DATABASE_NAME, RECORD_NAME
from p2pboot.store.schema import SCHEMA_VERSION, STEPS
from p2pboot.store.store import Store
from p2pboot.testing.trustdocs import signed_root
from tests.store.states.make_schema1 import CREATED, DAY_S, KEY, OTHER_KEY, manifest
from tests.store.states.make_schema3 import HELD
from tests.store.states.make_schema5 import ANNOUNCED, CONFLICT, FAULT, FAULTY

STATES = Path(__file__).parent / "states"
SCHEMA_1, SCHEMA_3, SCHEMA_5, SCHEMA_10 = (STATES / f"schema{number}.sqlite3" for number in (1, 3, 5, 10))
BOTH = tuple(sorted((KEY.public.keyid, OTHER_KEY.public.keyid)))


@pytest.fixture
def old(state: Path) -> Path:
    """A state directory as schema 1 left it."""
    state.mkdir()
    shutil.copyfile(SCHEMA_1, state / DATABASE_NAME)
    return state


@pytest.fixture
def of_schema_3(state: Path) -> Path:
    """A state directory as schema 3 left it, and its artifacts."""
    state.mkdir()
    shutil.copyfile(SCHEMA_3, state / DATABASE_NAME)
    for sha256, data in HELD.items():
        path = state / "blobs" / sha256[:2] / sha256
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    return state


@pytest.fixture
def of_schema_5(state: Path) -> Path:
    """A snapshot directory's state as schema 5 left it."""
    state.mkdir()
    shutil.copyfile(SCHEMA_5, state / DATABASE_NAME)
    return state


@pytest.fixture
def of_schema_10(state: Path) -> Path:
    """A state directory as schema 10 left it, with the record beside the database."""
    state.mkdir()
    shutil.copyfile(SCHEMA_10, state / DATABASE_NAME)
    shutil.copyfile(STATES / "schema10.record", state / RECORD_NAME)
    return state


def version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as sql:
        return int(sql.execute("PRAGMA user_version").fetchone()[0])


def tables(path: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(path)) as sql:
        return sql.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_the_fixtures_are_of_their_schemas() -> None:
    assert [version(path) for path in (SCHEMA_1, SCHEMA_3, SCHEMA_5, SCHEMA_10)] == [1, 3, 5, 10]


@pytest.mark.parametrize("fixture", ["old", "of_schema_3", "of_schema_5", "of_schema_10"])
def test_an_upgraded_database_has_the_tables_of_a_new_one(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path: Path = request.getfixturevalue(fixture) / DATABASE_NAME
    Database.open(path).close()
    Database.open(tmp_path / "new.sqlite3").close()
    assert version(path) == version(tmp_path / "new.sqlite3") == SCHEMA_VERSION
    assert tables(path) == tables(tmp_path / "new.sqlite3")


def test_the_steps_lead_to_what_a_new_database_is(tmp_path: Path) -> None:
    by_steps, new = tmp_path / "steps.sqlite3", tmp_path / "new.sqlite3"
    with contextlib.closing(sqlite3.connect(by_steps)) as sql:
        sql.executescript(f"{STEPS[0]} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;")
    for path in (by_steps, new):
        Database.open(path).close()
    assert tables(by_steps) == tables(new)
    for path in (by_steps, new):
        with contextlib.closing(sqlite3.connect(path)) as sql:
            assert [len(row[2]) for row in sql.execute("SELECT * FROM record")] == [16]


def test_a_state_of_schema_3_keeps_everything(of_schema_3: Path) -> None:
    before, held, coming = (manifest(number, created_at=CREATED + number) for number in (6, 7, 8))
    with Store.open(of_schema_3) as store:
        assert [(row.digest, row.role, row.fault) for row in store.manifests.heads("stable")] == [
            (held.digest, "current", None)
        ]
        assert store.manifests.get(held.digest) == (held.raw, "signature")
        assert store.manifests.row(before.digest) is not None
        assert [row.digest for row in store.manifests.pending()] == [coming.digest]
        assert not [row for row in store.manifests.known() if row.fault]
        assert store.trust.heads_of("stable", "arm64") == (AcceptedHead.of(coming),)
        assert [(one.channel, one.created_at) for one in store.trust.times()] == [
            ("beta", CREATED + 2 * DAY_S),
            ("stable", CREATED + 8),
        ]
        assert [one.first for one in store.trust.equivocations()] == [coming.raw]
        publications = store.publications
        assert publications.last(held.signers, "stable", "arm64") == held.raw
        assert publications.counter(held.signers, "stable", "x86_64") == 41
        assert publications.is_from_elsewhere(manifest(4, channel="nightly").digest)
        dated = publications.latest_dated(held.signers, "stable", "arm64")
        assert dated is not None
        assert dated.created_at == CREATED + 7
        assert all(store.blobs.read(sha256, 0, len(data)) == data for sha256, data in HELD.items())
        assert store.manifests.retain() == ()
    with contextlib.closing(sqlite3.connect(of_schema_3 / DATABASE_NAME)) as sql:
        hashes = [sha256 for (sha256,) in sql.execute("SELECT digest FROM hashes")]
    assert set(hashes) <= HELD.keys()
    assert hashes


def test_a_state_of_schema_10_and_its_record_go_on_and_take_trust_documents(of_schema_10: Path) -> None:
    held, coming = (manifest(number, created_at=CREATED + number) for number in (7, 8))
    root = signed_root()
    with Store.open(of_schema_10) as store:  # database and record fit: nothing is in doubt
        assert [(row.digest, row.role, row.parked_at) for row in store.manifests.known()] == [
            (coming.digest, "pending", None),
            (held.digest, "current", None),
        ]
        assert store.trust.heads_of("stable", "arm64") == (AcceptedHead.of(coming),)
        assert store.publications.counter(held.signers, "stable", "arm64") == 7
        assert store.documents.remembered() == ()
        store.documents.put_chain(Anchor.of_root(root), Chain((root,), root.digest))
    with Store.open(of_schema_10) as store:
        assert store.documents.remembered() == ((root.digest, 1, root.digest),)
        assert store.trust.heads_of("stable", "arm64") == (AcceptedHead.of(coming),)


def test_only_of_what_is_whole_a_table_is_believed_that_was_written_down_early(of_schema_3: Path) -> None:
    kernel, lost = sorted(HELD)
    (of_schema_3 / "blobs" / lost[:2] / lost).unlink()
    with Store.open(of_schema_3) as store:
        table = store.blobs.table(kernel)
        assert table is not None
        assert store.blobs._tables.known() == {kernel: {table.digest}}
        assert store.blobs.by_table(table.digest) == (kernel, table)
        held = manifest(7, created_at=CREATED + 7)
        named = {(one.sha256, one.table_digest) for one in held.artifacts.values()}
        assert store.manifests.named_by(held.digest) == named
        assert (kernel, table.digest) in named
        assert not store.manifests.is_whole(held.digest)


def test_a_state_of_schema_5_keeps_announcements_conflicts_and_faults(of_schema_5: Path) -> None:
    with Store.open(of_schema_5) as store:
        assert set(store.announcements.all()) == set(ANNOUNCED)
        assert store.announcements.faults() == {}
        documents = {CONFLICT.first.raw, CONFLICT.second.raw}
        assert [set(pair) for pair in store.announcements.conflicts()] == [documents]
        assert [(row.digest, row.fault) for row in store.manifests.known()] == [(FAULTY.digest, FAULT)]
    with contextlib.closing(sqlite3.connect(of_schema_5 / DATABASE_NAME)) as sql:
        assert sql.execute("SELECT count(*) FROM hashes").fetchone() == (1,)


def test_each_head_brings_the_date_of_its_own_manifest_or_the_former_time_of_all(old: Path) -> None:
    with Store.open(old) as store:
        assert store.trust.times() == [
            AcceptedTime(CREATED + 2 * DAY_S, "beta", "arm64", (OTHER_KEY.public.keyid,), str(old)),
            AcceptedTime(CREATED + DAY_S, "stable", "arm64", (KEY.public.keyid,), str(old)),
            # Its manifest is lost: the newest date of all was the time it was judged by.
            AcceptedTime(CREATED + 2 * DAY_S, "testing", "arm64", BOTH, str(old)),
        ]


def test_nothing_else_is_lost_by_upgrading(old: Path) -> None:
    kept = manifest(7, created_at=CREATED + DAY_S)
    with Store.open(old) as store:
        assert store.trust.heads_of("stable", "arm64") == (AcceptedHead.of(kept),)
        assert [head.manifest_version for head in store.trust.heads()] == [9, 7, 3]
        assert store.manifests.get(kept.digest) is not None
        assert store.publications.last(kept.signers, "stable", "arm64") == kept.raw
        assert len(store.trust.equivocations()) == 1
        assert not store.trust.accept(manifest(6, created_at=CREATED + 5 * DAY_S))


def test_what_another_publisher_lowered_comes_back_from_the_manifests_that_are_kept(old: Path) -> None:
    """Up to schema 6 the memory was one head for each channel and arch, whoever signed."""
    by_other = (OTHER_KEY.public.keyid,)
    with contextlib.closing(sqlite3.connect(old / DATABASE_NAME)) as sql:
        sql.execute("UPDATE manifests SET role = 'current'")
        sql.execute(
            "UPDATE accepted_heads SET manifest_version = 1, digest = 'x', signers = ? WHERE channel = 'stable'",
            by_other,
        )
        sql.commit()
    kept = manifest(7, created_at=CREATED + DAY_S)
    with Store.open(old) as store:
        heads = store.trust.heads_of("stable", "arm64")
        assert set(heads) == {AcceptedHead.of(kept), AcceptedHead(1, "x", by_other)}


def test_an_upgrade_that_fails_leaves_the_old_database(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old / DATABASE_NAME
    before = tables(path)
    with monkeypatch.context() as patch:
        broken = (STEPS[0], f"{STEPS[1]}INSERT INTO nowhere VALUES (1);", *STEPS[2:])
        patch.setattr(database_module, "STEPS", broken)
        with pytest.raises(MachineError, match="nowhere"):
            Database.open(path)
    assert (version(path), tables(path)) == (1, before)
    Database.open(path).close()
    assert version(path) == SCHEMA_VERSION


def _open(path: Path) -> None:
    Database.open(path).close()


def test_processes_that_upgrade_at_once_all_succeed(old: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_open, args=(old / DATABASE_NAME,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    with Store.open(old) as store:
        assert len(store.trust.times()) == 3
