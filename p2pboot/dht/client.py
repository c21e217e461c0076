"""The client: asks peers over streams of any transport, and drives lookups.

All values and all providers that anybody tells of are looked at, and nothing is written back to whoever told otherwise.
Whoever is not connected is dialled for a lookup, and let go when it is over, unless he is of use otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

import trio
from cachetools import TTLCache

from p2pboot.core.origins import Party, party_of
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.hearsay import Hearsay, Word
from p2pboot.dht.keys import peer_id_bytes, position
from p2pboot.dht.lookup import Lookup
from p2pboot.dht.table import Contact, RoutingTable
from p2pboot.errors import P2PBootError, RemoteProtocolError
from p2pboot.transport.interface import (
    Connection,
    PeerSource,
    Stream,
    StreamReset,
    Transport,
    connection_with,
)
from p2pboot.transport.racing import NoneAnswers, race_of
from p2pboot.wire.kad import (
    KAD_PROTOCOL,
    MAX_VALUE,
    KadPeer,
    Message,
    MessageReader,
    MessageType,
    Record,
    encode_message,
)

log = logging.getLogger(__name__)

ANSWER_S: Final = 3.0
"""For one question, from the stream's opening to the answer's end."""

DIAL_S: Final = 2.0
"""For all addresses of one peer."""

LOOKUP_S: Final = 10.0

MUTE_S: Final = 600.0
"""For which whoever does not speak the protocol, or does not answer, is not asked first over one connection."""
_MUTE: Final = 1024

WORD_S: Final = 60.0
"""For which it is remembered whether those were there of whom a peer told."""
_TELLERS: Final = 4096

_READ_BYTES: Final = 16 * 1024


class DhtClient:
    """Asks for one end.

    Args:
        transport: its network.
        policy: which addresses are dialled.
        table: whom it knows; kept by this client, with those who answer.
        keeps: whether a connection that was made for a lookup is kept when that is over.
    """

    def __init__(
        self,
        transport: Transport,
        policy: AddressPolicy,
        table: RoutingTable | None = None,
        *,
        keeps: Callable[[], bool] = lambda: True,
    ) -> None:
        self._transport = transport
        self._policy = policy
        self.table = RoutingTable(transport.peer_id) if table is None else table
        self._keeps = keeps
        self._made: set[Connection] = set()  # for lookups
        self._mute: TTLCache[Connection, None] = TTLCache(
            _MUTE, MUTE_S, trio.current_time
        )  # most are clients

        self._words: TTLCache[Party, Word] = TTLCache(_TELLERS, WORD_S, trio.current_time)

    # One peer

    async def ask(self, connection: Connection, request: Message) -> Message:
        """Ask whoever is at the other end of a connection; he comes into the table.

        Args:
            connection: one that is up.
            request: with a reply.

        Raises:
            StreamReset: it ended, the peer does not speak the protocol, or does not want to answer.
            RemoteProtocolError: he answers something else.
            trio.TooSlowError: he does not answer in ANSWER_S.
        """
        if not self._policy.asks(connection):
            raise StreamReset(f"{connection.peer_id} is not at this site, or a guest")
        try:
            with trio.fail_after(ANSWER_S):
                stream = await self._open(connection)
                try:
                    await stream.write(encode_message(request))
                    reply = await _read(stream)
                finally:
                    await stream.close()
        except trio.TooSlowError:
            self._mute[connection] = None
            raise
        if reply.type is not request.type:
            raise RemoteProtocolError(f"{connection.peer_id} answers something else")
        self._note(connection)
        return reply

    async def _open(self, connection: Connection) -> Stream:
        try:
            return await self._transport.open_stream(connection, KAD_PROTOCOL)
        except StreamReset:
            self._mute[connection] = None
            raise

    def _note(self, connection: Connection) -> None:
        """Somebody has answered: he is a server. Where he dialled us, his address is what he says that it is."""
        peer_id = connection.peer_id
        addresses = self._policy.fit(peer_id, self._transport.peer_addresses(peer_id))
        if addresses:
            self.table.add(Contact(peer_id, addresses))

    async def greet(self, connection: Connection) -> bool:
        """Get to know a peer, and let him tell of others; returns whether he is a server."""
        own = peer_id_bytes(self._transport.peer_id)
        try:
            await self.ask(connection, Message(MessageType.FIND_NODE, own))
        except (P2PBootError, trio.TooSlowError) as error:
            log.debug("%s is no server of the DHT: %s", connection.peer_id, error)
            return False
        return True

    # Lookups

    async def look_up(
        self, request: Message, take: Callable[[Connection, Message], None] = lambda _from, _reply: None
    ) -> list[Contact]:
        """Ask those who are nearest to a key, from whoever is known already on.

        Args:
            request: what each of them is asked; names the key.
            take: is given every answer, at once.

        Returns:
            The nearest servers, in order; at most K.
        """
        where = position(request.key)
        lookup = Lookup(where, self._transport.peer_id, self._start(where))
        told_by: dict[str, Word] = {}  # who told of a peer first

        def listen(teller: Connection, reply: Message) -> Iterator[Contact]:
            word = self._words.setdefault(party_of(teller.address, teller.peer_id), Word())
            for peer in reply.closer if word.counts else ():
                contact = self._policy.heard(peer, teller.address)
                if contact is not None:
                    told_by.setdefault(contact.peer_id, word)
                    yield contact

        with trio.move_on_after(LOOKUP_S):
            async with trio.open_nursery() as nursery:
                changed = trio.Event()

                async def visit(contact: Contact) -> None:
                    nonlocal changed
                    word, connection = told_by.get(contact.peer_id, Word()), None
                    try:
                        connection = await self.reach(contact)
                        lookup.reached(contact.peer_id, connection.address, trio.current_time())
                        reply = await self.ask(connection, request)
                    except (P2PBootError, trio.TooSlowError) as error:
                        word.away += connection is None
                        log.debug("the DHT's %s: %s", contact.peer_id, error)
                        self.table.remove(contact.peer_id)
                        lookup.failed(contact.peer_id)
                    else:
                        word.there += 1
                        lookup.answered(contact.peer_id, trio.current_time(), listen(connection, reply))
                        take(connection, reply)
                    changed.set()

                while not lookup.is_done(now := trio.current_time()):
                    while (contact := lookup.next(now)) is not None:
                        nursery.start_soon(visit, contact)
                    with trio.move_on_at(lookup.wake_at(now)):
                        await changed.wait()
                    changed = trio.Event()
                self._give_up(lookup.unanswered(), told_by)
                nursery.cancel_scope.cancel()
        return lookup.closest()

    def _give_up(self, peer_ids: Collection[str], told_by: Mapping[str, Word]) -> None:
        """Nobody waits for these any longer, and the next lookup does not begin with them."""
        for peer_id in peer_ids:
            self.table.remove(peer_id)
            if peer_id in told_by and connection_with(self._transport, peer_id) is None:
                told_by[peer_id].away += 1
        for connection in self._transport.connections():
            if connection.peer_id in peer_ids:
                self._mute[connection] = None

    def _start(self, where: int) -> list[Contact]:
        """Those in the table, and whoever is connected: somebody may have become a server."""
        known = {contact.peer_id: contact for contact in self.table.nearest(where)}
        for connection in self._transport.connections():
            is_server = connection not in self._mute and self._policy.asks(connection)
            if is_server and connection.peer_id not in known:
                addresses = self._transport.peer_addresses(connection.peer_id)
                known[connection.peer_id] = Contact(connection.peer_id, addresses)
        return list(known.values())

    async def reach(self, contact: Contact) -> Connection:
        """A connection with a peer, a new one if need be.

        Raises:
            StreamReset: nobody answers at any of its addresses.
        """
        known = connection_with(self._transport, contact.peer_id)
        if known is not None:
            return known
        with trio.move_on_after(DIAL_S):
            try:
                connection = await race_of(contact.addresses, self._dial, lambda _other: None)
            except NoneAnswers as error:
                log.debug("the DHT tells of %s: %s", contact.peer_id, error.message)
            else:
                self._made.add(connection)
                return connection
        raise StreamReset(f"nobody answers at {', '.join(contact.addresses)}")

    async def _dial(self, address: str) -> Connection:
        return await self._transport.dial(address, PeerSource.DHT)

    async def let_go(self) -> None:
        """End the connections that were made for lookups and are not to be kept."""
        made, self._made = self._made, set()
        for connection in made:
            if not self._keeps():
                await self._transport.hang_up(connection)

    # What is looked up, and what is put

    async def find_providers(self, key: bytes, found: Callable[[Contact], None]) -> list[Contact]:
        """Look for who provides something; `found` is given each of them once for each place where he is said to be.

        Some of each teller at once, the others when all were asked: those first of whom most tell (see `Hearsay`).

        Returns:
            The nearest servers.
        """
        hearsay = Hearsay()

        def take(teller: Connection, reply: Message) -> None:
            party = party_of(teller.address, teller.peer_id)
            for peer in reply.providers:
                contact = self._policy.heard(peer, teller.address)
                if contact is None or contact.peer_id == self._transport.peer_id:
                    continue
                if hearsay.hear(contact, party):
                    found(contact)

        try:
            return await self.look_up(Message(MessageType.GET_PROVIDERS, key), take)
        finally:
            for contact in hearsay.rest():
                found(contact)

    async def find_values(self, key: bytes, found: Callable[[bytes], None]) -> list[Contact]:
        """Look for all values under a key; `found` is given each distinct one once, as soon as it is told.

        Returns:
            The nearest servers.
        """
        told: set[bytes] = set()

        def take(_teller: Connection, reply: Message) -> None:
            for record in reply.records:
                fits = record.key == key and 1 <= len(record.value) <= MAX_VALUE
                if fits and record.value not in told:
                    told.add(record.value)
                    found(record.value)

        return await self.look_up(Message(MessageType.GET_VALUE, key), take)

    async def put(self, connection: Connection, records: Iterable[Record]) -> int:
        """Put values on one peer; returns how many he has taken. Raises nothing that is his fault."""
        taken = 0
        for record in records:
            with suppress(P2PBootError, trio.TooSlowError):  # he has other values, or other rules
                await self.ask(connection, Message(MessageType.PUT_VALUE, record.key, record))
                taken += 1
        return taken

    async def provide(self, connection: Connection, keys: Iterable[bytes]) -> bool:
        """Tell one peer that this end is a provider under some keys; returns whether he has read it.

        There is no reply: he has read it when he ends the stream after us. What he says meanwhile, as py-libp2p does,
        is passed over.
        """
        own = self._own(connection)
        messages = [encode_message(Message(MessageType.ADD_PROVIDER, key, providers=(own,))) for key in keys]
        if not (own.addresses and messages and self._policy.asks(connection)):
            return False
        try:
            with trio.fail_after(ANSWER_S):
                stream = await self._transport.open_stream(connection, KAD_PROTOCOL)
                try:
                    await stream.write(b"".join(messages))
                    await stream.close_write()
                    while await stream.read(_READ_BYTES):
                        pass
                finally:
                    await stream.close()
        except (P2PBootError, trio.TooSlowError) as error:
            log.debug("%s keeps no providers: %s", connection.peer_id, error)
            return False
        return True

    def _own(self, connection: Connection) -> KadPeer:
        own_id = self._transport.peer_id
        told = self._policy.told(Contact(own_id, tuple(self._transport.addresses())), connection.address)
        return KadPeer(peer_id_bytes(own_id)) if told is None else told

    async def spread(self, key: bytes, record: Record | None) -> int:
        """Put a value on the nearest peers, or, without one, tell them that this end is a provider.

        Returns:
            How many have taken it.
        """
        kind = MessageType.GET_PROVIDERS if record is None else MessageType.GET_VALUE
        taken = 0

        async def put(contact: Contact) -> None:
            nonlocal taken
            with suppress(P2PBootError, trio.TooSlowError):
                connection = await self.reach(contact)
                if record is None:
                    taken += await self.provide(connection, [key])
                else:
                    taken += await self.put(connection, [record])

        closest = await self.look_up(Message(kind, key))
        async with trio.open_nursery() as nursery:
            for contact in closest:
                nursery.start_soon(put, contact)
        return taken


async def _read(stream: Stream) -> Message:
    reader = MessageReader()
    while (reply := reader.next()) is None:
        data = await stream.read(_READ_BYTES)
        if not data:
            raise StreamReset("the stream ended without an answer")
        reader.receive(data)
    return reply
