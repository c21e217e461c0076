"""What each peer may make gossip cost us: by the address it comes from first, and by its id second.

Whoever we dialled, or who has brought a message that was accepted, is *known*: it has an account of its own, beside
whatever strangers of its address do. All strangers of one address share one, and within it each id its part.
"""

from __future__ import annotations

import logging
from typing import Final, cast

import trio
from cachetools import LRUCache
from libp2p.abc import IHost
from libp2p.peer.id import ID

from p2pboot.core.events import Event
from p2pboot.core.origins import Party, party_of
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.transport.allowlist import EVERYBODY, AllowList
from p2pboot.transport.libp2p.muxed import MuxedConnection
from p2pboot.transport.libp2p.options import Libp2pOptions
from p2pboot.transport.reputation import MUTED, OUT, Reputation
from p2pboot.transport.timeshare import TimeShare
from p2pboot.wire.pubsub import Weight

log = logging.getLogger("p2pboot.transport.libp2p")

# Offences. Two rejected messages mute a peer for half a minute.
REJECTED: Final = 10.0
MALFORMED: Final = 3.0  # a stream that does not speak the protocol
PUSHY: Final = 1.0  # goes on where it was told to stop
FLAGRANT: Final = 1.5 * OUT  # what is no mistake of anybody's; out for 40 s

# Seconds of a core, measured on the slow side; a message is priced as if it had to be judged to the end.
_RPC_S: Final = 100e-6
_FIELD_S: Final = 2e-6
_MESSAGE_S: Final = 400e-6
_SUBSCRIPTION_S: Final = 50e-6
_CONTROL_S: Final = 30e-6
_BYTE_S: Final = 25e-9
RECORD_S: Final = 500e-6
"""A peer's record of itself that is new to us."""

_STRANGERS: Final = 0.2  # of one core's time, all together
_KNOWN: Final = 0.25

_REMEMBERED: Final = 4096  # peers
_STREAMS_AT_ONCE, _STREAMS_PER_S = 32, 0.2
_USELESS_AT_ONCE, _USELESS_PER_S = 400, 20.0  # entries that nobody needs; some of them any honest node sends
_RESENT_AT_ONCE, _RESENT_PER_S = 8 * 1024 * 1024, 1024 * 1024  # bytes of former messages, by account
_REPORT_EVERY_S: Final = 60.0


