"""A network in memory with the interface of the real one, for tests: fast, deterministic, and easy to break.

Nodes share one event loop. Streams have windows, half-close and reset; gossip is validated; links can be cut,
peers frozen (alive, but nothing moves) and their upload slowed, which takes no time on trio's autojump clock.
What a test does to a node, it does by its peer id, or by its address where several nodes have one key.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import field, replace
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.testing.memorystreams import MemoryStream, Pipe
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.cleanup import run_handler
from p2pboot.transport.events import ConnectionRegister
from p2pboot.transport.interface import (
    Connection,
    ConnectionEvent,
    DialError,
    DialFailure,
    Forwarding,
    Gossip,
    PeerRecord,
    PeerSource,
    Stream,
    StreamHandler,
    StreamReset,
    Validator,
)
from p2pboot.transport.metering import MeteredStream
from p2pboot.transport.seen import SeenMessages
from p2pboot.transport.traffic import Traffic

log = logging.getLogger("p2pboot.testing.network")

SEEN_S: Final = 120.0
_NUMBERS: Final = itertools.count()
_EPHEMERAL: Final = 50_000  # the first port from which nodes dial
_INBOX: Final = 256  # gossip messages waiting for one node's validators; what does not fit is dropped
_REJECTS: Final = 2  # as many bad messages as GossipSub's scores here allow


@dataclass(eq=False)
class _Link:
    """A connection between two nodes as each of them knows it, and the streams on it."""

    connections: dict[_Node, Connection]  # the dialler's first
    crosses: bool = False  # the listener was dialling the dialler, too
    pipes: list[Pipe] = field(default_factory=list)

    @property
    def ends(self) -> tuple[_Node, _Node]:
        one, other = self.connections
        return one, other

    def other(self, node: _Node) -> _Node:
        one, other = self.ends
        return other if node is one else one

    def new_pipe(self, stopped: Callable[[], bool]) -> Pipe:
        self.pipes = [pipe for pipe in self.pipes if pipe.is_open]
        self.pipes.append(Pipe(stopped))
        return self.pipes[-1]


class MemoryNetwork:
    """The medium: which nodes exist, who is connected with whom, and what is broken."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}  # by host
        self._dials: list[tuple[_Node, _Node]] = []  # that are under way
        self._cut: set[frozenset[str]] = set()
        self._frozen: set[str] = set()
        self._clients: set[str] = set()
        self._hosts = 0

    @asynccontextmanager
    async def open(
        self, peer_id: str, bandwidth: Bandwidth | None = None, *, is_client: bool = False
    ) -> AsyncIterator[Gossip]:
        """Run a node with an address of its own; another one may have the same peer id.

        Args:
            peer_id: its own.
            bandwidth: that it may use; unlimited if none is given.
            is_client: whether its peers take it for one, which speaks no gossip.
        """
        self._hosts += 1
        address = f"/ip4/10.0.{self._hosts // 250}.{self._hosts % 250 + 1}/tcp/4001"
        async with trio.open_nursery() as nursery:
            node = _Node(self, peer_id, address, nursery, bandwidth or Bandwidth())
            if is_client:
                self._clients.add(peer_id)
            self._nodes[node.host] = node
            nursery.start_soon(node.validate_messages)
            try:
                yield node
            finally:
                for link in tuple(node.links.values()):
                    self.end(link)
                del self._nodes[node.host]
                nursery.cancel_scope.cancel()

    # What tests do to it.

    def cut(self, a: str, b: str) -> None:
        """Break the connections of two nodes; they can not dial each other until `heal`."""
        self._cut.add(frozenset((a, b)))
        self.disconnect(a, b)

    def heal(self, a: str, b: str) -> None:
        """Undo `cut`; nobody is connected by it."""
        self._cut.discard(frozenset((a, b)))

    def disconnect(self, a: str, b: str) -> None:
        """End the connections of two nodes, if there are any, with all their streams."""
        for node in self._called(a):
            for link in tuple(node.links.values()):
                if _are(link.ends, a, b):
                    self.end(link)

    def freeze(self, name: str) -> None:
        """Stop a node as SIGSTOP does: connections stay, nothing moves on its streams, dials to it hang."""
        self._frozen.add(name)

    def thaw(self, name: str) -> None:
        """Undo `freeze`."""
        self._frozen.discard(name)
        for node in self._called(name):
            for link in node.links.values():
                for pipe in link.pipes:
                    pipe.poke()
            node.wake()

    def limit_upload(self, name: str, bytes_per_s: float) -> None:
        """Let a node write no faster than this, all its streams together."""
        for node in self._called(name):
            node.upload_bytes_per_s = bytes_per_s

    def _called(self, name: str) -> list[_Node]:
        return [node for node in self._nodes.values() if name in node.names]

    # What nodes do with it.

    def is_frozen(self, node: _Node) -> bool:
        """Whether nothing moves on this node's streams."""
        return not self._frozen.isdisjoint(node.names)

    def find(self, host: str) -> _Node | None:
        """Return the node at an address."""
        return self._nodes.get(host)

    def nodes_among(self, peer_ids: Collection[str]) -> list[str]:
        """Those of some peers that are no clients, in order."""
        return sorted(set(peer_ids) - self._clients)

    @contextmanager
    def dialling(self, dialler: _Node, listener: _Node) -> Iterator[None]:
        """Note that a dial is under way."""
        self._dials.append((dialler, listener))
        try:
            yield
        finally:
            self._dials.remove((dialler, listener))
            for link in _made(listener, dialler):
                link.crosses = False

    def connect(self, dialler: _Node, listener: _Node) -> Connection:
        """Connect two nodes, once more if they are connected; DialError when the link is cut.

        Of two dials at the same time that of the lower peer id stays.
        """
        if any(_are((dialler, listener), *sorted(names)) for names in self._cut):
            raise DialError(
                f"cannot reach {listener.peer_id}: no route to host", failure=DialFailure.UNREACHABLE
            )
        crossed = next((one for one in _made(listener, dialler) if one.crosses), None)
        if crossed is not None and listener.peer_id < dialler.peer_id:
            return crossed.connections[dialler]
        link = _Link({dialler: listener.name(dialled=True), listener: dialler.name(dialled=False)})
        link.crosses = crossed is None and (listener, dialler) in self._dials
        for node, connection in link.connections.items():
            node.links[connection] = link
        for node, connection in link.connections.items():
            node.register.came(connection)
        if crossed is not None:
            self.end(crossed, heir=link)
        return link.connections[dialler]

    def end(self, link: _Link, heir: _Link | None = None) -> None:
        """End a connection with all its streams; another one of the two nodes takes its place, if there is one."""
        if all(node.links.pop(connection, None) for node, connection in link.connections.items()):
            for pipe in link.pipes:
                pipe.break_off()
            for node, connection in link.connections.items():
                node.register.went(connection, None if heir is None else heir.connections[node])

    def open_stream(self, opener: _Node, connection: Connection, protocol: str) -> Stream:
        """Open a stream on a connection; StreamReset when it has ended."""
        link = opener.links.get(connection)
        if link is None:
            raise StreamReset(f"not connected with {connection.peer_id} any more")
        accepter = link.other(opener)

        def stopped() -> bool:
            return any(self.is_frozen(node) for node in link.ends)

        there, back = link.new_pipe(stopped), link.new_pipe(stopped)
        accepted = MemoryStream(accepter, link.connections[accepter], back, there)
        if not accepter.accept(protocol, accepter.metered(accepted, protocol)):
            raise StreamReset(f"{connection.peer_id} opens no stream for {protocol}")
        return opener.metered(MemoryStream(opener, connection, there, back), protocol)

    def send_gossip(self, sender: _Node, topic: str, payload: bytes, *, but: str | None = None) -> None:
        """Hand a message to the sender's neighbours in the topic."""
        neighbours = {link.other(sender) for link in sender.links.values()}
        for other in sorted(neighbours, key=lambda node: (node.peer_id, node.address)):
            if other.peer_id != but and topic in other.validators:
                other.take_message(sender.peer_id, topic, payload)


