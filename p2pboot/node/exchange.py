"""What a node and its peers tell each other of manifests and trust documents: by gossip, and by comparing heads.

Owns that the two ways know each other and run. What is heard goes to the `intake` and the trust gate; nothing is judged
here.
"""

from __future__ import annotations

from typing import Final

import trio

from p2pboot.config.network import NetworkSettings
from p2pboot.core.trust import Pair
from p2pboot.node.announcing import Announcer
from p2pboot.node.intake import Intake
from p2pboot.node.interests import Interests
from p2pboot.node.neighbourhood import Neighbourhood
from p2pboot.node.poisoners import Poisoners
from p2pboot.node.reconciling import Changes
from p2pboot.node.status.collecting import Collector
from p2pboot.node.syncing import Syncer
from p2pboot.node.trusting.carrying import Carrying
from p2pboot.node.trusting.following import Following
from p2pboot.node.trusting.offered import OfferedDocuments
from p2pboot.protocol.messages import manifest_topic
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.trustgate import TrustGate
from p2pboot.transport.interface import Gossip

ASK_THE_MESH_S: Final = (
    5.0  # how long to look for what peers hold, before something begins that may not contradict it
)
DISCOVERY_S: Final = 2.0  # the same where no peer is configured and only the local network can tell


class Exchange:
    """See above.

    Args:
        network: of the settings; a running node takes no other.
        transport: the network.
        catalogue: what is held.
        trust_gate: judges trust documents.
        documents: what is told of them.
        interests: what is heard and spoken of.
        intake: judges manifests.
        poisoners: are noted.
        collector: is told whose heads were seen.
    """

    def __init__(  # noqa: PLR0913 - the parts of a node that it ties together
        self,
        network: NetworkSettings,
        transport: Gossip,
        *,
        catalogue: Catalogue,
        trust_gate: TrustGate,
        documents: OfferedDocuments,
        interests: Interests,
        intake: Intake,
        poisoners: Poisoners,
        collector: Collector,
    ) -> None:
        self._network = network
        self._transport = transport
        self.following = Following(
            transport,
            trust_gate,
            catalogue,
            documents,
            poisoned=poisoners.note,
            again=lambda: self.syncer.poke(),  # noqa: PLW0108 - it is made next
        )
        self.syncer = Syncer(
            transport,
            choose=intake.choose,
            take=intake.take,
            interval_s=network.sync_interval_s,
            heeds=network.allowed.heeds,
            told=collector.acquaintance.note_heads,
            trust=self.following,
        )
        self._announcer: Announcer[Pair] = Announcer(
            transport,
            topic=lambda pair: manifest_topic(*pair),
            hear=intake.hear,
            heads=catalogue.in_date,
            topics=interests.topics,
            interval_s=network.announce_interval_s,
        )
        self._carrying = Carrying(
            transport,
            trust_gate,
            catalogue,
            documents,
            self.following,
            interval_s=network.announce_interval_s if network.gossip else None,
        )

    async def reconcile(self) -> None:
        """Listen for and speak of what is believed and held now."""
        await self._carrying.reconcile()
        if self._network.gossip:
            await self._announcer.reconcile()

    async def ask_everybody(self, neighbourhood: Neighbourhood) -> None:
        """Whoever can be asked soon has been, and what they hold is known.

        Args:
            neighbourhood: knows whom there is to ask.
        """
        with trio.move_on_after(ASK_THE_MESH_S):
            if not self._network.bootstrap:
                await trio.sleep(DISCOVERY_S if neighbourhood.hints is not None else 0)
            await neighbourhood.peering.tried.wait()
            if self._transport.peers() or self._network.bootstrap:
                await self.syncer.all_synced()

    async def run(self, changes: Changes) -> None:
        """Tell and hear until cancelled.

        Args:
            changes: tells that something else is held or believed.
        """
        async with trio.open_nursery() as nursery:
            if self._network.sync:
                nursery.start_soon(self.syncer.run)
            if self._network.gossip:
                nursery.start_soon(self._announcer.run)
                nursery.start_soon(changes.follow, self._announcer.reconcile, "nothing is announced")
            nursery.start_soon(self._carrying.run, changes)
