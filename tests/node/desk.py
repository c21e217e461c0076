"""A publisher alone at its desk: a directory, a store, and the clock in the test's hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.problems import Problem
from p2pboot.core.trust import Trust
from p2pboot.node.building import Description
from p2pboot.node.inforce import Published
from p2pboot.node.problems import Problems
from p2pboot.node.publishing import DirectoryPublisher
from p2pboot.publish.build import BuildOptions
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.testing.manifests import NOW, key_of
from tests.node.world import PAIR

KEY = key_of("publisher")


class Desk:
    """A publisher, and what a test does around it."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.directory = directory
        self.store = store
        self.published: list[Published] = []
        self.builds: list[float] = []
        self.changed: Callable[[], None] = lambda: None
        self.busy_until = 0.0
        self.now = NOW
        self.channel: str | None = None
        self.arch: str | None = None
        self.options = BuildOptions(name="test")
        self.problems = Problems(lambda: self.now)
        self.catalogue = Catalogue(store, Trust(TrustPolicy()), lambda: self.now)
        self.publisher = DirectoryPublisher(
            directory,
            store=store,
            gate=Gate(store, self.catalogue),
            signing_key=KEY,
            describe=lambda: Description(self.channel, self.arch, self.options),
            wall=lambda: self.now,
            report=self.problems.report,
        )
        note = self.publisher._in_force.note

        def note_too(manifest: Manifest) -> Published:
            done = note(manifest)
            if not done.unchanged:
                self.published.append(done)
            return done

        self.publisher._in_force.note = note_too  # type: ignore[method-assign]

    def trust(self, *keyids: str) -> None:
        """Have the operator trust a publisher with these keys."""
        self.catalogue.change_trust(Trust(TrustPolicy((Publisher(keyids),))))

    def said(self, pair: str = "stable/x86_64") -> list[str]:
        """What is wrong with a pair: code and text."""
        return [f"{one.code}: {one.text}" for one in self.problems.all() if one.subject == pair]

    def problem(self, code: str, pair: str = "stable/x86_64") -> Problem | None:
        """The problem of this kind with a pair, if there is one."""
        found = (one for one in self.problems.all() if (one.code, one.subject) == (code, pair))
        return next(found, None)

    def leaf(self, pair: tuple[str, str] = PAIR) -> Path:
        return self.directory.joinpath(*pair)

    def version(self, pair: tuple[str, str] = PAIR) -> int:
        """What is offered of a pair; 0 when nothing is."""
        heads = self.store.manifests.heads(*pair)
        return max((row.manifest_version for row in heads), default=0)

    @property
    def versions(self) -> list[int]:
        return [one.manifest.manifest_version for one in self.published]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.publisher.run)
            await trio.sleep(0.1)
            yield
            nursery.cancel_scope.cancel()
