"""Brings artifacts into the store from all peers that have them: the shell around `schedule`.

Owns the tasks: one per connection, one per artifact, and a watch over silence and patience. Peers may
come, go, freeze, lie and know only a part; as long as together they have every piece, the fetch completes.
What was fetched is served on meanwhile by whoever serves the store.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import FetchError, NotFoundError, first_error
from p2pboot.fetch.asking.connecting import for_each_connection
from p2pboot.fetch.asking.reasons import MAX_NAMED, describe_peers, peers_to_json
from p2pboot.fetch.ledger import LOST, Ledger
from p2pboot.fetch.progress import Stall
from p2pboot.fetch.receiving.downloads import Downloads
from p2pboot.fetch.receiving.items import Dialect, Wanted
from p2pboot.fetch.receiving.plain import PlainSession
from p2pboot.fetch.receiving.session import Session, pump_all
from p2pboot.fetch.receiving.swarming import SwarmSession
from p2pboot.store.blobs import BlobStore
from p2pboot.store.room import Plan, Yielding
from p2pboot.transport.interface import Connection, Transport

if TYPE_CHECKING:
    from p2pboot.fetch.receiving.view import FetchView  # of nodes: a client shows itself in other ways

FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 5.0
WATCH_S = 0.25
"""How often silence is looked for; a peer that freezes costs SILENT_S and at most this."""

ARTIFACTS_AT_ONCE = 3
"""The next artifact is opened while the last pieces of one arrive; more would scatter the disk's work."""

_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))

LACKING_S = 1.0
"""After which, without a piece of anything or anybody who sends one, it is said what nobody delivers."""

HOPELESS_S = 2.0
"""A peer that was dropped may have been the only one known, but another may be just connecting."""


@dataclass(frozen=True, slots=True)
class Network:
    """Whom a fetch asks, and when it ends without success.

    Args:
        transport: whoever is or becomes connected is asked, on each connection: of two servers with one key each may
            have what the other lacks, and two connections to one server share what it is asked for.
        ledger: who was dropped in it is not asked; gets who delivered what, and who is dropped now. Its progress is
            told how far everything is.
        patience_s: give up when no piece was stored for so long. Infinite: the caller cancels.
        hopeless: whether whoever could still be reached was dropped; when it stays so, the fetch ends.
        near: whether nothing that is scarce lies between here and the peer on a connection.
        lacking: told, for as long as it is so, which blobs are missing and nobody delivers.
        view: where it is shown what is on its way, if anybody wants to see it.
    """

    transport: Transport
    ledger: Ledger
    patience_s: float = math.inf
    hopeless: Callable[[], bool] = lambda: False
    near: Callable[[Connection], bool] = lambda _connection: True
    lacking: Callable[[Sequence[str]], None] = lambda _blobs: None
    view: FetchView | None = None


async def fetch_wanted(
    wanted: Sequence[Wanted],
    blobs: BlobStore,
    dialect: Dialect,
    network: Network,
    yielding: Yielding | None = None,
) -> None:
    """Have all this in the store, whole and verified, when it returns.

    Several jobs may run at the same time; what two of them want is fetched by one.

    Args:
        wanted: fetched in this order.
        blobs: where it goes.
        dialect: how peers are asked for it.
        network: who is asked.
        yielding: what may be given up for it, once somebody showed a piece.

    Raises:
        NotFoundError: no peer was connected at the end of patience.
        FetchError: peers were, and did not deliver everything intact.
        Contradiction, RootMismatch: all pieces are right and the whole is not: the signer's fault.
        StoreError: the store holds the same with another piece table.
        MachineError: no space, quota used up, the disk fails.
    """
    sizes = {each.blob: each.size for each in wanted}
    plan = await trio.to_thread.run_sync(blobs.plan, sizes, yielding)
    try:
        await _Swarm(network, blobs, dialect, plan).run(wanted)
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    finally:
        plan.close()


