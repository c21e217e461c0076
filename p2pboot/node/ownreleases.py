"""What a node publishes itself, and all that it can do about it: vouch for it, roll it out, take it back.

Owns that these parts know each other and run. On a mirror there is no publisher, and nothing to take back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.node import rolledout
from p2pboot.node.building import Description
from p2pboot.node.interests import Interests
from p2pboot.node.problems import Problems
from p2pboot.node.publishing import DirectoryPublisher
from p2pboot.node.reconciling import Changes
from p2pboot.node.retrieving import SOURCE as RETRIEVING
from p2pboot.node.retrieving import Retrieving
from p2pboot.node.rollouts import RollOutDesk
from p2pboot.node.vouching import Voucher
from p2pboot.node.yanking import Yanking
from p2pboot.publish.build import BuildOptions
from p2pboot.publish.freshness import Intervals
from p2pboot.publish.numbering import publishing_time
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.store.trustgate import TrustGate
from p2pboot.transport.interface import Gossip


class OwnReleases:
    """See above.

    Args:
        interests: has the settings; what they say of the provider counts at every build.
        store: of the node.
        gate: through which manifests come into force; over the node's catalogue.
        trust_gate: the same for freshness statements and yanks.
        transport: whom the artifacts of earlier releases are asked from.
        problems: all that is wrong.
        signing_key: signs what the own directory holds.
        freshness_key: signs that it is the newest; None: nobody here says so.
        wall: the machine's clock, unix seconds; any thread.
        urls: the beginnings of the HTTP URLs that go into manifests; any thread.
    """

    def __init__(  # noqa: PLR0913 - the parts of a node that it ties together
        self,
        interests: Interests,
        store: Store,
        gate: Gate,
        trust_gate: TrustGate,
        transport: Gossip,
        *,
        problems: Problems,
        signing_key: SecretKey,
        freshness_key: SecretKey | None,
        wall: Callable[[], float],
        urls: Callable[[], Sequence[str]],
    ) -> None:
        self._interests = interests
        self._store = store
        self._catalogue = catalogue = gate.catalogue
        self._peer_id = transport.peer_id
        self._problems = problems
        self._urls = urls
        self.publisher: DirectoryPublisher | None = None
        self.yanking: Yanking | None = None
        self.voucher = Voucher(
            store,
            catalogue,
            trust_gate,
            key=freshness_key,
            intervals=self._intervals,
            report=partial(problems.report, "freshness"),
        )
        directory = interests.settings.provider.directory
        if directory is not None:
            self.publisher = DirectoryPublisher(
                directory,
                store=store,
                gate=gate,
                signing_key=signing_key,
                describe=self._describe,
                wall=wall,
                report=problems.report,
            )
            self.yanking = Yanking(
                store,
                catalogue,
                trust_gate,
                key=signing_key,
                publisher=self.publisher,
                retrieving=Retrieving(store, catalogue, transport, self.publisher),
                wall=wall,
            )

    def _intervals(self) -> Intervals:
        provider = self._interests.settings.provider
        return Intervals(provider.freshness_valid_s, provider.settle_s)

    def _describe(self) -> Description:
        provider = self._interests.settings.provider
        options = BuildOptions(
            version=provider.version,
            expires_in_s=provider.expires_in_s,
            name=provider.name,
            cmdline=provider.cmdline,
            urls=tuple(self._urls()),
            peer_id=self._peer_id,
            piece_length=provider.piece_length,
        )
        return Description(provider.channel, provider.arch, options)

    @property
    def rollouts(self) -> RollOutDesk:
        """What is rolled out, and whoever steers that."""
        now = lambda: publishing_time(self._catalogue.quick_clock().now)  # noqa: E731
        hold = None if self.publisher is None else self.publisher.instead.hold
        yank = None if self.yanking is None else self.yanking.yank_content
        held = partial(rolledout.held, self._store, self._catalogue)
        return RollOutDesk(
            self.publisher, self._catalogue, held=held, now=now, pauses=self.voucher, hold=hold, yank=yank
        )

    def look_soon(self) -> None:
        """Look at once whether what is published is still right: other URLs, or other settings."""
        if self.publisher is not None:
            self.publisher.due_within(0.0)

    async def run(self, changes: Changes, ask_first: Callable[[], Awaitable[None]] | None) -> None:
        """Publish and vouch until cancelled.

        Args:
            changes: tells that there may be something else to vouch for.
            ask_first: asks the peers what they hold. A key that never published here may have published elsewhere: they
                are asked before its counter starts at 1. None: peers are not asked.
        """
        async with trio.open_nursery() as nursery:
            if self.publisher is not None:
                nursery.start_soon(self._publish, self.publisher, ask_first)
            nursery.start_soon(self.voucher.run)
            nursery.start_soon(changes.follow, self.voucher.reconcile, "nothing is vouched for")
            if self.yanking is not None:
                nursery.start_soon(self.yanking.retrieving.run, partial(self._problems.report, RETRIEVING))

    async def _publish(
        self, publisher: DirectoryPublisher, ask_first: Callable[[], Awaitable[None]] | None
    ) -> None:
        if ask_first is not None and await trio.to_thread.run_sync(publisher.is_new):
            await ask_first()
        await publisher.run()
