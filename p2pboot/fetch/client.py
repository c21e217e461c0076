"""The boot client's whole job over an open network and an open store: find, verify, fetch, place.

The transfer begins with the first manifest that may be used, while others may still answer (see :mod:`.ahead`); until
that is decided it fills the store, and nothing else. Then comes what makes it safe to kill at any moment: the manifest
is remembered (so that no later run goes back behind it), its artifacts are all in the store, whole and verified, it is
judged once more and in force, and only then does anything get a final name in the output directory.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Artifact, Manifest
from p2pboot.core.policy import TrustPolicy, no_trust, publisher_ids
from p2pboot.core.rollouts import Decision, Machine
from p2pboot.core.trust import Trust
from p2pboot.core.verify import Outcome, Question, Refused
from p2pboot.errors import (
    BlobMissing,
    Contradiction,
    NotFoundError,
    P2PBootError,
    UsageError,
    first_error,
)
from p2pboot.fetch.ahead import Ahead
from p2pboot.fetch.asking.acquainting import LOOK_AROUND_S, Acquainting
from p2pboot.fetch.asking.dialling import Dialler
from p2pboot.fetch.asking.reasons import MAX_NAMED, remedy_for_nobody
from p2pboot.fetch.asking.remembering import Remembering
from p2pboot.fetch.asking.search import HeadSearch
from p2pboot.fetch.asking.wider import WiderSearch
from p2pboot.fetch.choosing.artifacts import select_artifacts
from p2pboot.fetch.choosing.manifest import Found, FoundManifest
from p2pboot.fetch.choosing.rollout import candidate, channel_beside, choose
from p2pboot.fetch.choosing.trust import Basis, keep_two_roots, remember
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.placing.output import Output
from p2pboot.fetch.progress import Progress, Recorder
from p2pboot.fetch.receiving.artifacts import fetch_artifacts, of_each_content
from p2pboot.fetch.receiving.swarm import Network
from p2pboot.fetch.result import FetchedFile, FetchResult
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.errors import BlobGone
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.transport.interface import Transport
from p2pboot.transport.nearness import Nearness


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOrder:
    """What a boot client is told.

    Args:
        channel: a name.
        arch: canonical.
        policy: whom to believe; names at least one publisher.
        directory: where the files go.
        artifacts: which ones, by key or file name (`kernel`, `dtbs/foo`, `foo.dtb`); none means all.
        min_version: the lowest `manifest_version` taken.
        timeout_s: seconds to find a manifest in, and then the longest time without any progress.
        bootstrap: multiaddrs to dial.
        accept_stale: take what is older than a freshness statement may be, or than it demands.
        require_clock: take nothing while this machine's clock can not be believed.
        machine: how it takes part in roll-outs into the channel; None for not at all.
    """

    channel: str
    arch: str
    policy: TrustPolicy
    directory: Path
    artifacts: tuple[str, ...] = ()
    min_version: int = 0
    timeout_s: float = 60.0
    bootstrap: tuple[str, ...] = ()
    accept_stale: bool = False
    require_clock: bool = False
    machine: Machine | None = None


async def fetch(
    order: FetchOrder,
    *,
    transport: Transport,
    store: Store,
    progress: Progress,
    wall: Callable[[], float],
    hints: AsyncIterable[str] | None = None,
    nearness: Nearness | None = None,
    wider: WiderSearch | None = None,
) -> FetchResult:
    """Bring the newest trusted manifest and its artifacts into the output directory.

    To let others have what is fetched, the caller registers a handler for artifact streams on the transport
    before.

    Args:
        order: what to do.
        transport: an open network, dialled with the order's addresses here.
        store: an open store; remembers what was accepted.
        progress: told how it goes.
        wall: the machine's clock, unix seconds.
        hints: addresses of further peers as discovery finds them; None without discovery.
        nearness: who is near; the caller notes in it what those say who ask here.
        wider: looks further where nothing is found otherwise; run here. None: nobody does.

    Raises:
        UsageError: an address is not one, or the manifest has no artifact that is called so.
        NotFoundError: no peer was found, or none has a manifest for this channel and arch, or all went.
        Refused: there are manifests, and none may be used.
        ManifestError: two manifests of one number are signed, or an artifact contradicts its own pieces.
        FetchError: peers there are, but together they do not deliver everything intact.
        MachineError: disk full, no permission, another fetch into the same directory is running.
    """
    nearness = nearness or Nearness()
    job = _Fetch(order, transport, store, progress, hints=hints, nearness=nearness, wider=wider, wall=wall)
    try:
        return await job.run()
    except BaseExceptionGroup as group:
        error = first_error(group)
        if isinstance(error, Refused):
            await job.forget_what_was_begun()
        raise error from None


class _Fetch:
    def __init__(
        self,
        order: FetchOrder,
        transport: Transport,
        store: Store,
        progress: Progress,
        *,
        hints: AsyncIterable[str] | None,
        nearness: Nearness,
        wider: WiderSearch | None,
        wall: Callable[[], float],
    ) -> None:
        self._order = order
        self._transport = transport
        self._store = store
        self._catalogue = Catalogue(store, Trust(order.policy), wall)
        self._gate = Gate(store, self._catalogue)
        self._progress = Recorder(progress)
        self._ledger = Ledger(self._progress, publisher_ids(order.policy))
        self._wider = wider
        self._dialler = Dialler(
            transport,
            order.bootstrap,
            self._ledger,
            hints,
            has_room=lambda: self._acquainting.has_room,
            wider=wider,
        )
        self._acquainting = Acquainting(
            transport, nearness, usable=self._ledger.usable, keeps=self._dialler.names
        )
        self._remembering = Remembering(
            transport,
            store.peers_of(transport.mesh),
            wall,
            usable=self._ledger.usable,
            begin_s=LOOK_AROUND_S,
            enough=1,
            level=logging.DEBUG,  # a disk that takes nothing ends the job anyway, and says so
        )
        self._nearness = nearness
        self._transfer_s = 0.0
        self._brought: set[str] = set()  # checked on the way; to read one again costs 0.5 CPU s/GB

    async def run(self) -> FetchResult:
        output = await trio.to_thread.run_sync(
            Output.open, self._order.directory, self._store.blobs.table, trio.from_thread.check_cancelled
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._dialler.run)
                nursery.start_soon(self._acquainting.run)
                nursery.start_soon(self._acquainting.look_around)
                nursery.start_soon(self._remembering.run)
                result = await self._with_peers(output)
                nursery.cancel_scope.cancel()
        finally:
            output.close()
        return result

    async def forget_what_was_begun(self) -> None:
        """Remove what came of a manifest that was not taken."""
        with contextlib.suppress(P2PBootError):  # the disk has more to say than this job
            await trio.to_thread.run_sync(self._catalogue.tidy)

    async def _with_peers(self, output: Output) -> FetchResult:
        order = self._order
        questions = await trio.to_thread.run_sync(self._questions)
        async with trio.open_nursery() as nursery:
            ahead = Ahead(partial(self._bring_ahead, output))
            nursery.start_soon(ahead.run)
            chosen, question, rollout = await self._find(questions, partial(self._suggest, ahead))
            manifest = chosen.manifest
            self._acquainting.look_for(manifest.digest)
            self._ledger.publishers.add(manifest.provider_peer_id)
            selected = select_artifacts(manifest, order.artifacts)
            await trio.to_thread.run_sync(
                self._enter, chosen, question
            )  # from here on nothing older is taken
            basis = Basis(question, chosen.verdict)
            statement = None if basis.statement is None else basis.statement.raw
            unchanged = await trio.to_thread.run_sync(output.is_complete, manifest, chosen.detached, selected)
            if not unchanged:
                try:
                    await ahead.finish(manifest)
                except Contradiction as error:  # what it brought can never be of use
                    await trio.to_thread.run_sync(self._catalogue.blame, manifest.digest, error)
                    raise
            nursery.cancel_scope.cancel()
        placed: tuple[Path, ...] = ()
        if not unchanged:
            await self._bring(
                output, selected
            )  # what another process that shares the store took for left over
        await trio.to_thread.run_sync(partial(self._settle, chosen, question))
        if unchanged:
            await trio.to_thread.run_sync(output.place_statement, statement)
        else:
            stored = self._store.blobs.path
            place = partial(output.place, manifest, chosen.detached, selected, stored, statement=statement)
            placed = await trio.to_thread.run_sync(place)
        files = tuple(
            FetchedFile(a.key, output.path(a), a.sha256, a.size, output.path(a) in placed) for a in selected
        )
        return FetchResult(
            verdict=chosen.verdict,
            directory=order.directory,
            files=files,
            unchanged=unchanged,
            offered_by=tuple(sorted(chosen.offered_by)),
            ledger=self._ledger,
            warnings=tuple(self._progress.warnings),
            transfer_s=self._transfer_s,
            basis=basis,
            rollout=rollout,
        )

    def _questions(self) -> list[Question]:
        """What decides of the channel, and of what is rolled out into it where this machine takes part."""
        order = self._order
        beside = channel_beside(order.channel, order.machine)
        return [
            self._question(order.channel, order.min_version),
            *([] if beside is None else [self._question(beside)]),
        ]

    def _question(self, channel: str, min_version: int = 0) -> Question:
        order = self._order
        question = self._gate.question(channel, order.arch, min_version=min_version)
        asked = replace(
            question.freshness, accept_stale=order.accept_stale, require_clock=order.require_clock
        )
        return replace(question, freshness=asked)

    # Finding the manifest

    def _suggest(self, ahead: Ahead[Manifest], manifest: Manifest | None) -> None:
        ahead.suggest(manifest)
        if manifest is not None:
            self._acquainting.look_for(manifest.digest)
            if self._wider is not None:
                self._wider.note_found()

    def _enter(self, found: FoundManifest, question: Question) -> None:
        source = ", ".join(sorted(found.offered_by))
        self._gate.enter(found.manifest, found.detached, source=source, question=question).raise_if_refused()

    def _settle(self, found: FoundManifest, question: Question) -> None:
        """The last word, before anything gets a final name: a download takes a while."""
        self._gate.settle(found.manifest, found.detached, question=question)

    async def _find(
        self, questions: Sequence[Question], suggest: Callable[[Manifest | None], None]
    ) -> tuple[FoundManifest, Question, Decision | None]:
        """The manifest to take, the question as it stands by all that was heard, and what a roll-out did about it."""
        first, *beside = questions

        def suggested(manifest: Manifest | None) -> None:
            if manifest is not None:  # whom a root names is known by now
                self._ledger.publishers |= publisher_ids(search.roots.policy)
            suggest(manifest)

        search = HeadSearch(
            self._transport,
            first,
            self._ledger,
            suggested,
            beside=beside,
            prefer=lambda found: candidate(self._order.machine, search, found),
        )
        try:
            found = await search.run(self._order.timeout_s, self._dialler.settle)
        except BaseExceptionGroup:
            with trio.CancelScope(shield=True):  # the disk only
                await trio.to_thread.run_sync(keep_two_roots, search, self._store, self._catalogue)
            raise
        for note in await trio.to_thread.run_sync(remember, search, self._store, self._catalogue):
            self._progress.note(note)
        question = search.question
        for offers in search.offers:
            offered = search.found_of(*offers.statements.pair)
            await trio.to_thread.run_sync(self._keep_evidence, offers.question, offered)
        try:
            if not question.policy.publishers and found.asked:
                raise no_trust(question.policy)
            chosen, question, rollout = choose(self._order.machine, search, found.choose(question))
        except NotFoundError as error:
            raise self._explained(error) from None
        for check in chosen.verdict.checks:
            if check.outcome is Outcome.NOTED:
                self._progress.note(f"{check.detail}; {check.remedy}" if check.remedy else check.detail)
        return chosen, question, rollout

    def _explained(self, error: NotFoundError) -> NotFoundError:
        """With why addresses can not be reached: what a person looks for first."""
        reasons = list(self._dialler.failures.values())[:MAX_NAMED]
        because = f" ({'; '.join(reasons)})" if reasons else ""
        remedy = error.remedy or remedy_for_nobody(self._order.bootstrap)
        return NotFoundError(
            f"{error.message}{because}",
            remedy=remedy,
            details={**error.details, "addresses": dict(self._dialler.failures)},
        )

    def _keep_evidence(self, question: Question, found: Found) -> None:
        """Two manifests under one number are portable proof against their publisher, whichever was taken."""
        numbers = []
        conflict = found.conflict()
        if conflict is not None:
            self._gate.contradiction(*conflict)
            numbers.append(conflict[0].manifest_version)
        for offer in found.offers:
            if offer.verdict.reason == "equivocation":
                source = ", ".join(sorted(offer.offered_by))
                self._gate.enter(offer.manifest, source=source, question=question)
                numbers.append(offer.manifest.manifest_version)
        for number in numbers:
            self._progress.note(
                f"version {number} is signed twice with different content; both are kept as evidence"
            )

    # Bringing and keeping the artifacts

    def _lacking(self, digests: Sequence[str]) -> None:
        if self._wider is not None:
            self._wider.lack(digests)

    async def _bring_ahead(self, output: Output, manifest: Manifest) -> None:
        with contextlib.suppress(UsageError):  # said if it is this manifest that is taken
            await self._bring(output, select_artifacts(manifest, self._order.artifacts))

    async def _bring(self, output: Output, selected: Sequence[Artifact]) -> None:
        self._progress.plan({one.key: one.size for one in of_each_content(selected)})
        needed = []
        for artifact in selected:
            if await trio.to_thread.run_sync(output.holds, artifact):
                self._progress.artifact(artifact.key, artifact.size, artifact.size)
                continue
            if artifact.sha256 not in self._brought:
                await trio.to_thread.run_sync(self._check_held, artifact)
            needed.append(artifact)
        began = trio.current_time()
        try:
            await fetch_artifacts(
                needed,
                self._store.blobs,
                Network(
                    self._transport,
                    self._ledger,
                    self._order.timeout_s,
                    lambda: self._dialler.hopeless,
                    self._nearness.near,
                    self._lacking,
                ),
            )
        except NotFoundError as error:
            raise self._explained(error) from None
        self._brought.update(artifact.sha256 for artifact in needed)
        self._transfer_s += trio.current_time() - began

    def _check_held(self, artifact: Artifact) -> None:
        """Read what an earlier run verified again: the state was out of our sight since, and so was the disk.

        It may well have changed: a final name is a hard link to it, and editing the one edits the other.
        """
        blobs = self._store.blobs
        table = blobs.table(artifact.sha256, artifact.table_digest)
        if table is None or not blobs.holds(artifact.sha256):
            return  # what is here and cut otherwise is read when it is brought
        try:  # the store checks every piece; what is not intact is not held any more afterwards
            for index in range(table.count):
                trio.from_thread.check_cancelled()
                blobs.read(artifact.sha256, *table.span(index))
        except (BlobMissing, BlobGone):
            return
