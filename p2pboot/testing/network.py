"""A network in memory with the interface of the real one, for tests: fast, deterministic, and easy to break.

Nodes share one event loop. Streams have windows, half-close and reset; gossip is validated; links can be cut,
peers frozen (alive, but nothing moves) and their upload slowed, which takes no time on trio's autojump clock.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from p2pboot.transport.addresses import parse_address
from p2pboot.transport.cleanup import run_handler
from p2pboot.transport.events import PeerRegister
from p2pboot.transport.interface import (
    DialError,
    Forwarding,
    PeerEvent,
    PeerRecord,
    Stream,
    StreamHandler,
    StreamReset,
    Transport,
    Validator,
)
from p2pboot.transport.seen import SeenMessages
from p2pboot.transport.traffic import GOSSIP, RECEIVED, SENT, Traffic

log = logging.getLogger("p2pboot.testing.network")

WINDOW: Final = 256 * 1024  # what one direction of a stream holds unread, as Yamux
SEEN_S: Final = 120.0
_INBOX: Final = 256  # gossip messages waiting for one node's validators; what does not fit is dropped
_REJECTS: Final = 2  # as many bad messages as GossipSub's scores here allow


class _Pipe:
    """One direction of a stream."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._buffer = bytearray()
        self._ended = self._broken = False
        self._stopped = stopped  # an end of it is frozen
        self._change = trio.Event()

    @property
    def is_open(self) -> bool:
        return not (self._ended or self._broken)

    def poke(self) -> None:
        """Wake whoever waits, to look again."""
        self._change.set()
        self._change = trio.Event()

    def end(self) -> None:
        self._ended = True
        self.poke()

    def break_off(self) -> None:
        self._broken = True
        self._buffer.clear()
        self.poke()

    async def send(self, data: memoryview) -> None:
        await trio.lowlevel.checkpoint()
        while data:
            if not self.is_open:
                raise StreamReset("the stream is closed for writing")
            room = 0 if self._stopped() else WINDOW - len(self._buffer)
            if room <= 0:
                await self._change.wait()
                continue
            self._buffer += data[:room]
            data = data[room:]
            self.poke()

    async def receive(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._broken and (self._stopped() or not (self._buffer or self._ended)):
            await self._change.wait()
        if self._broken:
            raise StreamReset("the stream was reset")
        taken = bytes(self._buffer[:max_bytes])
        del self._buffer[:max_bytes]
        self.poke()
        return taken


class _MemoryStream:
    """One node's end of a stream."""

    def __init__(self, owner: _Node, peer_id: str, protocol: str, outgoing: _Pipe, incoming: _Pipe) -> None:
        self._owner, self._peer_id, self._protocol = owner, peer_id, protocol
        self._outgoing, self._incoming = outgoing, incoming
        self._done = False

    @property
    def peer_id(self) -> str:
        return self._peer_id

    async def read(self, max_bytes: int) -> bytes:
        if self._done:
            raise StreamReset("the stream is closed")
        data = await self._incoming.receive(max_bytes)
        self._owner.traffic[self._protocol, RECEIVED] += len(data)
        return data

    async def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            part = rest[:WINDOW]
            await self._owner.spend(len(part))
            await self._outgoing.send(part)
            self._owner.traffic[self._protocol, SENT] += len(part)
            rest = rest[len(part) :]

    async def close_write(self) -> None:
        await trio.lowlevel.checkpoint()
        self._outgoing.end()

    async def close(self) -> None:
        if not self._done:
            self._done = True
            self._outgoing.end()

    async def reset(self) -> None:
        if not self._done:
            self._done = True
            self._outgoing.break_off()
            self._incoming.break_off()


@dataclass(eq=False)
class _Link:
    """A connection between two nodes and the streams on it."""

    ends: frozenset[str]
    pipes: list[_Pipe] = field(default_factory=list)

    def new_pipe(self, stopped: Callable[[], bool]) -> _Pipe:
        self.pipes = [pipe for pipe in self.pipes if pipe.is_open]
        self.pipes.append(_Pipe(stopped))
        return self.pipes[-1]


class MemoryNetwork:
    """The medium: which nodes exist, who is connected with whom, and what is broken."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._links: dict[frozenset[str], _Link] = {}
        self._cut: set[frozenset[str]] = set()
        self._frozen: set[str] = set()
        self._hosts = 0

    @asynccontextmanager
    async def open(self, peer_id: str) -> AsyncIterator[Transport]:
        """Run a node with an address of its own."""
        self._hosts += 1
        address = f"/ip4/10.0.{self._hosts // 250}.{self._hosts % 250 + 1}/tcp/4001"
        async with trio.open_nursery() as nursery:
            node = _Node(self, peer_id, address, nursery)
            self._nodes[peer_id] = node
            nursery.start_soon(node.validate_messages)
            try:
                yield node
            finally:
                for other in node.peers():
                    self.disconnect(peer_id, other)
                del self._nodes[peer_id]
                nursery.cancel_scope.cancel()

    # What tests do to it.

    def cut(self, a: str, b: str) -> None:
        """Break the connection of two nodes; they can not dial each other until `heal`."""
        self._cut.add(frozenset((a, b)))
        self.disconnect(a, b)

    def heal(self, a: str, b: str) -> None:
        """Undo `cut`; nobody is connected by it."""
        self._cut.discard(frozenset((a, b)))

    def freeze(self, peer_id: str) -> None:
        """Stop a node as SIGSTOP does: connections stay, nothing moves on its streams, dials to it hang."""
        self._frozen.add(peer_id)

    def thaw(self, peer_id: str) -> None:
        """Undo `freeze`."""
        self._frozen.discard(peer_id)
        for link in self._links.values():
            for pipe in link.pipes:
                pipe.poke()
        self._nodes[peer_id].wake()

    def limit_upload(self, peer_id: str, bytes_per_s: float) -> None:
        """Let a node write no faster than this, all its streams together."""
        self._nodes[peer_id].upload_bytes_per_s = bytes_per_s

    # What nodes do with it.

    def is_frozen(self, peer_id: str) -> bool:
        """Whether nothing moves on this node's streams."""
        return peer_id in self._frozen

    def find(self, host: str) -> _Node | None:
        """Return the node at an address."""
        return next((node for node in self._nodes.values() if parse_address(node.address).host == host), None)

    def connect(self, a: str, b: str) -> None:
        """Connect two nodes; DialError when the link is cut."""
        ends = frozenset((a, b))
        if ends in self._cut:
            raise DialError(f"cannot reach {b}: no route to host")
        if ends not in self._links:
            self._links[ends] = _Link(ends)
            for one, other in ((a, b), (b, a)):
                self._nodes[one].register.came(other)

    def disconnect(self, a: str, b: str) -> None:
        """End the connection of two nodes, if there is one, with all its streams."""
        link = self._links.pop(frozenset((a, b)), None)
        if link is not None:
            for pipe in link.pipes:
                pipe.break_off()
            for one, other in ((a, b), (b, a)):
                self._nodes[one].register.went(other)

    def open_stream(self, opener: str, accepter: str, protocol: str) -> Stream:
        """Open a stream between connected nodes; StreamReset when they are not."""
        link = self._links.get(frozenset((opener, accepter)))
        if link is None:
            raise StreamReset(f"not connected with {accepter}")

        def stopped() -> bool:
            return not self._frozen.isdisjoint(link.ends)

        there, back = link.new_pipe(stopped), link.new_pipe(stopped)
        node = self._nodes[accepter]
        if not node.accept(protocol, _MemoryStream(node, opener, protocol, back, there)):
            raise StreamReset(f"{accepter} opens no stream for {protocol}")
        return _MemoryStream(self._nodes[opener], accepter, protocol, there, back)

    def send_gossip(self, sender: str, topic: str, payload: bytes, *, but: str | None = None) -> None:
        """Hand a message to the sender's neighbours in the topic."""
        for other in sorted(self._nodes[sender].peers()):
            if other != but and topic in self._nodes[other].validators:
                self._nodes[other].take_message(sender, topic, payload)


class _Node:
    """`transport.interface.Transport` in memory. Made by `MemoryNetwork.open`."""

    def __init__(self, network: MemoryNetwork, peer_id: str, address: str, nursery: trio.Nursery) -> None:
        self.address = address
        self.register = PeerRegister(nursery)
        self.traffic = Traffic()
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

    def addresses(self) -> tuple[str, ...]:
        return (f"{self.address}/p2p/{self._peer_id}",)

    def peers(self) -> frozenset[str]:
        return self.register.present

    def peer_addresses(self, peer_id: str) -> tuple[str, ...]:
        return (self._known[peer_id],) if peer_id in self._known else ()

    def peer_records(self) -> tuple[bytes, ...]:
        found = ((peer_id, self.peer_addresses(peer_id)) for peer_id in sorted(self.peers()))
        return tuple(" ".join((peer_id, *addresses)).encode() for peer_id, addresses in found)

    def read_peer_record(self, record: bytes) -> PeerRecord | None:
        peer_id, *addresses = record.decode("ascii", "replace").split(" ")
        if not peer_id or not all(address.endswith(f"/p2p/{peer_id}") for address in addresses):
            return None
        return PeerRecord(peer_id, tuple(addresses))

    async def dial(self, address: str) -> str:
        await trio.lowlevel.checkpoint()
        parsed = parse_address(address)
        if parsed.peer_id in self.peers():
            return str(parsed.peer_id)
        node = self._network.find(parsed.host)
        if node is None:
            raise DialError(f"cannot reach {address}: connection refused")
        while self._network.is_frozen(node.peer_id):
            await node.wait_awake()
        if node is self:
            raise DialError(f"{address} is this node itself")
        if parsed.peer_id not in {None, node.peer_id}:
            raise DialError(f"{address} answers as {node.peer_id}")
        self._network.connect(self._peer_id, node.peer_id)
        self._known[node.peer_id] = node.addresses()[0]
        node.learn(self._peer_id, self.addresses()[0])
        return node.peer_id

    async def hang_up(self, peer_id: str) -> None:
        await trio.lowlevel.checkpoint()
        self._network.disconnect(self._peer_id, peer_id)

    async def open_stream(self, peer_id: str, protocol: str) -> Stream:
        await trio.lowlevel.checkpoint()
        while self._network.is_frozen(peer_id) and peer_id in self.peers():
            await self._network._nodes[peer_id].wait_awake()
        return self._network.open_stream(self._peer_id, peer_id, protocol)

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        self._handlers[protocol] = handler

    def peer_events(self) -> trio.MemoryReceiveChannel[PeerEvent]:
        return self.register.follow()

    async def subscribe(self, topic: str, validator: Validator) -> None:
        await trio.lowlevel.checkpoint()
        self.validators[topic] = self.traffic.of_messages(validator)

    async def unsubscribe(self, topic: str) -> None:
        await trio.lowlevel.checkpoint()
        self.validators.pop(topic, None)

    async def publish(self, topic: str, payload: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._seen.add(_message_id(payload))
        self.traffic[GOSSIP, SENT] += len(payload)
        self._network.send_gossip(self._peer_id, topic, payload)

    def forget_seen(self) -> None:
        self._seen.forget_ignored()

    # What the network does with a node.

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
            while self._network.is_frozen(self._peer_id):
                await self.wait_awake()
            await self._validate(sender, topic, payload)

    async def _validate(self, sender: str, topic: str, payload: bytes) -> None:
        validator, key = self.validators.get(topic), _message_id(payload)
        if validator is None or self._seen.has(key) or self._rejects[sender] >= _REJECTS:
            return
        try:
            forwarding = await validator(sender, payload)
        except Exception as error:
            log.warning("validating a gossip message from %s failed: %r", sender, error)
            forwarding = Forwarding.IGNORE
        if forwarding is Forwarding.REJECT:
            self._rejects[sender] += 1
            return
        self._seen.add(key, ignored=forwarding is Forwarding.IGNORE)
        if forwarding is Forwarding.ACCEPT:
            self._network.send_gossip(self._peer_id, topic, payload, but=sender)


def _message_id(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()
