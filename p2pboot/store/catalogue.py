"""The catalogue: what a state directory knows, wants, holds, offers and keeps, seen through the present trust.

One row for each (signers, channel, arch) and role. What the gate accepted is *wanted* until it is whole; of what is
*held*, the newest that is trusted and in date is *offered*; and what no row needs is not *kept*. Whoever acts on that
(mirror, announcer) is told that something changed, not what, and looks again: so what is new, unfinished when the last
run ended, damaged, or trusted again is all the same to him.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from p2pboot.core.clock import AcceptedTime, Clock, effective_now
from p2pboot.core.manifest import Manifest, check_detached
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.rollback import AcceptedHead, binding
from p2pboot.core.trust import Listed, Pair, Trust
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.core.withheld import Withheld
from p2pboot.errors import Contradiction, Malformed, P2PBootError, SignatureError, StoreError
from p2pboot.store.believed import statement_of, yanks_of
from p2pboot.store.clockfloor import latest_known
from p2pboot.store.former import FormerVersions
from p2pboot.store.manifests import HeadRow
from p2pboot.store.offering import Offering
from p2pboot.store.parking import is_over, is_parked_by
from p2pboot.store.store import Store
from p2pboot.store.trustdocs import resolved

L = TypeVar("L", bound=Listed)


class Catalogue:
    """Blocks on the database; any thread. All methods raise StoreError (damaged database) or MachineError.

    Args:
        store: what there is.
        trust: whose manifests count.
        wall: the machine's clock, unix seconds.
        keep: how many versions of an image stay, 1 or 2; can be changed, `change_trust` brings it into force.
    """

    def __init__(self, store: Store, trust: Trust, wall: Callable[[], float], *, keep: int = 2) -> None:
        self._store = store
        self._manifests = store.manifests
        self._trust = trust
        if trust.roots:
            self._trust = replace(trust, configured=resolved(trust.configured, store.documents))
        self._wall = wall
        self.keep = keep
        self._newest: AcceptedTime | None = None  # as `clock` saw it last
        self._listeners: list[Callable[[], None]] = []
        self.offering = Offering(store, lambda: self._trust, self.clock, self.quick_clock)

    # -- trust and time ----------------------------------------------------------------------------------------------

    @property
    def trust(self) -> Trust:
        """Whose manifests count now."""
        return self._trust

    def change_trust(self, trust: Trust, *, sweeps_always: bool = True) -> None:
        """See everything through another trust: what it does not take is forgotten, and its room is free.

        What a newer root took the trust away from stays for some days (`store.parking`).

        Args:
            trust: the other one.
            sweeps_always: whether what no manifest names goes even if none is forgotten.
        """
        with self._changing(sweeps_always=sweeps_always):  # nothing passes the gate meanwhile
            old, now = self._trust, self.clock().now
            rows = self._manifests.all()
            lost = {row.digest for row in rows if not trust.takes(row)}
            parked = {row.digest for row in rows if row.digest in lost and is_parked_by(old, trust, row.pair)}
            self._manifests.drop(lambda row: row.digest in lost - parked)
            self._manifests.park(parked, now)
            self._manifests.park({row.digest for row in rows if row.is_parked} - lost, None)
            self._trust = trust
            self._forget_previous()

    def resolved(self, policy: TrustPolicy) -> TrustPolicy:
        """A policy with those roots in force that this state remembers."""
        return resolved(policy, self._store.documents) if policy.roots else policy

    def take_policy(self, policy: TrustPolicy) -> None:
        """Another root is in force: the same node sees everything through what that says.

        A search hears of it while what it will find is being brought already, under no manifest that is here yet: that
        stays.
        """
        self.change_trust(replace(self._trust, configured=policy), sweeps_always=False)

    def end_parking(self) -> None:
        """Forget what was parked for long enough; what only that names goes."""
        now = self.clock().now
        over = {row.digest for row in self._manifests.all() if is_over(row.parked_at, now)}
        if over:
            self.forget(over)

    def statement(self, channel: str, arch: str) -> Freshness | None:
        """The newest freshness statement of a channel and arch whose signers have a say now."""
        publisher = self._trust.publisher_for(channel, arch)
        return statement_of(self._store.documents, (channel, arch), publisher)

    def yanks(self, channel: str, arch: str) -> dict[str, Yank]:
        """The yanks that count now for a channel and arch, by content; those of a channel count for its roll-outs."""
        publisher = self._trust.publisher_for(channel, arch)
        return yanks_of(self._store.documents, (channel, arch), publisher)

    def has_trusted(self, pair: Pair, digest: str, number: int | None = None) -> bool:
        """Whether a manifest of a channel and arch is here, whole or on its way, and its signers are trusted.

        Args:
            pair: the channel and arch.
            digest: of the manifest.
            number: its `manifest_version`, by who speaks of it; None where nobody said one.
        """
        row = self._manifests.row(digest)
        return (
            row is not None
            and row.pair == pair
            and number in (None, row.manifest_version)
            and self._trust.takes(row)
        )

    def publishes(self, pair: Pair, signers: tuple[str, ...]) -> None:
        """This machine publishes for a channel and arch itself, signed by these keys."""
        if self._trust.own.get(pair) != signers:
            self.change_trust(self._trust.publishing(pair, signers))

    def accepted(self, channel: str, arch: str) -> tuple[AcceptedHead, ...]:
        """What binds now for a channel and arch; several contradict each other, see `core.rollback.binding`."""
        return binding(self._store.trust.heads_of(channel, arch), self._trust.publisher_for(channel, arch))

    def clock(self) -> Clock:
        """The time to judge manifests by."""
        self._newest = latest_known(self._store, self._trust)
        return self.quick_clock()

    def quick_clock(self) -> Clock:
        """The same without reading: behind by one manifest at most, and it never waits for the disk."""
        return effective_now(int(self._wall()), self._newest)

    # -- what is offered ---------------------------------------------------------------------------------------------

    def in_date(self) -> list[tuple[Pair, bytes]]:
        """The documents of all that may be offered now."""
        return self.offering.in_date()

    def offered(self, channel: str | None = None, arch: str | None = None) -> list[HeadRow]:
        """The manifests that are wholly here and that this node's verdict takes now.

        One at most for each channel and arch: where several series of a publisher's keys exist, the newest.

        Args:
            channel: only this one.
            arch: only this (canonical) one.
        """
        return self.offering.offered(channel, arch)

    def withheld(self, channel: str | None = None, arch: str | None = None) -> list[Withheld]:
        """What is known and trusted, but not offered, and why; arguments as for `offered`."""
        return self.offering.withheld(channel, arch)

    def missing(self, sha256: str) -> Withheld | None:
        """Why an artifact is not given that a manifest here names; None if none does."""
        return self.offering.missing(sha256)

    # -- what is wanted ----------------------------------------------------------------------------------------------

    def wanted(self) -> list[HeadRow]:
        """What others publish and is to be brought in: one manifest at most for each channel and arch.

        That is what the gate accepted last, as long as it is not wholly here; and where that can not be had, the
        version in force if it was damaged.
        """
        clock = self.clock()
        unfinished: dict[Pair, list[HeadRow]] = {}
        for row in self._manifests.known():
            counts = row.fault is None and self.offering.forbids(row, clock) is None
            if counts and not self._trust.is_own(row) and not self._is_in_force(row):
                unfinished.setdefault(row.pair, []).append(row)
        chosen = (self._choose(pair, rows) for pair, rows in unfinished.items())
        return [row for row in chosen if row is not None]

    def _is_in_force(self, row: HeadRow) -> bool:
        return row.role == "current" and self._manifests.is_whole(row.digest)

    def _choose(self, pair: Pair, unfinished: Sequence[HeadRow]) -> HeadRow | None:
        heads = self.accepted(*pair)
        if len(heads) == 1:
            accepted = next((row for row in unfinished if row.digest == heads[0].digest), None)
            if accepted is not None or self._manifests.is_whole(heads[0].digest):
                return accepted
        damaged = (row for row in unfinished if row.role == "current")
        return max(damaged, key=lambda row: row.manifest_version, default=None)

    def manifest(self, digest: str) -> Manifest:
        """A manifest that is here.

        Raises:
            StoreError: it is not, or not any more.
            Malformed, SignatureError: the disk damaged it.
        """
        stored = self._manifests.get(digest)
        if stored is None:
            raise StoreError(f"manifest {digest} is not in the catalogue")
        return Manifest.parse(stored.raw)

    def sizes(self, digest: str) -> dict[str, int]:
        """The bytes of each artifact that a manifest here names, by SHA-256; none where the disk damaged it."""
        with suppress(StoreError, Malformed, SignatureError):
            return {one.sha256: one.size for one in self.manifest(digest).artifacts.values()}
        return {}

    def taken(self, publisher: Publisher) -> dict[str, int]:
        """What a publisher makes this store hold: the bytes of each artifact that is here or was promised its room."""
        pairs = {row.digest: row.pair for row in self._manifests.all()}
        sizes = {**self._store.blobs.room.promised(), **self._store.blobs.sizes()}
        named: set[str] = set()
        for digest, artifacts in self._manifests.artifacts().items():
            pair = pairs.get(digest)
            if pair is not None and self._trust.configured.publisher_for(*pair) == publisher:
                named |= artifacts
        return {sha256: sizes[sha256] for sha256 in named & sizes.keys()}

    def share(self, publisher: Publisher) -> int | None:
        """How many bytes a publisher may make this store hold; None for all that there is room for."""
        if publisher.quota_bytes is not None:
            return publisher.quota_bytes
        limit, everybody = self._store.blobs.room.limit_bytes(), self._trust.configured.publishers
        if limit is None or len(everybody) < 2:
            return None
        said = [one.quota_bytes for one in everybody if one.quota_bytes is not None]
        return max(limit - sum(said), 0) // (len(everybody) - len(said))

    def admitted(self, pairs: Iterable[Pair], is_named: Callable[[Pair], bool]) -> set[Pair]:
        """Which channels and archs that others offer are taken up: a trusted key can make up any number of them.

        Args:
            pairs: that are offered.
            is_named: whether the operator named one; those do not count.
        """
        known = {row.pair for row in self._manifests.known() if not is_named(row.pair)}
        taken_up = Counter(self._trust.publisher_for(*pair) for pair in known)
        admitted = set()
        for pair in sorted(set(pairs)):
            publisher = self._trust.publisher_for(*pair)
            is_new = pair not in known and not is_named(pair)
            if is_new and publisher is not None and publisher.channels is None:
                if taken_up[publisher] >= publisher.max_pairs:
                    continue
                taken_up[publisher] += 1
            admitted.add(pair)
        return admitted

    def check_tables(self, manifest: Manifest) -> None:
        """Compare what a manifest states of artifacts that are here already with what was found to be true of them.

        What is cut in a way that nobody named yet is read when it is brought in.

        Raises:
            Contradiction: an artifact of this SHA-256 has another size, or other pieces.
        """
        for artifact in manifest.artifacts.values():
            if not self._store.blobs.holds(artifact.sha256):
                continue
            tables = self._store.blobs.tables(artifact.sha256).values()
            cut_so = {table.digest for table in tables if table.piece_length == artifact.piece_length}
            if any(table.size != artifact.size for table in tables) or cut_so - {artifact.table_digest}:
                raise Contradiction(
                    f"artifact {artifact.key}: the file with sha256:{artifact.sha256} has not the size and the pieces"
                    " that the manifest states"
                )

    def faults(self) -> list[HeadRow]:
        """What can never be whole by its signers' fault, of what would be wanted."""
        return [row for row in self._manifests.known() if row.fault is not None and self._trust.takes(row)]

    def choose(self, heads: Sequence[L]) -> tuple[list[L], list[L]]:
        """Look at what another node says that it holds; its word is a hint, and no more.

        Returns:
            What is worth asking for: it claims to be trusted, and is news, or evidence. And what is older than what
            was accepted, and was never held here.
        """
        news: list[L] = []
        older: list[L] = []
        for head in filter(self._trust.takes, heads):
            accepted = self.accepted(head.channel, head.arch)
            row = self._manifests.row(head.digest)
            if head.manifest_version < self._trust.floor(head.channel, head.arch):
                continue  # by a key that was removed since, or before it was
            if not accepted:
                news.append(head)
            elif head.digest in {one.digest for one in accepted}:
                if row is None or (row.fault is None and not self._manifests.is_whole(head.digest)):
                    news.append(head)
            elif head.manifest_version >= accepted[0].manifest_version:
                news.append(head)  # the same version with another digest is evidence worth having
            elif row is None:
                older.append(head)
        return news, older

    # -- what changes ------------------------------------------------------------------------------------------------

    def completed(self, digest: str, check: Callable[[], object] = lambda: None) -> None:
        """All that a manifest names is here: it is in force from now on, and what nobody needs any more goes.

        Its predecessor is kept, unless one version is to be kept only. A publisher may change the set of its keys: what
        other sets signed for the same channel and arch is kept only until there is a previous version of this one, or
        every change would leave two versions behind for ever.

        Args:
            digest: of the manifest.
            check: called first, within the same transaction; what it raises leaves everything as it was.

        Raises:
            StoreError: the manifest is not here, or its version is below the one in force.
        """
        with self._changing():
            check()
            row = self._manifests.row(digest)
            if row is not None:
                self._forget_former_signers(row)
            self._manifests.set_head(digest)
            self._forget_previous()

    @contextmanager
    def _changing(self, *, sweeps_always: bool = True) -> Iterator[None]:
        """Change rows in one transaction; then what no row needs any more goes, and everybody is told.

        Args:
            sweeps_always: whether that goes, too, which was needed by no row before.
        """
        with self._store.blobs.standstill():
            before = None if sweeps_always else {row.digest for row in self._manifests.all()}
            with self._store.transaction():
                yield
            if before is None or not before <= {row.digest for row in self._manifests.all()}:
                self._manifests.retain()
        self.tell()

    def _forget_former_signers(self, row: HeadRow) -> None:
        others = [other for other in self._manifests.current() if other.pair == row.pair]
        kept = {row.signers}
        if others and row.signers not in {other.signers for other in others}:
            kept.add(max(others, key=lambda other: other.manifest_version).signers)
        self._manifests.drop(
            lambda other: (
                other.pair == row.pair
                and other.signers not in kept
                and other.manifest_version < row.manifest_version
                and not self._trust.is_own(other)
            )
        )

    def _forget_previous(self) -> None:
        """Where one version is kept, nothing older than what is offered."""
        if self.keep > 1:
            return
        offered = {row.pair: row.manifest_version for row in self.offered()}
        self._manifests.drop(
            lambda row: (
                row.manifest_version < offered.get(row.pair, 0)
                and row.role != "pending"
                and not self._trust.is_own(row)
            )
        )

    def former(self, digest: str) -> FormerVersions:
        """The versions that yield to a manifest which is being brought in."""
        return FormerVersions(self._store, self, digest)

    def forget(self, digests: Set[str]) -> None:
        """Give manifests up, and what only they name."""
        with self._changing():
            self._manifests.drop(lambda row: row.digest in digests)

    def blame(self, digest: str, error: P2PBootError) -> None:
        """A manifest can never be whole, and that is its signers' fault: it is not wanted any more.

        What only it names is removed. Whatever they sign next is taken as usual.
        """
        with self._changing():
            self._manifests.set_fault(digest, error.message)

    def has_detached(self, digest: str) -> bool:
        """Whether a manifest is here with its detached signature."""
        stored = self._manifests.get(digest)
        return stored is not None and stored.detached is not None

    def add_detached(self, manifest: Manifest, detached: str) -> None:
        """Keep a detached signature that came later, if the manifest is still here.

        Raises:
            SignatureError: it is none of its signers'.
        """
        check_detached(manifest.raw, detached, manifest.signers)
        self._manifests.add_detached(manifest.digest, detached)

    def withdraw(self, pair: Pair, signers: Iterable[tuple[str, ...]]) -> list[HeadRow]:
        """Know nothing any more of what these sets of keys signed for a channel and arch; returns what that was."""
        sets = set(signers)

        def is_meant(row: HeadRow) -> bool:
            return row.pair == pair and row.signers in sets

        withdrawn = [*filter(is_meant, self._manifests.known())]
        if withdrawn:
            with self._changing():
                self._manifests.drop(is_meant)
        return withdrawn

    def tidy(self) -> None:
        """Remove what nobody needs any more: a fetch that was given up leaves what it began.

        So does what expired before it was whole.
        """
        self.end_parking()
        self._manifests.retain()
        now = self.clock().now
        with self._store.blobs.standstill(), self._store.transaction():
            over = {
                row.digest for row in self._manifests.all() if row.expires_at <= now and row.role == "pending"
            }
            needed = [named for digest, named in self._manifests.artifacts().items() if digest not in over]
            self._store.blobs.drop_partials(set().union(*needed))

    # -- who is told -------------------------------------------------------------------------------------------------

    def listen(self, changed: Callable[[], None]) -> None:
        """Have something called after every change, in the thread that made it; it must be quick."""
        self._listeners.append(changed)

    def tell(self) -> None:
        """Something is not as it was: look again."""
        self.offering.forget_served()
        for changed in self._listeners:
            changed()