class _Swarm:
    def __init__(self, network: Network, blobs: BlobStore, dialect: Dialect, plan: Plan) -> None:
        self._network = network
        self._transport = network.transport
        self._ledger = network.ledger
        self._stall = Stall(network.ledger.progress)
        self._sessions: list[Session] = []
        self._downloads = Downloads(blobs, dialect, plan, network.ledger, partial(pump_all, self._sessions))
        self._downloads.schedule.set_self(network.transport.peer_id)
        self._kinds = (SwarmSession, PlainSession) if dialect.swarms else (PlainSession,)
        self._missing: dict[str, Wanted] = {}

    async def run(self, wanted: Sequence[Wanted]) -> None:
        otherwise_cut = []
        for each in wanted:  # two names, one content: once
            if self._missing.setdefault(each.blob, each).table_digest != each.table_digest:
                otherwise_cut.append(each)
        view = self._network.view
        slots = trio.Semaphore(ARTIFACTS_AT_ONCE)
        with nullcontext() if view is None else view.showing(self._downloads.open, self._sessions):
            await self._bring_all(otherwise_cut, slots)

    async def _bring_all(self, otherwise_cut: Sequence[Wanted], slots: trio.Semaphore) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(for_each_connection, self._transport, self._serve)
            nursery.start_soon(self._watch)
            async with trio.open_nursery() as artifacts_nursery:
                for rank, each in enumerate(tuple(self._missing.values())):
                    await slots.acquire()
                    artifacts_nursery.start_soon(self._bring, each, rank, slots)
            for each in otherwise_cut:
                await self._downloads.bring(each, 0)  # it is here, and read
            nursery.cancel_scope.cancel()

    async def _bring(self, wanted: Wanted, rank: int, slots: trio.Semaphore) -> None:
        try:
            await self._downloads.bring(wanted, rank)
            del self._missing[wanted.blob]
        finally:
            slots.release()

    async def _serve(self, connection: Connection) -> None:
        """Keep a session on one connection as long as it is up and its peer not dropped."""
        delay_s = FIRST_RETRY_S
        peer_id = connection.peer_id
        try:
            while self._ledger.usable(peer_id):
                delivered = await self._converse(connection)
                delay_s = FIRST_RETRY_S if delivered else min(delay_s * 2, LONGEST_RETRY_S)
                await trio.sleep(delay_s)
        finally:
            if peer_id not in self._transport.peers():
                self._ledger.note_failure(peer_id, LOST)

    async def _converse(self, connection: Connection) -> bool:
        """Have one session, from the beginning of its stream to the end; whether the peer delivered."""
        for kind in self._kinds:
            session = kind(
                connection,
                self._transport,
                self._downloads,
                self._ledger,
                self._sessions,
                near=partial(self._network.near, connection),
            )
            await session.run()
            if session.begun:
                return session.delivered
        return False

    async def _watch(self) -> None:
        hopeless_since = math.inf
        while True:
            await trio.sleep(WATCH_S)
            for session in tuple(self._sessions):
                session.watch()
            pump_all(self._sessions)
            now = trio.current_time()
            delivering = any(session.delivering for session in self._sessions)
            idle_s = 0.0 if delivering else self._downloads.idle_s()
            self._stall.look(now, idle_s, len(self._transport.peers()), self._why_nothing)
            if not delivering and self._downloads.idle_s() > LACKING_S:  # on a thin line pieces take longer
                self._network.lacking(tuple(self._missing))
            hopeless_since = min(hopeless_since, now) if self._network.hopeless() else math.inf
            if self._downloads.idle_s() > self._network.patience_s or now - hopeless_since > HOPELESS_S:
                self._give_up()

    def _give_up(self) -> NoReturn:
        kind = FetchError if self._transport.peers() else NotFoundError
        raise kind(
            self._why_nothing(),
            remedy="what arrived is kept: the same command resumes from there",
            details={
                "missing": {
                    wanted.key: {"done_bytes": self._done_bytes(wanted), "size": wanted.size}
                    for wanted in self._missing.values()
                },
                "peers": peers_to_json({}, self._failures()),
            },
        )

    def _why_nothing(self) -> str:
        parts = [
            f"{wanted.key} ({_share(self._done_bytes(wanted), wanted.size)})"
            for wanted in self._missing.values()
        ]
        left = len(parts) - MAX_NAMED
        missing = ", ".join(parts[:MAX_NAMED]) + (f" and {left} more" if left > 0 else "")
        said = "no peer delivers" if self._transport.peers() else "all peers are gone, missing:"
        because = describe_peers({}, self._failures())
        return f"{said} {missing}" + (f": {because}" if because else "")

    def _failures(self) -> dict[str, str]:
        """What is wrong with each peer now: with those that are connected first."""
        connected = self._transport.peers()
        silent = {session.peer_id for session in self._sessions if session.silent}
        failures = {}
        for peer_id in sorted(connected):
            why = self._ledger.failures.get(peer_id, LOST)
            if peer_id in silent:
                why = "owes a reply and sends nothing"
            elif why == LOST:  # and it came back since
                why = "sent nothing yet"
            failures[peer_id] = why
        gone = {peer: why for peer, why in self._ledger.failures.items() if peer not in connected}
        return {**failures, **gone}

    def _done_bytes(self, wanted: Wanted) -> int:
        download = self._downloads.open.get(wanted.blob)
        return 0 if download is None else download.done_bytes


def _share(done_bytes: int, size: int) -> str:
    """How much is there, in the largest unit that leaves two digits; never all of it while something is missing."""
    unit, factor = next(((u, f) for u, f in _UNITS if size >= 10 * f), ("bytes", 1))
    return f"{done_bytes // factor} of {size // factor} {unit} are here"