class Accounts:
    """Keeps them for all peers of one host.

    Args:
        host: knows the connections.
        options: the limits.
        allowed: whose gossip the operator wants to hear.
    """

    def __init__(self, host: IHost, options: Libp2pOptions, allowed: AllowList = EVERYBODY) -> None:
        self._host = host
        self._allowed = allowed
        self._options = options
        self._reputation = Reputation()
        self._peers: LRUCache[ID, _Peer] = LRUCache(_REMEMBERED)
        self._resent: LRUCache[str, TokenBucket] = LRUCache(_REMEMBERED)
        self._strangers, self._known = TimeShare(_STRANGERS), TimeShare(_KNOWN)
        self._reports = TokenBucket(1 / _REPORT_EVERY_S, 1, trio.current_time())
        self.hung_up = 0
        """Peers whose connections were ended for what they sent."""

    async def run(self) -> None:
        """Give turns to those who wait for one, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._strangers.run)
            nursery.start_soon(self._known.run)

    # Who somebody is.

    def party(self, peer_id: ID) -> Party:
        """Where a peer comes from, and who it says it is; where it came from last if it is not connected."""
        peer = self._peer(peer_id)
        for connection in self._host.get_network().get_connections(peer_id):
            peer.party = party_of(cast(MuxedConnection, connection.muxed_conn).name.address, str(peer_id))
            break
        return peer.party

    def is_dialled(self, peer_id: ID) -> bool:
        """Whether we chose to be connected with it."""
        connections = self._host.get_network().get_connections(peer_id)
        return any(connection.muxed_conn.is_initiator for connection in connections)

    def is_known(self, peer_id: ID) -> bool:
        """Whether we chose it, or it has brought something that was accepted; and it is not muted."""
        return (self._peer(peer_id).has_earned or self.is_dialled(peer_id)) and not self.is_muted(peer_id)

    def account(self, peer_id: ID) -> str:
        """The name of its account: its own if it is known, otherwise its address's."""
        return str(peer_id) if self.is_known(peer_id) else self.party(peer_id).origin

    def earned(self, peer_id: ID) -> None:
        """Note that a peer brought a message that was accepted, as the first."""
        self._peer(peer_id).has_earned = True

    # What somebody did wrong.

    def is_muted(self, peer_id: ID) -> bool:
        """Whether it is neither listened to nor told anything."""
        return self._points(peer_id) >= MUTED

    def is_out(self, peer_id: ID) -> bool:
        """Whether we are not to be connected with it."""
        return self._points(peer_id) >= OUT

    def is_allowed(self, peer_id: ID) -> bool:
        """Whether the operator wants to hear its gossip."""
        return self._allowed.heeds(str(peer_id))

    def is_heard(self, peer_id: ID) -> bool:
        """Whether there is to be any gossip with it."""
        return self.is_allowed(peer_id) and not self.is_out(peer_id)

    def _points(self, peer_id: ID) -> float:
        return self._reputation.of(self.party(peer_id), trio.current_time())

    def blame(self, peer_id: ID, points: float, reason: str) -> None:
        """Put down that a peer did wrong; too much of it ends its connections.

        Args:
            peer_id: whose.
            points: of those that `reputation` knows.
            reason: for the log.
        """
        if points >= MALFORMED:
            self._peer(peer_id).has_earned = False
        party = self.party(peer_id)
        log.debug("gossip from %s: %s", peer_id, reason)
        if self._reputation.blame(party, points, trio.current_time()) >= OUT:
            self.hang_up(peer_id, reason)

    def hang_up(self, peer_id: ID, reason: str) -> None:
        """End all connections with a peer at once. The log has a line now and then, however many there are."""
        connections = self._host.get_network().get_connections(peer_id)
        for connection in connections:
            cast(MuxedConnection, connection.muxed_conn).tcp.abort()
        self.hung_up += bool(connections)
        if connections and self._reports.try_take(1, trio.current_time()):
            party = self.party(peer_id)
            log.warning(
                "gossip: hung up on %s at %s: %s (%d peers so far)",
                peer_id,
                party.origin,
                reason,
                self.hung_up,
                extra=Event.HUNG_UP(peer=str(peer_id), address=party.origin, reason=reason),
            )

    # What somebody may do.

    async def take_turn(self, peer_id: ID, cost_s: float) -> None:
        """Wait until a peer may make us work for so many seconds."""
        if self.is_known(peer_id):
            await self._known.take(Party(str(peer_id), str(peer_id)), cost_s)
        else:
            await self._strangers.take(self.party(peer_id), cost_s)

    def may_open(self, peer_id: ID) -> bool:
        """Whether it may have (another) stream; not if it is out, or opens one after the other."""
        if self.is_out(peer_id):
            self.hang_up(peer_id, "it comes back too soon")
            return False
        if self._peer(peer_id).streams.try_take(1, trio.current_time()):
            return True
        self.blame(peer_id, PUSHY, "it opens one stream after the other")
        return False

    def reopening_s(self, peer_id: ID) -> float:
        """Seconds to wait before a stream to it is opened again, and that counts as another time."""
        return self._peer(peer_id).reopened.take(1, trio.current_time())

    def may_publish(self, peer_id: ID) -> bool:
        """Whether it may bring one more new message."""
        return self._peer(peer_id).messages.try_take(1, trio.current_time())

    def note_useless(self, peer_id: ID, count: int) -> None:
        """Put down that it sent entries that are of no use; a few are nothing."""
        if count and not self._peer(peer_id).useless.try_take(count, trio.current_time()):
            self.blame(peer_id, PUSHY, "it sends nothing of use")

    def may_be_resent(self, peer_id: ID, size: int) -> bool:
        """Whether it may be sent so many bytes of former messages."""
        account = self.account(peer_id)
        now = trio.current_time()
        bucket = self._resent.get(account)
        if bucket is None:
            bucket = self._resent[account] = TokenBucket(_RESENT_PER_S, _RESENT_AT_ONCE, now)
        return bucket.try_take(size, now)

    def _peer(self, peer_id: ID) -> _Peer:
        found = self._peers.get(peer_id)
        if found is None:
            found = self._peers[peer_id] = _Peer(peer_id, self._options)
        return found


class _Peer:
    """What is known of one id."""

    def __init__(self, peer_id: ID, options: Libp2pOptions) -> None:
        now = trio.current_time()
        self.party = Party("", str(peer_id))
        self.has_earned = False
        self.streams = TokenBucket(_STREAMS_PER_S, _STREAMS_AT_ONCE, now)
        self.reopened = TokenBucket(_STREAMS_PER_S, _STREAMS_AT_ONCE, now)
        self.messages = TokenBucket(options.gossip_messages_per_second, options.gossip_burst, now)
        self.useless = TokenBucket(_USELESS_PER_S, _USELESS_AT_ONCE, now)


def price_s(weight: Weight) -> float:
    """What working on an RPC may cost, in seconds of a core."""
    return (
        _RPC_S
        + _FIELD_S * weight.fields
        + _MESSAGE_S * weight.messages
        + _SUBSCRIPTION_S * weight.subscriptions
        + _CONTROL_S * weight.controls
        + _FIELD_S * weight.ids
        + _BYTE_S * weight.size
    )