def _made(dialler: _Node, listener: _Node) -> list[_Link]:
    """The connections with one node that another one dialled."""
    return [link for link in dialler.links.values() if link.ends == (dialler, listener)]


def _are(ends: tuple[_Node, _Node], a: str, b: str) -> bool:
    """Whether two nodes are those that are called so."""
    return any(a in one.names and b in other.names for one, other in (ends, ends[::-1]))


class _Node:
    """`transport.interface.Gossip` in memory. Made by `MemoryNetwork.open`."""

    def __init__(
        self,
        network: MemoryNetwork,
        peer_id: str,
        address: str,
        nursery: trio.Nursery,
        bandwidth: Bandwidth,
    ) -> None:
        self.address = address
        self.host = parse_address(address).host
        self.links: dict[Connection, _Link] = {}
        self.register = ConnectionRegister(nursery)
        self._bandwidth = bandwidth
        self.validators: dict[str, Validator] = {}
        self.upload_bytes_per_s: float | None = None
        self.dropped = 0
        self._network, self._peer_id, self._nursery = network, peer_id, nursery
        self._handlers: dict[str, StreamHandler] = {}
        self._known: dict[str, str] = {}
        self._seen = SeenMessages(SEEN_S)
        self._rejects: Counter[str] = Counter()
        self._inbox_in, self._inbox = trio.open_memory_channel[tuple[str, str, bytes]](_INBOX)
        self._awake = trio.Event()
        self._upload_free_at = 0.0

    @property
    def peer_id(self) -> str:
        return self._peer_id

    @property
    def traffic(self) -> Traffic:
        return self._bandwidth.traffic

    @property
    def names(self) -> frozenset[str]:
        """What tests call it."""
        return frozenset((self._peer_id, self.addresses()[0]))

    @property
    def mesh(self) -> str | None:
        """None: there are no private meshes in memory."""
        return None

    def addresses(self) -> tuple[str, ...]:
        return (f"{self.address}/p2p/{self._peer_id}",)

    def listens_on(self) -> tuple[str, ...]:
        return (self.address,)

    def leads_here(self, address: str) -> bool:
        return parse_address(address).with_peer(None) == parse_address(self.address)

    def connections(self) -> frozenset[Connection]:
        return self.register.present

    def was_dialled(self, connection: Connection) -> bool:
        return self.register.was_dialled(connection)

    def sources(self, peer_id: str) -> tuple[PeerSource, ...]:
        return self.register.sources(peer_id)

    def note_source(self, peer_id: str, source: PeerSource) -> None:
        self.register.note_source(peer_id, source)

    def peers(self) -> frozenset[str]:
        return self.register.peers

    def peer_addresses(self, peer_id: str) -> tuple[str, ...]:
        return (self._known[peer_id],) if peer_id in self._known else ()

    def peer_records(self) -> tuple[bytes, ...]:
        nodes = self._network.nodes_among(self.peers())
        found = ((peer_id, self.peer_addresses(peer_id)) for peer_id in nodes)
        return tuple(" ".join((peer_id, *addresses)).encode() for peer_id, addresses in found)

    def is_node(self, peer_id: str) -> bool:
        return bool(self._network.nodes_among([peer_id]))

    def read_peer_record(self, record: bytes) -> PeerRecord | None:
        peer_id, *addresses = record.decode("ascii", "replace").split(" ")
        if not peer_id or not all(address.endswith(f"/p2p/{peer_id}") for address in addresses):
            return None
        return PeerRecord(peer_id, tuple(addresses))

    def own_record(self) -> bytes:
        return " ".join((self._peer_id, *self.addresses())).encode()

    async def dial(self, address: str, source: PeerSource | None = None) -> Connection:
        parsed = parse_address(address)
        known = self.register.dialled_at(parsed)
        if known is not None:
            self.register.note_dialled(parsed, known, source)
            await trio.lowlevel.checkpoint()
            return known
        node = self._network.find(parsed.host)
        if node is None:
            await trio.lowlevel.checkpoint()
            raise DialError(f"cannot reach {address}: connection refused", failure=DialFailure.REFUSED)
        with self._network.dialling(self, node):
            await trio.lowlevel.checkpoint()
            while self._network.is_frozen(node):
                await node.wait_awake()
            if node is self:
                raise DialError(f"{address} is this node itself", failure=DialFailure.ITSELF)
            if parsed.peer_id not in {None, node.peer_id}:
                raise DialError(f"{address} answers as {node.peer_id}", failure=DialFailure.OTHER_PEER)
            connection = self._network.connect(self, node)
        self.register.note_dialled(parsed, connection, source)
        self._known[node.peer_id] = node.addresses()[0]
        node.learn(self._peer_id, self.addresses()[0])
        return connection

    async def hang_up(self, connection: Connection) -> None:
        await trio.lowlevel.checkpoint()
        link = self.links.get(connection)
        if link is not None:
            self._network.end(link)

    def prefer(self, peer_ids: Collection[str]) -> None:
        """There is room for everybody here."""

    async def open_stream(self, connection: Connection, protocol: str) -> Stream:
        await trio.lowlevel.checkpoint()
        while (link := self.links.get(connection)) is not None:
            other = link.other(self)
            if not self._network.is_frozen(other):
                break
            await other.wait_awake()
        return self._network.open_stream(self, connection, protocol)

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        self._handlers[protocol] = handler

    def connection_events(self) -> trio.MemoryReceiveChannel[ConnectionEvent]:
        return self.register.follow()

    async def wait_ended(self, connection: Connection) -> None:
        await self.register.wait_ended(connection)

    async def subscribe(self, topic: str, validator: Validator) -> None:
        await trio.lowlevel.checkpoint()
        self.validators[topic] = self._bandwidth.of_messages(validator)

    async def unsubscribe(self, topic: str) -> None:
        await trio.lowlevel.checkpoint()
        self.validators.pop(topic, None)

    async def publish(self, topic: str, payload: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._seen.add(topic, _message_id(payload))
        self._bandwidth.published(len(payload))
        self._network.send_gossip(self, topic, payload)

    def forget_seen(self) -> None:
        self._seen.forget_ignored()

    # What the network does with a node.

    def name(self, *, dialled: bool) -> Connection:
        """Make the name of a new connection with this node, for the node at the other end."""
        number = next(_NUMBERS)
        listening = parse_address(self.addresses()[0])
        address = listening if dialled else replace(listening, port=_EPHEMERAL + number % 10_000)
        return Connection(self._peer_id, str(address), number)

    def learn(self, peer_id: str, address: str) -> None:
        """Note where a peer that dialled us listens."""
        self._known[peer_id] = address

    def wake(self) -> None:
        """Let go on what waited for this node."""
        self._awake.set()
        self._awake = trio.Event()

    async def wait_awake(self) -> None:
        """Wait until the node is thawed."""
        await self._awake.wait()

    async def spend(self, size: int) -> None:
        """Wait for the upload limit, if there is one."""
        if self.upload_bytes_per_s is not None:
            start = max(self._upload_free_at, trio.current_time())
            self._upload_free_at = start + size / self.upload_bytes_per_s
            await trio.sleep_until(self._upload_free_at)

    def metered(self, stream: MemoryStream, protocol: str) -> Stream:
        """A stream of this node within its limits."""
        return MeteredStream(stream, protocol, self._bandwidth)

    def accept(self, protocol: str, stream: Stream) -> bool:
        """Serve an inbound stream; False when nobody handles the protocol."""
        handler = self._handlers.get(protocol)
        if handler is not None:
            self._nursery.start_soon(run_handler, protocol, handler, stream, log)
        return handler is not None

    def take_message(self, sender: str, topic: str, payload: bytes) -> None:
        """Queue a gossip message for validating, or drop it."""
        try:
            self._inbox_in.send_nowait((sender, topic, payload))
        except trio.WouldBlock:
            self.dropped += 1

    async def validate_messages(self) -> None:
        """Validate and forward messages, one after the other, as long as the node runs."""
        async for sender, topic, payload in self._inbox:
            while self._network.is_frozen(self):
                await self.wait_awake()
            await self._validate(sender, topic, payload)

    async def _validate(self, sender: str, topic: str, payload: bytes) -> None:
        validator, key = self.validators.get(topic), _message_id(payload)
        if validator is None or self._seen.has(topic, key) or self._rejects[sender] >= _REJECTS:
            return
        try:
            forwarding = await validator(sender, payload)
        except Exception as error:
            log.warning(
                "validating a gossip message from %s failed: %r",
                sender,
                error,
                extra=Event.GOSSIP_FAILED(peer=sender),
            )
            forwarding = Forwarding.IGNORE
        if forwarding is Forwarding.REJECT:
            self._rejects[sender] += 1
            return
        self._seen.add(topic, key, ignored=forwarding is Forwarding.IGNORE)
        if forwarding is Forwarding.ACCEPT:
            self._network.send_gossip(self, topic, payload, but=sender)


def _message_id(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()
