"""What yields to a manifest that is being brought in: the former versions of the same channel and arch.

And before those what is parked (`store.parking`), of any: nobody is given that now.
The version in force is offered until the next one is whole, and its predecessor is kept beside it. Where there is no
room for both and the next one, the predecessor goes first. The one in force goes only if the operator keeps one version
(`keep`), for then nothing is offered until the next one is whole; and only when somebody showed a piece of that, or a
publisher's word alone would put an end to what is offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from typing_extensions import override

from p2pboot.store.errors import ShareUsed
from p2pboot.store.manifests import HeadRow
from p2pboot.store.room import Yielding
from p2pboot.store.store import Store

if TYPE_CHECKING:
    from p2pboot.store.catalogue import Catalogue


class FormerVersions(Yielding):
    """The former versions of one manifest; made by `Catalogue.former`.

    Args:
        store: where they are.
        catalogue: of the same store.
        digest: of the manifest.
    """

    def __init__(self, store: Store, catalogue: Catalogue, digest: str) -> None:
        self._store = store
        self._catalogue = catalogue
        self._digest = digest

    def in_force(self) -> HeadRow | None:
        """The version that is offered meanwhile."""
        row = self._store.manifests.row(self._digest)
        return None if row is None else next(iter(self._catalogue.offered(*row.pair)), None)

    @override
    def check(self) -> None:
        """Raise ShareUsed where the publisher may not make the store hold so much, whatever yields."""
        taken, share, who = self._share()
        if share is not None and taken > share + self._bytes(of_the_publisher=True):
            raise ShareUsed(who, taken=taken, share=share)

    def _share(self) -> tuple[int, int | None, str]:
        """What the publisher will have here with this manifest, what it may have, and what it is called."""
        row = self._store.manifests.row(self._digest)
        publisher = None if row is None else self._catalogue.trust.configured.publisher_for(*row.pair)
        if publisher is None:
            return 0, None, ""
        taken = {**self._catalogue.taken(publisher), **self._catalogue.sizes(self._digest)}
        return sum(taken.values()), self._catalogue.share(publisher), publisher.shown

    @override
    def bytes(self) -> int:
        return self._bytes()

    def _bytes(self, *, of_the_publisher: bool = False) -> int:
        *_, freed = [0, *(freed for _, freed in self._steps(of_the_publisher=of_the_publisher))]
        return freed

    @override
    def give_up(self, needed: int) -> None:
        taken, share, _ = self._share()
        given_up = self._enough(needed, of_the_publisher=False)
        if share is not None:  # what is another publisher's leaves this one no more of its share
            given_up |= self._enough(taken - share, of_the_publisher=True)
        if given_up:
            self._catalogue.forget(given_up)

    def _enough(self, needed: int, *, of_the_publisher: bool) -> set[str]:
        """The digests of what has to go for so many bytes, or of all that can."""
        given_up: set[str] = set()
        for row, freed in self._steps(of_the_publisher=of_the_publisher) if needed > 0 else ():
            given_up.add(row.digest)
            if freed >= needed:
                break
        return given_up

    def _steps(self, *, of_the_publisher: bool) -> Iterator[tuple[HeadRow, int]]:
        """What can be given up, the first first, with how many bytes that and all before it give."""
        manifests, sizes = self._store.manifests, self._store.blobs.sizes()
        policy, new = self._catalogue.trust.configured, manifests.row(self._digest)
        named = manifests.artifacts()
        freed = 0
        for row in self._yielding():
            is_of_it = new is not None and policy.publisher_for(*row.pair) == policy.publisher_for(*new.pair)
            if of_the_publisher and not is_of_it:
                continue
            yields = named.pop(row.digest, set())
            freed += sum(sizes.get(sha256, 0) for sha256 in yields.difference(*named.values()))
            yield row, freed

    def _yielding(self) -> list[HeadRow]:
        new = self._store.manifests.row(self._digest)
        if new is None:
            return []
        in_force = self.in_force()
        parked = [row for row in self._store.manifests.all() if row.is_parked and row.digest != new.digest]
        older = [
            row
            for row in self._store.manifests.of_pair(new.pair)
            if row.manifest_version < new.manifest_version
            and not row.is_parked
            and not self._catalogue.trust.is_own(row)
        ]
        if self._catalogue.keep > 1:
            older = [row for row in older if in_force is None or row.digest != in_force.digest]
        older.sort(key=lambda row: (row == in_force, row.manifest_version))
        return [*sorted(parked, key=lambda row: row.parked_at or 0), *older]
