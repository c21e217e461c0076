"""The address book's rows."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from p2pboot.core.addressbook import Entry, KnownAddress
from p2pboot.errors import MachineError, StoreError
from p2pboot.store.errors import NoState
from p2pboot.store.filenames import DATABASE_NAME
from p2pboot.store.ondemand import copy_of_database
from p2pboot.store.peers import Peers
from p2pboot.store.store import Store
from tests.store.test_migration import SCHEMA_1

ONE = Entry(
    "one", (KnownAddress("/ip4/10.0.0.1/tcp/1/p2p/one", 7), KnownAddress("/ip4/10.0.0.2/tcp/1/p2p/one"))
)
OTHER = Entry("other", (KnownAddress("/ip4/10.0.0.3/tcp/1/p2p/other"),), failures=2)


def test_what_is_kept_is_there_after_a_restart_who_changed_last_at_the_end(state: Path) -> None:
    with Store.open(state) as store:
        assert store.peers_of(None).load() == []
        store.peers_of(None).save([ONE, OTHER], [])
        store.peers_of(None).save([ONE], ["nobody"])
    with Store.open(state) as store:
        assert store.peers_of(None).load() == [OTHER, ONE]
        store.peers_of(None).save([], ["other"])
        assert store.peers_of(None).load() == [ONE]


def test_what_is_known_of_a_peer_replaces_what_was(store: Store) -> None:
    store.peers_of(None).save([ONE], [])
    later = Entry("one", ONE.addresses[1:], failures=1)
    store.peers_of(None).save([later], [])
    assert store.peers_of(None).load() == [later]


def test_each_mesh_has_a_book_of_its_own(state: Path) -> None:
    with Store.open(state) as store:
        private, public = store.peers_of("00ff"), store.peers_of(None)
        private.save([ONE], [])
        public.save([OTHER], [])
        moved = Entry("one", OTHER.addresses)
        public.save([moved], [])
        assert (private.load(), public.load()) == ([ONE], [OTHER, moved])
        public.save([], ["one"])
        assert private.load() == [ONE]


def test_the_books_of_meshes_long_gone_are_dropped(store: Store) -> None:
    meshes = [store.peers_of(str(number)) for number in range(5)]
    for mesh in meshes[:4]:
        mesh.save([OTHER], [])
    meshes[0].save([ONE], [])
    meshes[4].save([ONE], [])
    assert [len(mesh.load()) for mesh in meshes] == [2, 0, 1, 1, 1]


def test_a_state_of_the_first_schema_has_an_empty_book(state: Path) -> None:
    state.mkdir()
    (state / DATABASE_NAME).write_bytes(SCHEMA_1.read_bytes())
    with Store.open(state) as store:
        store.peers_of(None).save([ONE], [])
        assert store.peers_of(None).load() == [ONE]


def test_rows_that_make_no_sense_are_passed_over(state: Path) -> None:
    with Store.open(state) as store:
        store.peers_of(None).save([ONE], [])
    with contextlib.closing(sqlite3.connect(state / DATABASE_NAME)) as sql:
        for row in (
            (b"\xff", "x", 1, 0),
            ("x", "y" * 1000, 1, 0),
            ("x", "when", "soon", 0),
            ("x", "how often", 1, "often"),
            ("", "whose", 1, 0),
        ):
            sql.execute("INSERT INTO peers VALUES ('', ?, ?, ?, ?)", row)
        sql.commit()
    with Store.open(state) as store:
        assert store.peers_of(None).load() == [ONE]


def test_what_can_not_be_written_is_said(store: Store) -> None:
    store._database._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(MachineError, match="readonly"):
        store.peers_of(None).save([ONE], [])
    assert store.peers_of(None).load() == []


def test_the_book_of_another_process_is_read_and_left_as_it_is(state: Path) -> None:
    with Store.open(state) as store:  # which goes on using it
        store.peers_of(None).save([ONE, OTHER], [])
        copy = Peers(copy_of_database(state), None)
        assert copy.load() == [ONE, OTHER]
        copy.save([], ["one"])
        assert copy.load() == [OTHER]
        assert store.peers_of(None).load() == [ONE, OTHER]


def test_where_there_is_no_book_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NoState):
        copy_of_database(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / DATABASE_NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="damaged"):
        copy_of_database(tmp_path)
