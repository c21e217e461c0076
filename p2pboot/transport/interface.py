"""What the rest of the program knows of a network: connections, streams, gossip. No library's type passes here.

Three implementations: `transport.libp2p` (py-libp2p, for nodes), `transport.light` (for clients) and `testing.network`
(in memory, for tests). Peer ids are base58 strings (`12D3KooW…`), addresses are multiaddr strings.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import NotFoundError, RemoteProtocolError


class StreamReset(RemoteProtocolError):
    """The stream or its connection ended without an orderly close."""


class NoRoom(StreamReset):
    """The peer has no room for another connection; it did nothing wrong."""

    def __init__(
        self,
        message: str = "it is full, and has no room for another connection now",
        *,
        remedy: str | None = "try again in a while, or ask another provider: --bootstrap MULTIADDR",
    ) -> None:
        super().__init__(message, remedy=remedy)


class NotAllowed(NoRoom):
    """The peer lets in only those whom its operator has named; it did nothing wrong."""

    def __init__(self) -> None:
        super().__init__(
            "it lets in only peers that its operator has named, by ids which a client keeps with --key FILE",
            remedy="have its operator name this client's peer id (--allow-peer), or ask another provider",
        )


class DialFailure(enum.StrEnum):
    """What became of a dial, for who has to say what to do about it."""

    UNRESOLVED = "unresolved"  # nobody knows the name
    REFUSED = "refused"  # a machine is there, and nobody listens
    TIMEOUT = "timeout"  # nothing comes back
    UNREACHABLE = "unreachable"  # no way leads there
    NOT_PERMITTED = "not-permitted"  # this machine does not let it out
    OTHER_PEER = "other-peer"  # who answers is not who is named
    OTHER_MESH = "other-mesh"  # another swarm key than ours
    NOT_LIBP2P = "not-libp2p"  # something else listens there
    HUNG_UP = "hung-up"  # it ended before the peer had proved who it is
    ITSELF = "itself"  # this very node listens there
    NOT_ALLOWED = "not-allowed"  # the allow-list of either side
    OTHER = "other"


class DialError(NotFoundError):
    """No connection to that address.

    Args:
        message: as of every error.
        remedy: likewise.
        failure: what became of it.
    """

    def __init__(
        self, message: str, *, remedy: str | None = None, failure: DialFailure = DialFailure.OTHER
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.failure = failure


class Forwarding(enum.Enum):
    """What becomes of a gossip message (GossipSub v1.1, extended validators)."""

    ACCEPT = "accept"  # deliver and forward
    IGNORE = "ignore"  # neither forward nor punish: an honest peer may send it
    REJECT = "reject"  # do not forward, score the sender down: only a faulty or hostile peer sends it


class PeerSource(enum.Enum):
    """How a peer was found: what gave this end its address. The word and most of the values are those of BitTorrent."""

    BOOTSTRAP = "bootstrap"  # an address that the user or operator named
    LAN = "lan"  # multicast DNS
    DHT = "dht"  # the distributed hash table
    PEERS = "peers"  # another peer told of it
    ADDRESS_BOOK = "address-book"  # this end reached it earlier
    INCOMING = "incoming"  # it dialled this end

    @property
    def label(self) -> str:
        """As people write it."""
        name: str = self.value
        return name.upper() if self in {PeerSource.LAN, PeerSource.DHT} else name.replace("-", " ")


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection with a peer. Two are never equal, also between the same two machines.

    Args:
        peer_id: who is at the other end; proven.
        address: the other end as a multiaddr with `/p2p/<peer id>`. Where the peer dialled us, its port is not one
            that it listens on.
        number: unlike that of any other connection of the transport.
    """

    peer_id: str
    address: str
    number: int


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """A connection came up, or ended; one that ended never comes back."""

    connection: Connection
    connected: bool


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Where a peer says, signed, that it can be found.

    Args:
        peer_id: who signed it.
        addresses: dialable multiaddrs with `/p2p/<peer_id>`, bounded; may be empty.
    """

    peer_id: str
    addresses: tuple[str, ...]


class BareStream(Protocol):
    """One bidirectional byte stream to one peer, as a transport has it before `transport.metering` limits it.

    One task may read while another writes. After a cancelled `write` nobody knows how much of the data went
    out, and after a cancelled `read_into` how much came in: only `reset` makes sense then. The connection and its
    other streams are not affected.
    """

    @property
    def connection(self) -> Connection:
        """The connection that it is on."""

    @property
    def received(self) -> int:
        """Bytes that have come from the peer so far, read or not: tells a peer that stalls from one that is slow."""

    @property
    def sent(self) -> int:
        """Bytes that have left for the peer so far, likewise: those for which its window and the link had room."""

    async def read(self, max_bytes: int) -> bytes:
        """1 to `max_bytes` bytes as soon as there are any, b"" at the orderly end; StreamReset otherwise."""

    async def read_into(self, target: memoryview, at_least: int = 1) -> int:
        """Fill `target` from what arrives, and return how many bytes came.

        Args:
            target: where to. What is in it after a cancelled call is lost.
            at_least: how many bytes to wait for, 1 to `len(target)`; fewer come only at the orderly end. StreamReset
                where the stream ends otherwise.
        """

    async def write(self, data: bytes | memoryview) -> None:
        """Hand over all of `data`; waits while the peer's window is full. StreamReset when it is gone."""

    def keep_unsent(self, max_bytes: int) -> None:
        """Have at most so many written bytes wait to be sent: a `write` of more waits for them. Never waits.

        A transport may keep less. For who writes to many slow peers; the rest stays in the writer's hands.
        """

    async def close_write(self) -> None:
        """Half-close: nothing more will be written; reading goes on. StreamReset when the peer is gone."""

    async def close(self) -> None:
        """Close both directions in order. Bounded, idempotent, raises nothing; used in `finally`."""

    async def reset(self) -> None:
        """Abort both directions. Bounded, idempotent, raises nothing."""


