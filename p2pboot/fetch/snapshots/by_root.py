"""Brings a snapshot that nobody announced: its root is known, and how it is cut only peers say.

BLAKE3 is a tree hash, but a chunk table does not lead to the root (the digests of subtrees are not those of the same
bytes alone), so a table is a peer's word until the whole is there and is what the root names. Tables are tried one
after the other, the one that most peers stand by first, and only who stands by a table is asked for its chunks. Where
the whole turns out wrong, the table was a lie of all who sent it: they are dropped and named, and the next table is
tried over the chunks that are there. Of these the true table knows the good ones.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import trio

from p2pboot.core.identity import PublicKey
from p2pboot.core.pieces import PieceTable
from p2pboot.core.timetoke.errors import RootMismatch, SnapshotMalformed, SnapshotSignatureError
from p2pboot.core.timetoke.manifests import chunk_manifest_length
from p2pboot.core.timetoke.reader import SnapshotReader
from p2pboot.core.timetoke.signatures import PayloadSignature
from p2pboot.errors import FetchError, MachineError, NotFoundError, P2PBootError, RemoteProtocolError
from p2pboot.fetch.asking.reasons import MAX_NAMED
from p2pboot.fetch.asking.requests import RequestStream, requests_to
from p2pboot.fetch.receiving.swarm import Network
from p2pboot.fetch.snapshots.bring import fetch_snapshot, name_faults
from p2pboot.fetch.snapshots.chunks import ByRootDialect
from p2pboot.fetch.snapshots.signature_texts import Chosen, choose_text
from p2pboot.protocol.client import PeerBusy, PeerRefused
from p2pboot.protocol.snapshot_client import ask_chunks, ask_info
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL
from p2pboot.store.durable import disk_full
from p2pboot.store.errors import StoreFull
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.transport.interface import Connection, StreamReset

ASK_TIMEOUT_S = 10.0
"""For what one peer says of a snapshot: a few lines, and a chunk table of at most 2 MiB."""

ASKED_CONNECTIONS = 32
"""At the start; their tables are in memory until they are compared. Who else is there is asked while chunks arrive."""

MAX_TABLES = 8
"""Different tables that are tried: whoever has many peer ids could go on for ever."""


async def bring_by_root(
    root: str,
    keys: Sequence[PublicKey],
    store: DiskSnapshotStore,
    network: Network,
    *,
    require_signature: bool,
) -> None:
    """Bring a snapshot that is known by its root only.

    Args:
        root: 64 hex digits.
        keys: whose signature it must be, where it has one.
        store: gets it.
        network: whom to ask, and when to give up.
        require_signature: refuse it without one.

    Raises:
        NotFoundError: no peer has it.
        FetchError: peers have it, and together they do not give all of it intact.
        MachineError: disk full, or another process is fetching into this directory.
    """
    # Nobody answers for its size: whatever is claimed, the disk is not filled.
    await trio.to_thread.run_sync(store.blobs.room.take_what_is_free, store.directory)
    claims = _Claims(root, network, require_signature=require_signature)
    await claims.ask()
    texts = claims.texts
    if not await trio.to_thread.run_sync(store.blobs.holds, root):
        texts |= await _fetch(claims, store, network)
    chosen = await trio.to_thread.run_sync(_settle, claims, keys, store, texts)
    name_faults(chosen, network)


async def _fetch(claims: _Claims, store: DiskSnapshotStore, network: Network) -> Mapping[str, str]:
    """Have the snapshot wait in the store; return what peers say that stands in the `.sig` file, by peer id."""
    root, ledger = claims.root, network.ledger
    no_room: MachineError | None = None
    is_a_lie = False  # all that is there
    for _ in range(MAX_TABLES):
        table = claims.best()
        if table is None:
            break
        backers = claims.tables.pop(table)
        others = {each for connections in claims.tables.values() for each in connections}
        dialect = ByRootDialect(root, table, backers, others)

        def hopeless(dialect: ByRootDialect = dialect) -> bool:
            connected = dialect.backers & network.transport.connections()
            return not any(ledger.usable(connection.peer_id) for connection in connected)

        is_a_lie = False
        try:
            await fetch_snapshot(dialect, store, dataclasses.replace(network, hopeless=hopeless))
        except RootMismatch:
            is_a_lie = True
            for peer_id in _ids_of(dialect.backers):
                claims.lied(peer_id, f"its chunk table is not that of snapshot {root}")
        except (FetchError, NotFoundError) as error:
            for peer_id in _ids_of(dialect.backers):
                claims.said.setdefault(peer_id, ledger.failures.get(peer_id, error.message))
        except StoreFull as error:  # anybody can claim a size for which there is no room
            no_room = no_room or disk_full(error.needed, max(error.quota - error.used, 0), store.directory)
        except MachineError as error:
            no_room = no_room or error
        else:
            return dialect.signature_texts
    if is_a_lie:
        await trio.to_thread.run_sync(store.blobs.remove, root)
    raise no_room or claims.error()


def _settle(
    claims: _Claims, keys: Sequence[PublicKey], store: DiskSnapshotStore, texts: Mapping[str, str]
) -> Chosen:
    """Verify what is complete and of the right root, then make it visible."""
    root = claims.root
    try:
        with store.arrived(root) as payload:
            if chunk_manifest_length(payload) is None:
                SnapshotReader(payload).count()
            chosen = choose_text(texts, keys, payload)
    except SnapshotMalformed as error:
        store.blobs.remove(root)
        raise FetchError(f"no peer delivers snapshot {root} intact: {error.message}") from None
    if chosen.text is None and (claims.required or not claims.unsigned):
        claims.said |= chosen.faults
        raise claims.error()
    store.expose_arrived(root, chosen.text)
    return chosen


def _ids_of(connections: Iterable[Connection]) -> frozenset[str]:
    """The peers at the other ends: whose word counts, once, and who answers for it."""
    return frozenset(connection.peer_id for connection in connections)


class _Claims:
    """What connected peers say of a snapshot.

    Args:
        root: of the snapshot.
        network: whom to ask.
        require_signature: whether who has it without a signature is not counted.
    """

    def __init__(self, root: str, network: Network, *, require_signature: bool) -> None:
        self.root = root
        self.required = require_signature
        self.tables: defaultdict[PieceTable, set[Connection]] = defaultdict(set)
        """Where which chunk table was sent."""
        self.texts: dict[str, str] = {}
        """What stands in the `.sig` file, by peer id; of the right form."""
        self.unsigned: set[str] = set()
        """Who has it without a signature."""
        self.said: dict[str, str] = {}
        """Why who has it does not give it, by peer id."""
        self._network = network

    async def ask(self) -> None:
        """Ask connected peers, all at once."""
        async with trio.open_nursery() as nursery:
            for connection in sorted(self._network.transport.connections(), key=str)[:ASKED_CONNECTIONS]:
                if self._network.ledger.usable(connection.peer_id):
                    nursery.start_soon(self._ask, connection)

    def best(self) -> PieceTable | None:
        """The table that most peers stand by, of equally many the one of the smallest payload."""
        return min(
            self.tables,
            key=lambda table: (-len(_ids_of(self.tables[table])), table.size, table.digest),
            default=None,
        )

    def lied(self, peer_id: str, how: str) -> None:
        """A peer is not asked any more."""
        self.said[peer_id] = how
        self._network.ledger.drop(peer_id, how)

    def error(self) -> P2PBootError:
        """Say why nobody gives it."""
        root = self.root
        if not self.said:
            return NotFoundError(
                f"no peer has snapshot {root}",
                remedy="check the root, or ask other peers: --bootstrap MULTIADDR",
            )
        reasons = "; ".join(f"peer {peer}: {why}" for peer, why in sorted(self.said.items())[:MAX_NAMED])
        remedy = None
        if self.required and self.unsigned:
            remedy = "get it from who signs it, or take it as it is: --allow-unsigned"
        return FetchError(f"no peer delivers snapshot {root} intact: {reasons}", remedy=remedy)

    async def _ask(self, connection: Connection) -> None:
        peer_id = connection.peer_id
        try:
            async with requests_to(
                self._network.transport, connection, SNAPSHOT_PROTOCOL, ASK_TIMEOUT_S
            ) as requests:
                await self._take(connection, requests)
        except PeerRefused as error:
            if error.reason or isinstance(error, PeerBusy):  # otherwise it does not have it
                self.said[peer_id] = error.reason or "it serves others first"
        except StreamReset as error:
            self.said[peer_id] = error.message
        except (RemoteProtocolError, SnapshotSignatureError) as error:
            self.lied(peer_id, error.message)

    async def _take(self, connection: Connection, requests: RequestStream) -> None:
        peer_id = connection.peer_id
        info = await requests.ask(ask_info(self.root))
        if info.signature is None:
            self.unsigned.add(peer_id)
            if self.required:
                self.said[peer_id] = "it has no signature"
                return
        else:
            PayloadSignature.parse(info.signature)
        asked = ask_chunks(self.root, size=info.size, chunk_length=info.chunk_length, digest=None)
        table = await requests.ask(asked)
        if table.zeros():  # a terabyte of nothing would be complete at once, and hashed for an hour
            self.said[peer_id] = "its chunk table names chunks of zeros, which no snapshot has"
            return
        self.tables[table].add(connection)
        if info.signature is not None:
            self.texts[peer_id] = info.signature
