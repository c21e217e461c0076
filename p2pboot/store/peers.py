"""Where peers were found, for the next start: the address book's rows (`core.addressbook`) in the state's database.

One row for each address, those of a peer in the order to try them in, and who was reached last at the end. What is
there is a hint: who answers proves with its own key who it is. Each mesh has a book of its own: with another swarm key
nobody is dialled, and nobody told of, who was found with the former.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2pboot.core.addressbook import KEPT, Entry, KnownAddress
from p2pboot.store.database import Database

_MAX_READ: Final = KEPT.proved + KEPT.said
_MAX_CHARS: Final = 512
_MESHES: Final = 4  # those to which something was written last are kept
_OF_ALL: Final = ""  # in the place of a fingerprint: the network of all


class Peers:
    """Any number of threads; all methods raise StoreError (damaged database) or MachineError (disk).

    Args:
        database: keeps them.
        mesh: the fingerprint of the swarm key of the mesh that they are in; None: they are in the network of all.
    """

    def __init__(self, database: Database, mesh: str | None) -> None:
        self._database = database
        self._mesh = _OF_ALL if mesh is None else mesh

    def load(self) -> list[Entry]:
        """All entries, who was reached last at the end; rows that make no sense are passed over."""
        entries: dict[str, tuple[list[KnownAddress], int]] = {}
        rows = self._database.rows(
            "SELECT peer_id, address, reached_at, failures FROM peers WHERE mesh = ? ORDER BY rowid",
            self._mesh,
        )
        for peer_id, address, reached_at, failures in rows:
            if not (_is_text(peer_id) and _is_text(address) and isinstance(failures, int)):
                continue
            if reached_at is not None and not isinstance(reached_at, int):
                continue
            addresses, _ = entries.setdefault(peer_id, ([], max(0, failures)))
            addresses.append(KnownAddress(address, reached_at))
        found = [
            Entry(peer_id, tuple(addresses), failures) for peer_id, (addresses, failures) in entries.items()
        ]
        return found[-_MAX_READ:]

    def save(self, changed: Iterable[Entry], gone: Iterable[str]) -> None:
        """Keep entries in the place of what was known of their peers, and forget others; all of it, or nothing.

        Args:
            changed: as they are now.
            gone: ids of peers that are not to be kept.
        """
        changed = list(changed)
        with self._database.transaction() as sql:
            forget = [(self._mesh, peer_id) for peer_id in (*gone, *(entry.peer_id for entry in changed))]
            sql.executemany("DELETE FROM peers WHERE mesh = ? AND peer_id = ?", forget)
            sql.executemany(
                "INSERT OR REPLACE INTO peers(mesh, peer_id, address, reached_at, failures) VALUES (?, ?, ?, ?, ?)",
                [
                    (self._mesh, entry.peer_id, known.address, known.reached_at, entry.failures)
                    for entry in changed
                    for known in entry.addresses
                ],
            )
            sql.execute(
                "DELETE FROM peers WHERE mesh NOT IN"
                " (SELECT mesh FROM peers GROUP BY mesh ORDER BY max(rowid) DESC LIMIT ?)",
                (_MESHES,),
            )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_CHARS
