"""What a publisher has in force now, of each channel and arch, and what its dates come to.

In memory only: a start finds out again what of the directory is in force, and the catalogue knows what is offered.
"""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.manifest import Manifest
from p2pboot.core.problems import Problem
from p2pboot.core.trust import Pair
from p2pboot.publish.numbering import Series, renewal_at, valid_too_long, went_back
from p2pboot.store.publications import Publications

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What one build put into force."""

    manifest: Manifest
    unchanged: bool


class InForce:
    """See above. It is changed in the event loop only; what is blocking is called in threads.

    Args:
        publications: of the state; the dates of what was published.
        signers: key ids of who signs what is published here.
    """

    def __init__(self, publications: Publications, signers: tuple[str, ...]) -> None:
        self._publications = publications
        self._signers = signers
        self._manifests: dict[Pair, Manifest] = {}

    def of(self, pair: Pair) -> Manifest | None:
        """What is in force of a channel and arch."""
        return self._manifests.get(pair)

    def pairs(self) -> AbstractSet[Pair]:
        """The channels and archs of which something is."""
        return self._manifests.keys()

    def note(self, manifest: Manifest) -> Published:
        """A manifest came into force, or is in force still."""
        pair = (manifest.channel, manifest.arch)
        done = Published(manifest, unchanged=self._manifests.get(pair) == manifest)
        if not done.unchanged:
            self._manifests[pair] = manifest
            log.info(
                "%s/%s: publishing version %s (manifest_version %d, digest %s)",
                *pair,
                manifest.version,
                manifest.manifest_version,
                manifest.digest,
                extra=Event.PUBLISHED(
                    channel=pair[0],
                    arch=pair[1],
                    version=manifest.version,
                    manifest_version=manifest.manifest_version,
                    digest=manifest.digest,
                ),
            )
        return done

    def drop(self, pair: Pair) -> Manifest | None:
        """Nothing of a channel and arch is in force any more; what was, if anything."""
        return self._manifests.pop(pair, None)

    def is_from_elsewhere(self, pair: Pair) -> bool:
        """Whether another machine made what is in force of a channel and arch; blocking."""
        manifest = self._manifests.get(pair)
        return manifest is not None and self._publications.is_from_elsewhere(manifest.digest)

    def wrong_dates(self, now: int) -> list[Problem]:
        """What is wrong with the dates of what is in force at a time in unix seconds; blocking."""
        streams = (Series(self._signers, *pair) for pair in self._manifests)
        found = (went_back(self._publications, stream, now) for stream in streams)
        too_long = (valid_too_long(manifest) for manifest in self._manifests.values())
        return [problem for problem in (*found, *too_long) if problem is not None]

    def renewal_s(self, now: int) -> float | None:
        """Seconds until the first of what is in force is to be renewed; None where none is. Blocking.

        What is overdue could not be renewed just now, and does not count.
        """
        due = [
            renewal_at(one, elsewhere=self._publications.is_from_elsewhere(one.digest))
            for one in self._manifests.values()
            if one.signers == self._signers
        ]
        return min((at - now for at in due if at > now), default=None)
