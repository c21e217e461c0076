"""What a publisher offers instead of what its directory holds: earlier content, a promoted one, or nothing.

One row for each channel and arch. It says what was *meant*: whoever is killed before the manifest of it is published
publishes it when started again. It lasts until the directory holds something that is neither yanked nor what it held
when the row was made (:mod:`p2pboot.node.holding`).
"""

from __future__ import annotations

from contextlib import suppress

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest, content_digest
from p2pboot.errors import Malformed, SignatureError
from p2pboot.store.database import Database

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Held:
    """What is in force for a channel and arch instead of the directory's.

    Args:
        pair: the channel and arch.
        instead_of: the content (`core.manifest.content_digest`) that it takes the place of; empty where there was none.
        manifest: whose content it is, of whatever number and date; of this channel, or of its roll-out. None: nothing
            is to be in force.
    """

    pair: Pair
    instead_of: str
    manifest: Manifest | None

    @property
    def content(self) -> str | None:
        """The content that is to be in force; None for nothing."""
        return None if self.manifest is None else content_digest(self.manifest)


class HeldReleases:
    """Durable; any number of threads and processes.

    All methods raise StoreError (damaged database) or MachineError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, pair: Pair) -> Held | None:
        """What is in force instead of the directory's; None where the directory's is."""
        row = self._database.row("SELECT instead_of, raw FROM held WHERE (channel, arch) = (?, ?)", *pair)
        if row is not None:
            with suppress(Malformed, SignatureError):  # the disk changed it: then the directory counts
                return Held(pair, row[0], None if row[1] is None else Manifest.parse(row[1]))
        return None

    def pairs(self) -> set[Pair]:
        """The channels and archs for which something is."""
        return set(self._database.rows("SELECT channel, arch FROM held"))

    def put(self, held: Held) -> None:
        """Have this in force from now on."""
        with self._database.transaction() as sql:
            row = (*held.pair, held.instead_of, None if held.manifest is None else held.manifest.raw)
            sql.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", row)

    def drop(self, pair: Pair) -> None:
        """Have what the directory holds in force again."""
        if pair in self.pairs():
            with self._database.transaction() as sql:
                sql.execute("DELETE FROM held WHERE (channel, arch) = (?, ?)", pair)
