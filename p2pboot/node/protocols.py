"""Which protocols a node answers its peers, and from which of its parts each is answered."""

from __future__ import annotations

from collections.abc import Callable

from p2pboot.core.withheld import Withheld
from p2pboot.node.observing import unheld
from p2pboot.node.problems import Problems
from p2pboot.node.trusting.offered import OfferedDocuments
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL
from p2pboot.protocol.swarm import SWARM_PROTOCOL
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.serving.contents import Contents
from p2pboot.serving.heads import SyncServer
from p2pboot.serving.swarm import SwarmServer
from p2pboot.store.blobs import BlobStore
from p2pboot.store.catalogue import Catalogue
from p2pboot.transport.interface import Connection, Gossip


def answer_peers(
    transport: Gossip,
    serving: Serving,
    *,
    catalogue: Catalogue,
    blobs: BlobStore,
    documents: OfferedDocuments,
    problems: Problems,
    contents: Contents,
    note_site: Callable[[Connection, str], None],
) -> None:
    """Answer who connects, from now on.

    Args:
        transport: the network.
        serving: what all answers share: limits and accounts.
        catalogue: what is offered.
        blobs: what is held of it.
        documents: the trust documents that are told.
        problems: why something is not offered.
        contents: what the swarm's protocol gives; artifacts are added.
        note_site: is told where somebody who asks says that it stands.
    """
    offering = catalogue.offering
    sync = SyncServer(
        offering,
        transport.peer_records,
        lambda: catalogue.quick_clock().now,  # in the event loop: it never waits for the disk
        serving,
        lambda channel, arch: withheld(catalogue, problems, channel, arch),
        documents=documents,
        read_record=transport.read_peer_record,
        note_site=note_site,
    )
    transport.handle(ARTIFACT_PROTOCOL, ArtifactServer(blobs, serving, offering).handle)
    transport.handle(SYNC_PROTOCOL, sync.handle)
    contents.add(blobs, may_give=offering.allows)
    transport.handle(SWARM_PROTOCOL, SwarmServer(transport, serving, contents).handle)


def withheld(
    catalogue: Catalogue, problems: Problems, channel: str | None, arch: str | None
) -> list[Withheld]:
    """What a peer is told of that is not offered to it; called in threads.

    Args:
        catalogue: what is known, and what of it is offered.
        problems: what keeps the rest from being here.
        channel: only of this one; None for all.
        arch: likewise.
    """
    known = catalogue.withheld(channel, arch)
    offered = {row.pair for row in catalogue.offered(channel, arch)}
    pairs = offered | {(one.channel, one.arch) for one in known}
    return [*known, *unheld(problems.all(), pairs, channel, arch)]
