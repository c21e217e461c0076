"""GossipSub's router with content-addressed message ids, and with bounds on what control messages make us do.

Spec: https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from typing import Final

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.mcache import CacheEntry, MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.score import PeerScorer, ScoreParams, TopicScoreParams

log = logging.getLogger("p2pboot.transport.libp2p")

_HEARTBEAT_S: Final = 1
_HISTORY: Final = 61  # heartbeats; a peer that joins gets what was sent within them
# Control messages of one RPC that are looked at, and ids in one of them. An honest node has few to tell of.
_MAX_CONTROL: Final = 64
_MAX_IDS: Final = 64
_MESSAGE_ID_BYTES: Final = 32
_MAX_RESENDS: Final = 3  # of one message to one peer; an id costs it 32 bytes and us up to 64 KiB
_MAX_PENDING: Final = 4  # messages kept for a peer that may yet subscribe
# Two rejected messages make -20: such a peer's messages are dropped until its score has decayed (about 30 s).
_SCORES: Final = ScoreParams(
    p4_invalid_messages=TopicScoreParams(weight=10, cap=100, decay=0.99),
    publish_threshold=-15,
    gossip_threshold=-10,
    graylist_threshold=-25,
)


def message_id(message: rpc_pb2.Message) -> bytes:
    """SHA-256 of the payload: the same message is the same, whoever sends it and however often."""
    return hashlib.sha256(message.data).digest()


class _ContentCache(MessageCache):
    """The message cache under our ids. Stock has its own, and IHAVE then tells of ids that nobody knows."""

    def put(self, msg: rpc_pb2.Message) -> None:
        key = message_id(msg)
        if key in self.msgs:  # announced again: it counts from now
            for entries in self.history:
                entries[:] = [entry for entry in entries if entry.mid != key]
        self.msgs[key] = msg
        self.history[0].append(CacheEntry(key, msg.topicIDs))


class HardenedGossipSub(GossipSub):
    """The router of one node."""

    def __init__(self) -> None:
        super().__init__(
            protocols=[PROTOCOL_ID_V11],  # v1.2 costs twice the CPU for messages of 4 KiB
            degree=8,
            degree_low=6,
            # Never prune for having too many: stock over-grafts and then prunes, and a pruned peer can stay
            # isolated in both directions (2 of 20 nodes did).
            degree_high=1000,
            heartbeat_initial_delay=0.5,
            heartbeat_interval=_HEARTBEAT_S,
            prune_back_off=2,
            unsubscribe_back_off=1,
            gossip_window=_HISTORY - 1,
            gossip_history=_HISTORY,
            adaptive_gossip_enabled=False,  # it stretches the heartbeat to a minute
            spam_protection_enabled=False,  # it drops silently; `gossip` has its own limit
            eclipse_protection_enabled=False,
            max_pending_messages_per_peer=_MAX_PENDING,
        )
        self.scores = PeerScorer(_SCORES)
        self.scorer = self.scores
        self.mcache = _ContentCache(_HISTORY - 1, _HISTORY)
        self._resends: dict[ID, Counter[bytes]] = {}

    async def heartbeat(self) -> None:
        """Keep the mesh, also after an error in it: the stock loop's end would be the whole router's."""
        while True:
            try:
                await super().heartbeat()
            except Exception as error:
                log.warning("gossip heartbeat failed: %r", error)
                log.debug("the traceback", exc_info=True)
                await trio.sleep(_HEARTBEAT_S)

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Forward a message that was accepted."""
        await super().publish(msg_forwarder, pubsub_msg)
        self.recent_message_deliveries.clear()  # only the adaptive mode reads it, and nobody empties it

    def _check_equivocation(self, msg: rpc_pb2.Message) -> bool:
        return True  # ids are the content's; the stock check keeps up to 1000 messages in memory

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Act on control messages: only about topics that we are in, and only so many."""
        asked = rpc.control
        kept = rpc_pb2.ControlMessage()
        for ihave in asked.ihave[:_MAX_CONTROL]:
            if ihave.topicID in self.mesh:
                ids = [one for one in ihave.messageIDs[:_MAX_IDS] if len(one) == _MESSAGE_ID_BYTES]
                kept.ihave.add(topicID=ihave.topicID, messageIDs=ids)
        for iwant in asked.iwant[:_MAX_CONTROL]:
            kept.iwant.add(messageIDs=self._resendable(sender_peer_id, iwant.messageIDs[:_MAX_IDS]))
        kept.graft.extend([graft for graft in asked.graft[:_MAX_CONTROL] if graft.topicID in self.mesh])
        for prune in asked.prune[:_MAX_CONTROL]:
            if prune.topicID in self.mesh:  # without its peers: strangers do not tell us whom to dial
                kept.prune.add(topicID=prune.topicID, backoff=prune.backoff)
        await super().handle_rpc(rpc_pb2.RPC(control=kept), sender_peer_id)

    def _resendable(self, peer_id: ID, wanted: list[bytes]) -> list[bytes]:
        """Pick the messages that a peer may be sent (again), and count them."""
        sent = self._resends.setdefault(peer_id, Counter())
        for gone in [key for key in sent if self.mcache.get(key) is None]:
            del sent[gone]
        picked = [key for key in dict.fromkeys(wanted) if self.mcache.get(key) and sent[key] < _MAX_RESENDS]
        sent.update(picked)
        return picked

    def remove_peer(self, peer_id: ID) -> None:
        """Forget a peer."""
        super().remove_peer(peer_id)
        self._resends.pop(peer_id, None)
        for waiting in self.back_off.values():
            waiting.pop(peer_id, None)

    # The tasks below are started by what strangers send; an error in one would end the whole router.

    async def on_peer_subscribed(self, peer_id: ID, topic: str) -> None:
        """Graft a peer that came to a topic."""
        try:
            await super().on_peer_subscribed(peer_id, topic)
        except Exception:
            log.debug("graft of %s failed", peer_id, exc_info=True)

    async def flush_pending_messages(self, peer_id: ID) -> None:
        """Send what waited for a peer's subscription."""
        try:
            await super().flush_pending_messages(peer_id)
        except Exception:
            log.debug("flush to %s failed", peer_id, exc_info=True)
