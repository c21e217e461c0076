"""One state directory: the artifacts and everything that a node, a publisher or a client must remember.

::

    <state>/            0700
    ├── state.sqlite3   piece tables, manifests, trust, hashes of files, publications, announcements, peers
    ├── record          numbers published and versions accepted, a second time
    ├── lock            held by the running node
    ├── blobs/ab/<hex>  whole artifacts by SHA-256
    └── partial/<hex>   artifacts on their way

A snapshot directory has one of its own, of the same form: what is whole in it waits there to be verified, and moves
out into the directory then, where it is served in place.

A process may be killed at any moment: opening the store again finds it consistent.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from p2pboot.core.events import Event
from p2pboot.core.pieces import is_cut
from p2pboot.store.algorithms import BLAKE3, SHA256, Algorithm
from p2pboot.store.blobfiles import BlobFiles
from p2pboot.store.blobs import BlobStore
from p2pboot.store.database import Database, is_empty
from p2pboot.store.durable import clean_temporaries, make_directory
from p2pboot.store.errors import MemoryInDoubt
from p2pboot.store.filenames import DATABASE_NAME, MEMORY_FILES, RECORD_NAME
from p2pboot.store.hashes import HashCache
from p2pboot.store.locking import DirectoryLock
from p2pboot.store.manifests import Manifests
from p2pboot.store.ownership import check_files, close_files, opened_state
from p2pboot.store.peers import Peers
from p2pboot.store.room import Quota
from p2pboot.store.tables import TableIndex
from p2pboot.store.trustdocs import TrustDocuments
from p2pboot.store.truststate import TrustState

if TYPE_CHECKING:
    from p2pboot.store.announcements import Announcements
    from p2pboot.store.held import HeldReleases
    from p2pboot.store.publications import Publications
    from p2pboot.store.releases import Releases

log = logging.getLogger(__name__)

MAX_SNAPSHOTS: Final = 65_536
"""Payloads of which the digests are remembered; of a larger directory the rest is hashed again when it is opened."""


class Store:
    """An open state directory; its parts may be used from any thread. Also a context manager."""

    def __init__(
        self,
        path: Path,
        database: Database,
        *,
        algorithm: Algorithm = SHA256,
        quota_bytes: Quota = None,
        max_hashes: int | None = None,
        read_only: bool = False,
    ) -> None:
        self.path = path
        self._database = database
        self._lock: DirectoryLock | None = None
        self.hashes = HashCache(database, max_entries=max_hashes)
        self.blobs = BlobStore(
            path,
            TableIndex(database),
            self.hashes,
            algorithm=algorithm,
            quota_bytes=quota_bytes,
            read_only=read_only,
        )
        self.manifests = Manifests(database, self.blobs)
        self.trust = TrustState(database)
        self.documents = TrustDocuments(database)

    def peers_of(self, mesh: str | None) -> Peers:
        """The address book of one mesh.

        Args:
            mesh: the fingerprint of its swarm key; None for the network of all.
        """
        return Peers(self._database, mesh)

    @cached_property
    def publications(self) -> Publications:
        """The counters of who publishes; a client has none."""
        from p2pboot.store.publications import Publications

        return Publications(self._database)

    @cached_property
    def releases(self) -> Releases:
        """What a publisher published and may go back to."""
        from p2pboot.store.releases import Releases

        return Releases(self._database)

    @cached_property
    def held(self) -> HeldReleases:
        """What a publisher offers instead of what its directory holds."""
        from p2pboot.store.held import HeldReleases

        return HeldReleases(self._database)

    @cached_property
    def announcements(self) -> Announcements:
        """Of snapshots, which most stores have none of."""
        from p2pboot.store.announcements import Announcements

        return Announcements(self._database)

    @classmethod
    def open(cls, path: Path, *, quota_bytes: Quota = None, tolerant: bool = False) -> Store:
        """Open a state directory, making it when there is none.

        Args:
            path: the directory.
            quota_bytes: how much artifacts may take up.
            tolerant: open it although its memory is in doubt, if what it holds can be told: see `Database.open`.

        Raises:
            NotOurs: others own the directory or something in it, or may write there.
            MachineError: no permission, disk full, another process holds the database too long.
            StoreError: the database is damaged, another program's, or of a newer p2pboot.
        """
        make_directory(path)
        with opened_state(path) as directory:
            check_files(MEMORY_FILES, directory, path)
            clean_temporaries(path)
            _warn_of_lost_memory(path)
            database = Database.open(path / DATABASE_NAME, tolerant=tolerant)
            close_files(MEMORY_FILES, directory)
        try:
            store = cls(path, database, quota_bytes=quota_bytes)
            store.blobs.prepare()
        except BaseException:
            database.close()
            raise
        return store

    @classmethod
    def read(cls, path: Path) -> Store:
        """Look at a state directory, also while a node uses it: no file of it is changed, whatever is done or found.

        Args:
            path: the directory.

        Raises:
            NoState: it is no state directory.
            StoreError: the database is damaged, another program's, or of a newer p2pboot.
            MachineError: it can not be read.
        """
        from p2pboot.store.ondemand import copy_of_database  # few commands look only

        return cls(path, copy_of_database(path), read_only=True)

    @classmethod
    def of_snapshots(cls, path: Path) -> Store:
        """Open the state of a snapshot directory; nothing is made before there is something to keep.

        Where it can only be read, it is held in memory (see `store.ondemand`).

        Args:
            path: of the state.

        Raises:
            MachineError, StoreError: as `open`.
        """
        from p2pboot.store.ondemand import DatabaseOnDemand  # nodes with snapshots, and who syncs them

        database = DatabaseOnDemand.at(path / DATABASE_NAME)
        store = cls(path, database, algorithm=BLAKE3, max_hashes=MAX_SNAPSHOTS)
        store.blobs.sweep()
        return store

    @classmethod
    def read_snapshots(cls, path: Path) -> Store:
        """Look at the state of a snapshot directory, whether there is one or not, as `read`.

        Raises:
            MachineError, StoreError: as `read`.
        """
        from p2pboot.store.ondemand import copy_of_database, empty_database

        database = empty_database(path) if is_empty(path / DATABASE_NAME) else copy_of_database(path)
        return cls(path, database, algorithm=BLAKE3, max_hashes=MAX_SNAPSHOTS, read_only=True)

    def cuts(self, size: int) -> dict[str, int]:
        """How content of a size is cut that was ever hashed, fetched, or named by a manifest that is kept.

        Args:
            size: bytes.

        Returns:
            The piece length (bytes) by the digest of the whole: what the newest manifest says, else what was made last.
        """
        rows = self._database.rows(
            "SELECT digest, piece_length FROM ("
            "SELECT digest, piece_length, 0 AS kind, rowid AS age FROM hashes WHERE size = ?1"
            " UNION ALL SELECT digest, piece_length, 1, rowid FROM tables WHERE size = ?1"
            " UNION ALL SELECT sha256, piece_length, 2, created_at FROM manifest_artifacts AS named"
            " JOIN manifests USING (digest) WHERE named.size = ?1 AND fault IS NULL) ORDER BY kind, age",
            size,
        )
        return {digest: length for digest, length in rows if is_cut(size, length)}

    def doubt(self) -> MemoryInDoubt | None:
        """Why nothing can be published or accepted now; None as long as it can."""
        return self._database.doubt()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything that is read and written here is one step that nobody comes between; see `Database`."""
        with self._database.transaction():
            yield

    def lock(self) -> None:
        """Claim the directory for this process until `close`; a running node does.

        Raises:
            MachineError: another process has it; the message names its process id.
        """
        if self._lock is None:
            self._lock = DirectoryLock.take(self.path)

    def close(self) -> None:
        """Close everything; what is on its way can be resumed. Idempotent."""
        self.blobs.close()
        self._database.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _warn_of_lost_memory(path: Path) -> None:
    """Artifacts without a memory: nobody can tell a state of which both were removed from one that was prepared."""
    if not is_empty(path / DATABASE_NAME) or (path / RECORD_NAME).exists():
        return
    if any(BlobFiles(path).digests()):
        log.warning(
            "%s holds artifacts and remembers nothing: if its %s and %s were lost, numbers begin again at 1 and older"
            " manifests are accepted",
            path,
            DATABASE_NAME,
            RECORD_NAME,
            extra=Event.MEMORY_LOST(path=str(path)),
        )
