"""Snapshots as something that is read over and over, or once to see that all is well."""

from __future__ import annotations

from p2pboot.core.pieces import PieceTable
from p2pboot.core.timetoke.errors import SnapshotMissing
from p2pboot.store.snapshots.disk import DiskSnapshotStore


class ScrubbedSnapshots:
    """A `store.scrubbing.Scrubbed`: the payloads of a store, by root.

    Args:
        store: whose.
    """

    def __init__(self, store: DiskSnapshotStore) -> None:
        self._store = store
        self.scrub = store.scrub

    def whole(self) -> list[str]:
        """Every root, sorted."""
        return list(self._store.roots())

    def table(self, root: str) -> PieceTable | None:
        """How one is cut; None where it is not here any more."""
        try:
            return self._store.table(root)
        except SnapshotMissing:
            return None