class Stream(BareStream, Protocol):
    """One bidirectional byte stream to one peer, within the limits of bandwidth: reading and writing wait for them."""

    @property
    def held_back(self) -> bool:
        """Whether a read waits for a limit of ours: that nothing comes is then no fault of the peer's."""

    async def pay(self, max_bytes: int) -> int:
        """Wait until the limits let some bytes be written, and return how many: 1 to `max_bytes`.

        The next `write` of so many waits for the peer alone. For who times the peer; everybody else just writes.
        """


StreamHandler = Callable[[Stream], Awaitable[None]]
Validator = Callable[[str, bytes], Awaitable[Forwarding]]  # (peer the message came from, payload)


class Transport(Protocol):
    """A running end of the network: all that a client needs."""

    @property
    def peer_id(self) -> str:
        """This node's own id."""

    @property
    def traffic(self) -> Mapping[tuple[str, str], int]:
        """Bytes since the start by (protocol, "sent" or "received"), payloads of gossip under "gossip".

        Of all that shares its bandwidth: a gateway's are under "http".
        """

    @property
    def mesh(self) -> str | None:
        """The fingerprint of the swarm key of the private mesh that it is in; None in the network of all."""

    def addresses(self) -> tuple[str, ...]:
        """Own dialable multiaddrs with `/p2p/<peer id>`, real ports, no wildcard addresses; the best first."""

    def listens_on(self) -> tuple[str, ...]:
        """The multiaddrs that it listens on, with real ports and without a peer id; wildcards as such."""

    def leads_here(self, address: str) -> bool:
        """Whether a multiaddr, with or without a peer id, is one of those at which this end listens.

        Raises:
            UsageError: it is no multiaddr.
        """

    def connections(self) -> frozenset[Connection]:
        """Connections that are up now."""

    def was_dialled(self, connection: Connection) -> bool:
        """Whether this end has dialled it, and so its address is one at which the peer listens."""

    def sources(self, peer_id: str) -> tuple[PeerSource, ...]:
        """How a peer that is connected was found, what led to it first at the beginning; () when it is not connected.

        Also () where it was dialled and nobody said whence its address came.
        """

    def note_source(self, peer_id: str, source: PeerSource) -> None:
        """Note that a peer would have been found so as well; nothing happens when it is not connected."""

    def peers(self) -> frozenset[str]:
        """Peer ids that are connected now: those of `connections`."""

    def peer_addresses(self, peer_id: str) -> tuple[str, ...]:
        """Addresses at which a peer was dialled or says that it listens, also after it went. May be empty."""

    def peer_records(self) -> tuple[bytes, ...]:
        """Signed peer records (libp2p envelopes, at most 4 KiB) of connected nodes; may be empty.

        Nodes are peers that speak gossip. A client is not told of because it said who it is.
        """

    def read_peer_record(self, record: bytes) -> PeerRecord | None:
        """Read a signed peer record that came from anybody; None when it is none, or not signed by its peer.

        Quick: at most one signature check.
        """

    def own_record(self) -> bytes:
        """A signed peer record of where peers can dial this end now; empty where it listens nowhere.

        The same bytes as long as nothing changes.
        """

    async def dial(self, address: str, source: PeerSource | None = None) -> Connection:
        """Connect to a multiaddr; at once where a connection is up that was dialled to this very host and port.

        Otherwise it is a new connection, also to a peer that is connected elsewhere: two servers may have one key. Of
        dials between the same two processes that overlap one connection stays, and all of them come to that: of both
        directions the one that the lower peer id dialled, of one direction the first.
        With `/p2p/…` in it any other identity is refused. `source` is whence the caller has the address, as `sources`
        tells then. The caller sets the timeout. Raises DialError, and UsageError for what is not an address.
        """

    async def hang_up(self, connection: Connection) -> None:
        """End one connection; nothing happens when it has ended already. Bounded, raises nothing."""

    def prefer(self, peer_ids: Collection[str]) -> None:
        """Take these peers in, also when there is no room: others give way. Replaces those of the last call."""

    async def open_stream(self, connection: Connection, protocol: str) -> Stream:
        """Open a stream on a connection; StreamReset when it has ended or the peer does not speak `protocol`.

        A peer that has said that it speaks it may be taken at its word, which saves a round trip; then reading from the
        stream raises what this would have. Never dials. The caller sets the timeout.
        """

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Serve `protocol`: every inbound stream runs `handler`.

        When it returns the stream is closed; an exception out of it resets that stream and nothing else.
        """

    def connection_events(self) -> trio.MemoryReceiveChannel[ConnectionEvent]:
        """A channel of its own for the caller; starts with the connections that are up already."""

    async def wait_ended(self, connection: Connection) -> None:
        """Wait until a connection has ended; costs nothing while others come and go."""


def connection_with(transport: Transport, peer_id: str) -> Connection | None:
    """A connection with a peer, if there is one."""
    return next((each for each in transport.connections() if each.peer_id == peer_id), None)


class Gossip(Transport, Protocol):
    """A transport that also carries gossip: what a node needs."""

    def is_node(self, peer_id: str) -> bool:
        """Whether a peer that is connected is a node, by its own word: clients speak no gossip.

        False also while it has not said so.
        """

    async def subscribe(self, topic: str, validator: Validator) -> None:
        """Join a gossip topic; `validator` is called once for each new message and takes what it accepts."""

    async def unsubscribe(self, topic: str) -> None:
        """Leave a gossip topic; nothing happens when it was not joined."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send to the topic, also when this very payload is still marked seen. `validator` is not asked."""

    def forget_seen(self) -> None:
        """Let messages that were ignored be validated again (the trust policy changed)."""
