"""A snapshot as something that is fetched in pieces: how peers are asked, and what their word is worth.

An announced one is cut as its signer says. Of one that is known by its root alone only peers say how it is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from typing_extensions import override

from p2pboot.core.pieces import PieceSet, PieceTable
from p2pboot.core.timetoke.announcement import SnapshotFacts
from p2pboot.core.timetoke.errors import RootMismatch
from p2pboot.errors import BlobCorrupt, P2PBootError, RemoteProtocolError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.receiving.items import Dialect, Wanted
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.protocol.snapshot_client import SnapshotInfo, ask_chunk, ask_chunks, ask_info
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL
from p2pboot.transport.interface import Connection


def wanted_snapshot(facts: SnapshotFacts) -> Wanted:
    """An announced snapshot as something to be fetched."""
    return Wanted(f"snapshot {facts.root}", facts.root, facts.size, facts.chunk_length, facts.chunk_table)


class SnapshotDialect(Dialect):
    """A `Dialect`: `/p2pboot/snapshot/1`, for one snapshot that was announced.

    Args:
        wanted: the snapshot.
    """

    protocol = SNAPSHOT_PROTOCOL
    piece = "chunk"
    pieces_at_once = 1
    counts_uncut = True  # whose table is a lie, is found out when the announcements are compared with it
    swarms = True

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.signature_texts: dict[str, str] = {}
        """What peers say that stands in the `.sig` file, by peer id; unchecked."""

    @override
    async def table(self, requests: RequestStream, wanted: Wanted) -> PieceTable:
        return await requests.ask(
            ask_chunks(
                wanted.blob, size=wanted.size, chunk_length=wanted.piece_length, digest=wanted.table_digest
            )
        )

    @override
    async def holdings(self, requests: RequestStream, wanted: Wanted) -> PieceSet:
        """Whoever has a snapshot has all of it, possibly cut into other chunks than we ask for."""
        info = await self._info(requests, wanted)
        if info.size != wanted.size:
            raise RemoteProtocolError(
                f"{wanted.key}: the peer says {info.size} bytes in {info.total} chunks,"
                f" announced are {wanted.size} bytes in {wanted.count}"
            )
        fits = info.chunk_length == wanted.piece_length
        return PieceSet.full(wanted.count) if fits else PieceSet(wanted.count)

    @override
    async def read(
        self, requests: RequestStream, assignment: Assignment, memory: Callable[[int], bytearray]
    ) -> bytearray:
        index, total = assignment.pieces.start, self.wanted.count
        chunk = ask_chunk(assignment.blob, index, total=total, length=assignment.length, memory=memory)
        return await requests.ask(chunk)

    @override
    def contradiction(self, wanted: Wanted, error: BlobCorrupt) -> P2PBootError:
        return RootMismatch(error.expected, error.actual)

    async def _info(self, requests: RequestStream, wanted: Wanted) -> SnapshotInfo:
        info = await requests.ask(ask_info(wanted.blob))
        if info.signature is not None:
            self.signature_texts[requests.peer_id] = info.signature
        return info


class ByRootDialect(SnapshotDialect):
    """The same for a snapshot that nobody announced: only who stands by the chunk table is asked for chunks.

    So whoever sends another chunk than the table names breaks its own word; and where the whole is not what its root
    names, the table was a lie of all who stand by it: an honest server computes both from the same bytes.

    Args:
        root: of the snapshot.
        table: what it is fetched by.
        backers: where this table was sent.
        others: where another one was sent.
    """

    swarms = False  # nobody signed the table

    def __init__(
        self, root: str, table: PieceTable, backers: Iterable[Connection], others: Iterable[Connection]
    ) -> None:
        super().__init__(Wanted(f"snapshot {root}", root, table.size, table.piece_length, table.digest))
        self._table = table
        self._others = set(others)
        self.backers = set(backers)
        """Connections whose peer stands by the table."""

    @override
    async def table(self, requests: RequestStream, wanted: Wanted) -> PieceTable:
        return self._table

    @override
    async def holdings(self, requests: RequestStream, wanted: Wanted) -> PieceSet:
        """All for who stands by the table, nothing for who does not; a peer that came later is asked for its own."""
        connection = requests.connection
        if connection in self._others:
            return PieceSet(wanted.count)
        info = await self._info(requests, wanted)
        if (info.size, info.chunk_length) == (wanted.size, wanted.piece_length):
            if connection not in self.backers:
                unchecked = ask_chunks(
                    wanted.blob, size=info.size, chunk_length=info.chunk_length, digest=None
                )
                if await requests.ask(unchecked) == self._table:
                    self.backers.add(connection)
            if connection in self.backers:
                return PieceSet.full(wanted.count)
        self._others.add(connection)
        return PieceSet(wanted.count)
