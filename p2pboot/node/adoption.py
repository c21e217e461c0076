"""Other nodes that sign with this node's key: what they publish is taken over if it says the same, and outbid if not.

Two publishers of one directory, for availability, share a key. Each hears of the other's manifests, and would have to
go above every one if it answered them: forever. So what says the same as here is taken over as it is, and its maker
renews it (`publish.numbering`). Where the two differ, or made one number both, somebody has to go on to the next.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import Final

import trio

from p2pboot.core.events import Event
from p2pboot.core.manifest import Candidate, Manifest, Statement
from p2pboot.core.problems import Code, Problem
from p2pboot.core.trust import Pair
from p2pboot.errors import Malformed, P2PBootError
from p2pboot.publish.build import BuildOptions
from p2pboot.publish.numbering import same_content
from p2pboot.store.publications import Publications

log = logging.getLogger(__name__)

OUTBID_S: Final = 10.0  # between two answers to another node's versions, doubled each time
LONGEST_OUTBID_S: Final = 300.0  # two nodes would outbid each other as fast as messages travel
YIELD_S: Final = 2 * OUTBID_S  # how long the one that does not go on first waits for the one that should


class _News(enum.Enum):
    """How a manifest of our key that we did not know stands to what is recorded here."""

    COLLISION = "collision"  # its number belongs to something else here
    NEW = "new"  # it is the last one on record now
    NOTED = "noted"  # only its number is: it can not be used


class SharedKey:
    """What other nodes with this node's key publish.

    Args:
        publications: numbers and last manifests.
        signers: key ids of this node's key, as a manifest lists them.
        options: what the operator says now, for the version and our peer id.
        peer_id: this node's where the options name none.
        goes_on_with: whether what another node promoted of a roll-out is to be in force here as well, instead of what
            the directory holds; asked about what was just put on record, in threads.
        due_within: asks for a build in so many seconds.
        report: is told of all other nodes that use the key.
    """

    def __init__(
        self,
        publications: Publications,
        signers: tuple[str, ...],
        *,
        options: Callable[[], BuildOptions],
        peer_id: str,
        goes_on_with: Callable[[Pair], bool],
        due_within: Callable[[float], None],
        report: Callable[[list[Problem]], None],
    ) -> None:
        self._publications = publications
        self._signers = signers
        self._options = options
        self._peer_id = peer_id
        self._goes_on_with = goes_on_with
        self._due_within = due_within
        self._report = report
        self._floors: dict[Pair, int] = {}  # numbers that our key gave to what is not ours
        # A number that collided, and until when (trio's clock).
        self._yielding: dict[Pair, tuple[int, float]] = {}
        self._others: dict[Pair, Statement] = {}  # what another node with our key said last
        self._outbid_s = 0.0

    def floor(self, pair: Pair) -> int:
        """The highest number in use that is not on record; any thread."""
        return self._floors.get(pair, 0)

    def restore(self) -> None:
        """Know again whose manifests were taken over before the last restart; blocking."""
        for pair in self._publications.pairs(self._signers):
            raw = self._publications.last(self._signers, *pair)
            try:
                last = None if raw is None else Candidate.decode(raw)
            except Malformed:
                continue
            if last is not None and self._publications.is_from_elsewhere(last.digest):
                self._remember(last.claims)

    def tick(self, now: int) -> None:
        """Go on where another node did not, and forget nodes whose manifests have expired.

        Args:
            now: unix seconds.
        """
        for pair, (number, until) in tuple(self._yielding.items()):
            if trio.current_time() >= until:
                del self._yielding[pair]
                self._floors[pair] = max(number, self.floor(pair))
        self._others = {pair: other for pair, other in self._others.items() if other.expires_at > now}
        self._tell()

    async def saw(self, manifest: Manifest, in_force: Manifest | None, *, usable: bool) -> None:
        """Take note of a manifest of our key that came from the mesh.

        Args:
            manifest: verified.
            in_force: what this node offers for its pair.
            usable: whether it may be put into force: neither expired nor dated in the future.
        """
        pair = (manifest.channel, manifest.arch)
        if manifest == in_force or manifest.manifest_version <= self.floor(pair):
            return
        try:
            news = await trio.to_thread.run_sync(self._take_down, manifest, usable)
        except P2PBootError as error:
            log.error(
                "%s/%s: a number in use can not be noted: %s",
                *pair,
                error,
                extra=Event.TASK_FAILED(task="note a number in use", channel=pair[0], arch=pair[1]),
            )
            news = _News.NOTED
        if news is None:
            return
        companion = pair in self._others
        self._remember(manifest)
        self._tell()
        says_the_same = in_force is not None and self._says_the_same(in_force, manifest)
        if news is _News.COLLISION and says_the_same:
            self._settle_collision(pair, manifest)
        elif news is _News.NEW and says_the_same:
            self._take_over(pair, manifest)
        elif news is _News.NEW and (await self._is_promoted(pair) or in_force is None):
            self._due_within(0.0)  # or a state that was lost: a roll-out goes on if its files lie there
        else:
            if news is not _News.NEW:  # else it is on record, and what is built next is above it
                self._floors[pair] = manifest.manifest_version
            if in_force is not None:
                self._outbid(pair, manifest, at_least_s=OUTBID_S if companion else 0.0)

    async def _is_promoted(self, pair: Pair) -> bool:
        try:
            return await trio.to_thread.run_sync(self._goes_on_with, pair)
        except P2PBootError as error:
            log.error(
                "%s/%s: what was promoted elsewhere can not be noted: %s",
                *pair,
                error,
                extra=Event.TASK_FAILED(task="note what was promoted", channel=pair[0], arch=pair[1]),
            )
            return False

    def _take_down(self, manifest: Manifest, usable: bool) -> _News | None:
        number, stream = manifest.manifest_version, (manifest.signers, manifest.channel, manifest.arch)
        counter = self._publications.counter(*stream)
        if self._publications.last(*stream) == manifest.raw or number < counter:
            return None  # it is the last one on record, ours or noted before, or an old one
        if number == counter:
            return _News.COLLISION
        if not usable:
            self._publications.raise_counter(*stream, number)
            return _News.NOTED
        self._publications.record(
            manifest.raw,
            signers=manifest.signers,
            channel=manifest.channel,
            arch=manifest.arch,
            manifest_version=number,
            digest=manifest.digest,
            elsewhere=manifest.provider_peer_id != self._own_peer_id,
        )
        return _News.NEW

    @property
    def _own_peer_id(self) -> str:
        return self._options().peer_id or self._peer_id

    def _says_the_same(self, ours: Manifest, other: Manifest) -> bool:
        version = self._options().version
        return same_content(ours, other) and version in (None, other.version)

    def _take_over(self, pair: Pair, manifest: Manifest) -> None:
        self._yielding.pop(pair, None)
        log.info(
            "%s/%s: taking over version %s (manifest_version %d) of %s, which signs the same content with this key",
            *pair,
            manifest.version,
            manifest.manifest_version,
            manifest.provider_peer_id,
            extra=Event.TAKEN_OVER(
                channel=pair[0],
                arch=pair[1],
                version=manifest.version,
                manifest_version=manifest.manifest_version,
                provider=manifest.provider_peer_id,
            ),
        )
        self._due_within(0.0)

    def _settle_collision(self, pair: Pair, manifest: Manifest) -> None:
        """Both made this number at once, and readers take neither's word: the lower peer id goes on to the next."""
        if self._own_peer_id <= manifest.provider_peer_id:
            self._floors[pair] = manifest.manifest_version
            self._due_within(0.0)
        elif pair not in self._yielding:
            self._yielding[pair] = (manifest.manifest_version, trio.current_time() + YIELD_S)
            self._due_within(YIELD_S)

    def _outbid(self, pair: Pair, manifest: Manifest, *, at_least_s: float) -> None:
        """Go above it after a while: what lies in a directory of two may be about to change here as well."""
        delay_s = max(self._outbid_s, at_least_s)
        log.warning(
            "the mesh knows version %d of %s/%s, signed with this key and not by this node: publishing a higher one"
            " in %.0f s",
            manifest.manifest_version,
            *pair,
            delay_s,
            extra=Event.OUTBID(channel=pair[0], arch=pair[1], manifest_version=manifest.manifest_version),
        )
        self._due_within(delay_s)
        self._outbid_s = min(max(OUTBID_S, self._outbid_s * 2), LONGEST_OUTBID_S)

    def _remember(self, claims: Statement) -> None:
        if claims.provider_peer_id != self._own_peer_id:  # else it is ours, of a state that was lost
            self._others[claims.channel, claims.arch] = claims

    def _tell(self) -> None:
        self._report(
            [
                Problem(
                    Code.SHARED_KEY,
                    "/".join(pair),
                    f"{other.provider_name} ({other.provider_peer_id}) publishes it with this node's key too, the last"
                    f" time version {other.manifest_version}",
                    "nothing, if both are to publish one directory for availability; else give each a key of its own",
                )
                for pair, other in self._others.items()
            ]
        )
