"""Which channels and archs a node is there for, and whom it expects: by its settings, and the roots in force.

Everything is found out anew at each question: settings are reloaded, and a newer root may name others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from p2pboot.config.settings import NodeSettings
from p2pboot.core.names import is_next
from p2pboot.core.problems import Problem
from p2pboot.core.trust import Pair
from p2pboot.node.awaiting import Awaited, awaited
from p2pboot.node.rollouts import with_next
from p2pboot.store.catalogue import Catalogue


class Interests:
    """See above.

    Args:
        settings: what the operator wants; whoever takes changed ones sets `settings`.
        catalogue: has the trust in force.
    """

    def __init__(self, settings: NodeSettings, catalogue: Catalogue) -> None:
        self.settings = settings
        self._catalogue = catalogue

    def _in_force(self) -> NodeSettings:
        """The settings, with the roots in force in place of those that the operator named."""
        return replace(self.settings, roots=self._catalogue.trust.roots)

    def followed(self) -> tuple[Pair, ...]:
        """The pairs that the operator wants: what settings name, and what the roots in force name."""
        return self._in_force().followed()

    def names(self, pair: Pair) -> bool:
        """Whether the operator wants just this one, or it is rolled out into one of those."""
        return pair in with_next(self.followed())

    def follows(self, pair: Pair) -> bool:
        """Whether anybody else publishes a pair whom the operator believes."""
        trust = self._catalogue.trust
        return pair not in trust.own and trust.publisher_for(*pair) is not None

    def topics(self, held: set[Pair]) -> set[Pair]:
        """The pairs to hear and speak of by gossip: what is followed, published, or of what is held still believed."""
        trust = self._catalogue.trust
        covered = {pair for pair in held if trust.publisher_for(*pair) is not None}
        return covered | set(trust.own) | with_next(self.followed())

    def awaited(self, problems: Iterable[Problem]) -> list[Awaited]:
        """What the operator wants to have here, there already or not: what is followed, and what is to be published.

        Args:
            problems: all that is wrong.
        """
        own = (pair for pair in self._catalogue.trust.own if not is_next(pair[0]))
        return awaited((*self._in_force().wanted(), *own), problems)

    def expects_peers(self) -> bool:
        """Whether the node is to be connected with somebody: a publisher may be the first of its network."""
        settings = self.settings
        return bool(settings.network.bootstrap or not settings.trusts_nobody or settings.snapshots.trust)

    def default_pair(self) -> tuple[str | None, str | None]:
        """The channel and arch that the operator named, where there is one."""
        return self.settings.provider.channel, self.settings.provider.arch

    def role(self) -> str:
        """What the node is, in one word: publisher, mirror, or only there for snapshots."""
        settings = self.settings
        if settings.provider.directory is not None:
            return "publisher"
        return "mirror" if not settings.trusts_nobody or settings.snapshots.directory is None else "snapshots"
