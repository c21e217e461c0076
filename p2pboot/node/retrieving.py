"""Has the artifacts of a manifest here that this node published once: from its directory, else from whoever holds them.

A publisher's files lie in its directory and may have been overwritten in place since; mirrors that were there then
have them. What is brought back goes into the store, and stays as long as a manifest that is kept names it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from p2pboot.core.events import Event
from p2pboot.core.manifest import Manifest
from p2pboot.core.problems import Code, Problem
from p2pboot.core.trust import Pair
from p2pboot.errors import FetchError, NotFoundError, P2PBootError
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import NoProgress
from p2pboot.fetch.receiving.artifacts import fetch_artifacts
from p2pboot.fetch.receiving.swarm import Network
from p2pboot.node.publishing import DirectoryPublisher
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

PATIENCE_S: Final = 30.0
"""How long nothing of what is missing may arrive before it counts as not to be had."""

MEND_S: Final = 60.0
"""How often it is looked whether what is in force instead of a directory's content is wholly here."""

SOURCE: Final = "retrieving"  # of the problems


class Retrieving:
    """See above.

    Args:
        store: of the node.
        catalogue: of the same store.
        transport: whom the artifacts are asked from.
        publisher: whose directory may still have them.
    """

    def __init__(
        self, store: Store, catalogue: Catalogue, transport: Transport, publisher: DirectoryPublisher
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._transport = transport
        self._publisher = publisher

    def lacking(self, pair: Pair, manifest: Manifest) -> list[str]:
        """The keys of the artifacts that are neither in the store nor in the directory; blocking."""
        builder = self._publisher.builder
        for directory in self._publisher.instead.directories(pair, manifest):
            builder.find_again(directory, manifest)
        return [one.key for one in builder.lacking(manifest)]

    async def bring(self, pair: Pair, manifest: Manifest, *, patience_s: float) -> None:
        """Have all that a manifest names here, whole and checked.

        Args:
            pair: for which it is wanted.
            manifest: any that was published here.
            patience_s: give up when nothing of it arrived for so long.

        Raises:
            NotFoundError, FetchError: nobody who could be asked holds what is missing; it says whom.
            Contradiction: what its signers state of an artifact can not be true.
            MachineError, StoreError: the disk, or no room.
        """
        lacking = await trio.to_thread.run_sync(self.lacking, pair, manifest)
        if not lacking:
            return
        is_new = await trio.to_thread.run_sync(self._keep, manifest)
        try:
            await fetch_artifacts(
                [one for one in manifest.artifacts.values() if one.key in lacking],
                self._store.blobs,
                Network(self._transport, Ledger(NoProgress()), patience_s),
                self._catalogue.former(manifest.digest),
            )
        except BaseException as error:
            if is_new:
                with trio.CancelScope(shield=True):  # it is a row in the database
                    await trio.to_thread.run_sync(self._catalogue.forget, {manifest.digest})
            if isinstance(error, NotFoundError | FetchError):
                raise self._explained(error, manifest, lacking) from None
            raise

    async def run(self, report: Callable[[list[Problem]], None]) -> None:
        """See that what is in force instead of a directory's content is wholly here, until cancelled.

        Args:
            report: is told what can not be had.
        """
        while True:
            await trio.sleep(MEND_S)
            try:
                report(await self._mend())
            except P2PBootError as error:
                log.error(
                    "what was gone back to can not be looked at: %s",
                    error,
                    extra=Event.TASK_FAILED(task="keep what was gone back to"),
                )

    async def _mend(self) -> list[Problem]:
        holding, problems = self._publisher.builder.holding, []
        for pair in sorted(await trio.to_thread.run_sync(holding.pairs)):
            held = await trio.to_thread.run_sync(holding.of, pair)
            manifest = None if held is None else held.manifest
            if manifest is None or not await trio.to_thread.run_sync(self.lacking, pair, manifest):
                continue
            try:
                await self.bring(pair, manifest, patience_s=PATIENCE_S)
            except P2PBootError as error:
                problems.append(Problem.of(Code.NOT_MIRRORED, "/".join(pair), error))
            else:
                self._publisher.due_within(0.0)
        return problems

    def _keep(self, manifest: Manifest) -> bool:
        """Whatever is fetched must be named by a manifest that is kept; whether this one was not."""
        if self._store.manifests.row(manifest.digest) is not None:
            return False
        self._store.manifests.put(manifest, None)
        return True

    def _explained(
        self, error: NotFoundError | FetchError, manifest: Manifest, lacking: list[str]
    ) -> P2PBootError:
        asked = sorted(self._transport.peers())
        whom = f"asked: {', '.join(asked[:4])}" + (f" and {len(asked) - 4} more" if len(asked) > 4 else "")
        return NotFoundError(
            f"{', '.join(lacking)} of version {manifest.version} (number {manifest.manifest_version}) can not be had:"
            f" the directory holds something else, and nobody delivers it ({whom if asked else 'nobody is connected'};"
            f" {error.message})",
            remedy="have a mirror connected that held it, put the files back into the directory, name another version"
            " (--back-to), or --leave-none",
        )
