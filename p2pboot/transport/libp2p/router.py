"""GossipSub's router with content-addressed message ids, and with bounds on what control messages make us do.

Spec: https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final, cast

import trio
from libp2p.peer.id import ID
from libp2p.peer.peerstore import env_to_send_in_RPC
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.mcache import CacheEntry, MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.score import PeerScorer, ScoreParams

from p2pboot.core.events import Event
from p2pboot.transport.libp2p.accounts import PUSHY, Accounts
from p2pboot.transport.libp2p.outbox import MAX_RPC, Outbox
from p2pboot.transport.seen import SeenMessages

log = logging.getLogger("p2pboot.transport.libp2p")

_HEARTBEAT_S: Final = 1
_HISTORY: Final = 61  # heartbeats; a peer that joins gets what was sent within them
_MESSAGE_ID_BYTES: Final = 32
_MAX_RESENDS: Final = 3  # of one message to one peer; an id costs it 32 bytes and us up to 64 KiB
_MAX_PENDING: Final = 4  # messages kept for a peer that may yet subscribe
_MAX_CACHED: Final = 16 * 1024 * 1024  # bytes of messages; what is older can be had by sync
_MAX_WINDOW: Final = 256  # ids of a topic that we tell of, the newest
_ENTRIES_AT_ONCE: Final = 512  # grafts, and ids told of, in one RPC of ours: others bound what they read, too
_IDS_AT_ONCE: Final = 3  # messages asked for in one RPC: so many of the largest fit the one that answers
_MAX_ASKED: Final = 64  # of one account, between two heartbeats
_DEGREE: Final = 8
_DEGREE_LOW: Final = 6
_DIALLED: Final = 16  # peers of our own choice in the mesh of a topic, however many strangers are in it


def message_id(message: rpc_pb2.Message) -> bytes:
    """SHA-256 of the payload: the same message is the same, whoever sends it and however often."""
    return hashlib.sha256(message.data).digest()


class _ContentCache(MessageCache):
    """The message cache under our ids. Stock has its own, and IHAVE then tells of ids that nobody knows."""

    def __init__(self, window_size: int, history_size: int) -> None:
        super().__init__(window_size, history_size)
        self._bytes = 0

    def put(self, msg: rpc_pb2.Message) -> None:
        key = message_id(msg)
        if key in self.msgs:  # announced again: it counts from now
            for entries in self.history:
                entries[:] = [entry for entry in entries if entry.mid != key]
        else:
            self._bytes += len(msg.data)
        self.msgs[key] = msg
        self.history[0].append(CacheEntry(key, msg.topicIDs))
        for entries in reversed(self.history):
            while entries and self._bytes > _MAX_CACHED:
                self._drop(entries.pop(0))

    def window(self, topic: str) -> list[bytes]:
        return super().window(topic)[:_MAX_WINDOW]

    def shift(self) -> None:
        for entry in self.history[-1]:
            self._drop(entry)
        self.history[-1] = []
        super().shift()

    def _drop(self, entry: CacheEntry) -> None:
        gone = self.msgs.pop(entry.mid, None)
        self._bytes -= 0 if gone is None else len(gone.data)


def _parts(control: rpc_pb2.ControlMessage) -> Iterator[rpc_pb2.ControlMessage]:
    """Split grafts and what we tell of into messages of bounded size."""
    for first in range(0, len(control.graft), _ENTRIES_AT_ONCE):
        yield rpc_pb2.ControlMessage(graft=control.graft[first : first + _ENTRIES_AT_ONCE])
    part, entries = rpc_pb2.ControlMessage(), 0
    for one in control.ihave:
        if entries and entries + 2 + len(one.messageIDs) > _ENTRIES_AT_ONCE:
            yield part
            part, entries = rpc_pb2.ControlMessage(), 0
        part.ihave.append(one)
        entries += 2 + len(one.messageIDs)
    if entries:
        yield part


class _Scores(PeerScorer):
    """Answers the stock router out of our accounts, which know addresses and outlast a connection."""

    def __init__(self, accounts: Accounts) -> None:
        super().__init__(ScoreParams())
        self._accounts = accounts

    def allow_publish(self, peer: ID, topics: list[str]) -> bool:
        return not self._accounts.is_muted(peer)

    def allow_gossip(self, peer: ID, topics: list[str]) -> bool:
        return not self._accounts.is_muted(peer)

    def is_graylisted(self, peer: ID, topics: list[str]) -> bool:
        return self._accounts.is_muted(peer)

    def allow_px_from(self, peer: ID, topics: list[str]) -> bool:
        return False  # strangers do not tell us whom to dial

    def penalize_graft_flood(self, peer: ID, amount: float = PUSHY) -> None:
        self._accounts.blame(peer, PUSHY, "it grafts again at once")

    # Nothing else is counted.

    def on_heartbeat(self, dt_seconds: float = 1.0) -> None:
        pass

    def on_join_mesh(self, peer: ID, topic: str) -> None:
        pass

    def add_peer_ip(self, peer: ID, ip_str: str) -> None:
        pass


class HardenedGossipSub(GossipSub):
    """The router of one node.

    Args:
        accounts: of its peers.
        seen: what was validated.
    """

    def __init__(self, accounts: Accounts, seen: SeenMessages) -> None:
        super().__init__(
            protocols=[PROTOCOL_ID_V11],  # v1.2 costs twice the CPU for messages of 4 KiB
            degree=_DEGREE,
            degree_low=_DEGREE_LOW,
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
            spam_protection_enabled=False,  # it drops silently; `accounts` has its own limits
            eclipse_protection_enabled=False,
            max_pending_messages_per_peer=_MAX_PENDING,
        )
        self.accounts = accounts
        self.scorer = _Scores(accounts)
        self.mcache = _ContentCache(_HISTORY - 1, _HISTORY)
        self._seen = seen
        self._resends: dict[ID, Counter[bytes]] = {}
        self._asked: Counter[str] = Counter()  # messages of an account, since the last heartbeat

    @property
    def _attached(self) -> Pubsub:
        return cast(Pubsub, self.pubsub)

    async def heartbeat(self) -> None:
        """Keep the mesh, also after an error in it: the stock loop's end would be the whole router's."""
        while True:
            try:
                await super().heartbeat()
            except Exception as error:
                log.warning("gossip heartbeat failed: %r", error, extra=Event.GOSSIP_FAILED())
                log.debug("the traceback", exc_info=True)
                await trio.sleep(_HEARTBEAT_S)

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Forward a message that was accepted."""
        await super().publish(msg_forwarder, pubsub_msg)
        self.recent_message_deliveries.clear()  # only the adaptive mode reads it, and nobody empties it

    def _check_equivocation(self, msg: rpc_pb2.Message) -> bool:
        return True  # ids are the content's; the stock check keeps up to 1000 messages in memory

    # Whom we send messages to.

    def mesh_heartbeat(self) -> tuple[defaultdict[ID, list[str]], defaultdict[ID, list[str]]]:
        """Choose whom to graft; nobody is pruned.

        Peers of our own choice come first and are not kept out by any number of strangers, of whom those of one address
        count as one: so whoever fills a mesh with its own ids has not cut off the others.
        """
        self._asked.clear()
        grafted: defaultdict[ID, list[str]] = defaultdict(list)
        dialled = {peer for peer in self._attached.peers if self.accounts.is_dialled(peer)}
        account = cache(self.accounts.account)
        for topic, mesh in self.mesh.items():
            outside = self._attached.peer_topics.get(topic, set()) - mesh
            chosen = list(outside & dialled)[: max(0, _DIALLED - len(mesh & dialled))]
            others = list(outside - dialled)
            others = random.sample(others, min(len(others), 2 * _DEGREE))
            degree = _DEGREE if len(mesh) < _DEGREE_LOW else _DEGREE_LOW
            present = {account(one) for one in mesh} if others else set()
            for peer in chosen + [one for one in others if len(mesh) < degree or account(one) not in present]:
                is_wanted = peer in dialled or len(mesh) < degree or len(present) < degree
                if is_wanted and self._may_graft(peer, topic):
                    mesh.add(peer)
                    present.add(account(peer))
                    grafted[peer].append(topic)
        return grafted, defaultdict(list)

    def _may_graft(self, peer_id: ID, topic: str) -> bool:
        return (
            peer_id not in self.mesh[topic]
            and self._is_gossipsub_peer(peer_id)
            and not self._check_back_off(peer_id, topic)
            and not self.accounts.is_muted(peer_id)
        )

    async def _graft_subscriber(self, peer_id: ID, topic: str) -> None:
        mesh = self.mesh.get(topic)
        if mesh is None or not self._may_graft(peer_id, topic):
            return
        if len(mesh) < _DEGREE_LOW or self.accounts.is_dialled(peer_id):
            mesh.add(peer_id)
            await self.emit_graft(topic, peer_id)

    async def _emit_control_msgs(
        self,
        peers_to_graft: dict[ID, list[str]],
        peers_to_prune: dict[ID, list[str]],
        peers_to_gossip: dict[ID, dict[str, list[bytes]]],
    ) -> None:
        """Tell each peer what concerns it, in RPCs that it will read (stock tells it what concerns the others, too)."""
        for peer in peers_to_graft.keys() | peers_to_gossip.keys():
            control = rpc_pb2.ControlMessage()
            for topic in peers_to_graft.get(peer, ()):
                control.graft.add(topicID=topic)
            for topic, ids in peers_to_gossip.get(peer, {}).items():
                control.ihave.add(topicID=topic, messageIDs=ids)
            for part in _parts(control):
                await self.emit_control_message(part, peer)

    async def _maintain_mesh_quality(self, topic: str) -> None:
        """Nobody is replaced: stock does so by scores."""

    # What control messages make us do.

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Act on control messages: only about topics that we are in, and on each once."""
        asked, useless = rpc.control, 0
        for ihave in asked.ihave:
            await self.handle_ihave(ihave, sender_peer_id)
        if asked.iwant:
            wanted = [key for iwant in asked.iwant for key in iwant.messageIDs]
            useless += len(wanted) - self._resend(sender_peer_id, wanted)
        grafts = dict.fromkeys(graft.topicID for graft in asked.graft)
        prunes = {prune.topicID: prune.backoff for prune in asked.prune}
        useless += len(asked.graft) + len(asked.prune)
        for topic in grafts:
            if topic in self.mesh:
                useless -= sender_peer_id not in self.mesh[topic]
                await self.handle_graft(rpc_pb2.ControlGraft(topicID=topic), sender_peer_id)
        for topic, backoff in prunes.items():
            if topic in self.mesh:  # without its peers: strangers do not tell us whom to dial
                useless -= sender_peer_id in self.mesh[topic]
                await self.handle_prune(rpc_pb2.ControlPrune(topicID=topic, backoff=backoff), sender_peer_id)
        self.accounts.note_useless(sender_peer_id, useless)

    async def handle_ihave(self, ihave_msg: rpc_pb2.ControlIHave, sender_peer_id: ID) -> None:
        """Ask for what is new: a few messages at once, so that the answer is no larger than we read."""
        topic, account = ihave_msg.topicID, self.accounts.account(sender_peer_id)
        room = _MAX_ASKED - self._asked[account]
        if topic not in self.mesh or room <= 0:
            return
        ids = dict.fromkeys(one for one in ihave_msg.messageIDs if len(one) == _MESSAGE_ID_BYTES)
        unknown = [one for one in ids if not self._seen.has(topic, one)][:room]
        self._asked[account] += len(unknown)
        for first in range(0, len(unknown), _IDS_AT_ONCE):
            rpc = rpc_pb2.RPC()
            rpc.control.iwant.add(messageIDs=unknown[first : first + _IDS_AT_ONCE])
            self.send_rpc(sender_peer_id, rpc, priority=True)

    def _resend(self, peer_id: ID, wanted: Iterable[bytes]) -> int:
        """Send messages again to one who asks for them; returns how many there were to send."""
        picked = self._resendable(peer_id, wanted)
        for key in picked:
            if not self._send_again(peer_id, key):
                break
        return len(picked)

    def _send_again(self, peer_id: ID, key: bytes) -> bool:
        """Send one message again, unless it has had enough of that; returns whether it was sent."""
        message = self.mcache.get(key)
        if message is None or not self.accounts.may_be_resent(peer_id, len(message.data)):
            return False
        self.send_rpc(peer_id, rpc_pb2.RPC(publish=[message], senderRecord=self._own_record()))
        return True

    def _own_record(self) -> bytes:
        return env_to_send_in_RPC(self._attached.host)[0]

    def _resendable(self, peer_id: ID, wanted: Iterable[bytes]) -> list[bytes]:
        """Pick the messages that a peer may be sent (again), and count them."""
        sent = self._resends.setdefault(peer_id, Counter())
        for gone in [key for key in sent if self.mcache.get(key) is None]:
            del sent[gone]
        picked = [key for key in dict.fromkeys(wanted) if self.mcache.get(key) and sent[key] < _MAX_RESENDS]
        sent.update(picked)
        return picked

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Send a peer that joined a topic what it missed, as fast as it takes it; joining again brings little."""
        outbox = self._attached.peer_queues.get(peer_id)
        for key in self._resendable(peer_id, self.mcache.window(topic)):
            if not isinstance(outbox, Outbox) or not await outbox.has_room():
                return
            if not self._send_again(peer_id, key):
                return

    def send_rpc(self, peer_id: ID, rpc: rpc_pb2.RPC, priority: bool = False) -> None:
        """Queue an RPC for a peer: the same bytes for all that it goes to (stock copies it for each)."""
        queue = self._attached.peer_queues.get(peer_id)
        if queue is None:
            return
        if self._pending_control.get(peer_id) or rpc.ByteSize() > MAX_RPC:
            super().send_rpc(peer_id, rpc, priority)
        elif not queue.push(rpc, priority):
            self._handle_dropped_rpc(peer_id, rpc, "queue_full")

    def awaits(self, peer_id: ID) -> bool:
        """Whether there are messages for a peer that may yet subscribe."""
        return peer_id in self._pending_messages

    def has_sent_on(self, topic: str) -> bool:
        """Whether something was published or forwarded on a topic, which who joins it now may have missed."""
        return topic in self.time_since_last_publish

    def remove_peer(self, peer_id: ID) -> None:
        """Forget a peer."""
        super().remove_peer(peer_id)
        self._resends.pop(peer_id, None)
        for waiting in self.back_off.values():
            waiting.pop(peer_id, None)

    # What is below is done in tasks that strangers start; an error in one would end the whole router.

    async def on_peer_subscribed(self, peer_id: ID, topic: str) -> None:
        """Graft a peer that came to a topic."""
        try:
            await self._graft_subscriber(peer_id, topic)
        except Exception:
            log.debug("graft of %s failed", peer_id, exc_info=True)

    async def flush_pending_messages(self, peer_id: ID) -> None:
        """Send what waited for a peer's subscription."""
        try:
            await super().flush_pending_messages(peer_id)
        except Exception:
            log.debug("flush to %s failed", peer_id, exc_info=True)
