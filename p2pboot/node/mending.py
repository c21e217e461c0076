"""What the disk changed of what is held: says so, until it is whole again, and from whom that came.

Whoever noticed (a pass of the scrubber, a client that was served, a command), the store took the artifact out of
service and kept what is good of it; the mirror fetches the rest, and here it is told what became of it. A publisher's
own file can come from nobody: it is named until somebody puts it there again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

import trio

from p2pboot.core.amounts import size_text
from p2pboot.core.events import Event
from p2pboot.core.problems import Code, Problem
from p2pboot.errors import Malformed, P2PBootError, SignatureError, StoreError
from p2pboot.node.observing import DAMAGE_S
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.holdings import Damage
from p2pboot.store.store import Store

log = logging.getLogger(__name__)

_MOST_NAMED = 8  # peers in one line of the log


class Mending:
    """See above; the counters may be read from any thread.

    Args:
        store: whose files are damaged.
        catalogue: of the same store.
        given: tells which peers gave how many bytes when a manifest was last brought in, by the digest of that.
        report: told what is damaged.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        given: Callable[[str], Mapping[str, int]],
        report: Callable[[list[Problem]], None],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._given = given
        self._report = report
        self._looking = threading.Lock()
        self._known: dict[Damage, str] = {}  # what it is called
        self._reported = False  # whether something stands as a problem
        self.damaged = 0
        """Artifacts that were found damaged since the start; one twice counts twice."""
        self.mended = 0
        """Of them those that are whole again."""

    async def run(self) -> None:
        """Look at it until cancelled."""
        while True:
            await trio.sleep(DAMAGE_S)
            if not self._known and not self._store.blobs.damage() and not self._reported:
                continue
            try:
                problems = await trio.to_thread.run_sync(self.look)
            except P2PBootError as error:
                log.error(
                    "what became of what is damaged can not be found out: %s",
                    error,
                    extra=Event.TASK_FAILED(task="look after what is damaged"),
                )
            else:
                self._report(problems)
                self._reported = bool(problems)

    def look(self) -> list[Problem]:
        """See what became of all that was damaged; blocking.

        Returns:
            What is damaged still.
        """
        with self._looking:
            return self._look()

    def _look(self) -> list[Problem]:
        problems = []
        for damage in self._store.blobs.damage():
            if damage not in self._known:
                self._known[damage] = self._name(damage)
                self.damaged += 1
            name = self._known[damage]
            problem = self._file_problem(damage, name) if damage.identity else self._problem(damage, name)
            if problem is None:
                self._store.blobs.forget_damage(damage)
                del self._known[damage]
            else:
                problems.append(problem)
        return problems

    def _problem(self, damage: Damage, name: str) -> Problem | None:
        """What is wrong with the store's own file; None where it is over."""
        if self._store.blobs.holds(damage.digest):
            self.mended += 1
            log.info("%s is mended: %s", name, self._origin(damage.digest), extra=Event.REPAIRED(what=name))
            return None
        if not self._store.manifests.naming(damage.digest):
            return None  # nobody needs it any more
        return Problem(
            Code.DAMAGED,
            name,
            f"the disk changed sha256:{damage.digest}; what is damaged of it is fetched anew from peers",
            "nothing, if peers have it; if it happens again, check the disk and the memory of this machine",
        )

    def _file_problem(self, damage: Damage, name: str) -> Problem | None:
        """What is wrong with a publisher's own file; None when somebody wrote it again."""
        try:
            identity = FileIdentity.of(damage.path.stat())
        except OSError:
            return None
        if identity != damage.identity:
            self.mended += 1
            log.info("%s was written again", name, extra=Event.REPAIRED(what=name))
            return None
        return Problem(
            Code.DAMAGED,
            name,
            f"the disk changed this file: it is not what was published (sha256:{damage.digest}), and nobody wrote it",
            "copy it there again from where it was built, and check the disk; or touch it if it is right as it is",
        )

    def _name(self, damage: Damage) -> str:
        if damage.identity is not None:
            return str(damage.path)
        for row in self._store.manifests.naming(damage.digest):
            try:
                artifacts = self._catalogue.manifest(row.digest).artifacts.values()
            except (StoreError, Malformed, SignatureError):
                continue
            for artifact in artifacts:
                if artifact.sha256 == damage.digest:
                    return f"{row.channel}/{row.arch}/{artifact.key}"
        return f"sha256:{damage.digest}"

    def _origin(self, digest: str) -> str:
        given: Mapping[str, int] = {}
        for row in self._store.manifests.naming(digest):
            given = given or self._given(row.digest)
        if not given:
            return "it is as it was"
        peers = ", ".join(f"peer {peer_id}" for peer_id in sorted(given)[:_MOST_NAMED])
        more = len(given) - _MOST_NAMED
        return f"{size_text(sum(given.values()))} came from {peers}" + (
            f" and {more} more" if more > 0 else ""
        )
