"""Directories that earlier versions left are taken over: nothing that was announced, proven or fetched is lost."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from p2pboot.core.timetoke.chunks import payload_root
from p2pboot.errors import MachineError
from p2pboot.store.announcements import Announcements
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from tests.core.timetoke.samples import ALICE, BOB, CHUNK, announce, facts_of, payload_of, sign
from tests.permissions import permissions_applied
from tests.store.snapshots.test_state import make_unwritable, tree

FORMER = Path(__file__).parents[1] / "states" / "snapshots1.tar.gz"
KEPT, WHOLE, PARTIAL = payload_of(500), payload_of(600), payload_of(2000)
ANNOUNCED = [announce(KEPT, ALICE, 4), announce(KEPT, BOB, 4), announce(payload_of(10), ALICE, 3)]
CONFLICT = {announce(payload_of(1), ALICE, 2).raw, announce(payload_of(2), ALICE, 2).raw}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A snapshot directory whose announcements are files."""
    with tarfile.open(FORMER) as archive:
        # Python before 3.11.4 has no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        archive.extractall(tmp_path)
    return tmp_path / "snapshots"


def opened(directory: Path) -> DiskSnapshotStore:
    return DiskSnapshotStore(directory, chunk_length=CHUNK)


def assert_all_there(store: DiskSnapshotStore) -> None:
    assert {one.raw for one in store.announcements.all()} == {one.raw for one in ANNOUNCED}
    assert [set(pair) for pair in store.announcements.conflicts()] == [CONFLICT]
    assert store.roots() == (payload_root(KEPT),)
    assert store.signature_text(payload_root(KEPT)) == f"3:{sign(KEPT)}\n"
    assert store.table(payload_root(KEPT)).digest == ANNOUNCED[0].facts.chunk_table


def test_what_was_announced_and_proven_is_kept_and_the_documents_stay(directory: Path) -> None:
    for _ in range(2):
        assert_all_there(opened(directory))
    private = directory / ".p2pboot"
    assert {path.read_bytes() for path in (private / "conflicts").iterdir()} == CONFLICT
    assert not (private / "announcements").exists()


def test_what_was_on_its_way_goes_on(directory: Path) -> None:
    store = opened(directory)
    for payload, missing in ((WHOLE, 0), (PARTIAL, 3)):
        facts = facts_of(payload)
        source = DiskSnapshotStore(directory.parent / "source", chunk_length=CHUNK)
        table = source.table(source.insert(payload))
        partial = store.blobs.begin(facts.root, table)
        assert partial is not None
        assert len(list(partial.held.missing())) == missing
        for index in partial.held.missing():
            partial.write(index, source.chunk(facts.root, index).data)
        partial.finish()
        path = store.expose_arrived(facts.root, sign(payload))
        assert path.read_bytes() == payload


def test_where_nothing_can_be_written_the_files_are_read(directory: Path) -> None:
    make_unwritable(directory)
    before = tree(directory)
    with permissions_applied():
        assert_all_there(opened(directory))
    assert tree(directory) == before


def test_all_of_it_or_nothing_is_taken_over(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(directory / ".p2pboot" / "announcements")
    with monkeypatch.context() as patch:

        def fail(*_: object) -> bool:
            raise MachineError("disk full")

        patch.setattr(Announcements, "put_conflict", fail)
        with pytest.raises(MachineError, match="disk full"):
            opened(directory)
    assert tree(directory / ".p2pboot" / "announcements") == before
    with monkeypatch.context() as patch:
        patch.setattr("p2pboot.store.snapshots.disk.take_over", lambda *_: None)
        assert opened(directory).announcements.all() == ()
    assert_all_there(opened(directory))
