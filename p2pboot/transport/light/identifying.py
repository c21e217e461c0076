"""What this node says of itself, and what its peers say of themselves: identify, asked once for each connection."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from p2pboot.core.addressbook import OF_A_PROCESS, AddressBook
from p2pboot.core.identity import SecretKey
from p2pboot.core.origins import origin_of
from p2pboot.errors import RemoteProtocolError
from p2pboot.transport.addresses import Address, known_dialable, of_peer, parse_address
from p2pboot.transport.interface import BareStream, Connection, Stream
from p2pboot.transport.multiaddrs import decode_multiaddr, encode_multiaddr
from p2pboot.transport.records import MAX_ADDRESSES, OwnRecord, is_node, read_record
from p2pboot.wire.identify import MAX_IDENTIFY, IdentifyReader, Identity, encode_identify

_PROTOCOL_VERSION = "ipfs/0.1.0"  # what the others say
_AGENT_VERSION = "p2pboot"


class Identifying:
    """Answers, and keeps answers.

    Args:
        secret_key: this node's.
        reached_at: tells where a peer can dial it now, the best for who is at a connection first; asked whenever a peer
            asks, and without a connection for the record that is told to anybody.
        protocols: that it speaks, as they are when a peer asks.
    """

    def __init__(
        self,
        secret_key: SecretKey,
        reached_at: Callable[[Connection | None], Sequence[Address]],
        protocols: Collection[str],
    ) -> None:
        self._secret_key = secret_key
        self._reached_at = reached_at
        self._protocols = protocols
        self._own = OwnRecord(secret_key)
        self._spoken: dict[Connection, frozenset[str]] = {}
        self._records: dict[str, tuple[Connection, bytes]] = {}
        self.addresses = AddressBook(OF_A_PROCESS)

    async def answer(self, stream: Stream) -> None:
        """Say who this is. A stream handler."""
        addresses = self._reached_at(stream.connection)[:MAX_ADDRESSES]
        said = Identity(
            public_key=self._secret_key.public,
            listen_addresses=tuple(map(encode_multiaddr, addresses)),
            protocols=tuple(self._protocols),
            observed_address=encode_multiaddr(parse_address(stream.connection.address).with_peer(None)),
            protocol_version=_PROTOCOL_VERSION,
            agent_version=_AGENT_VERSION,
            signed_record=self._own.of(addresses),
        )
        await stream.write(encode_identify(said))

    def own_record(self) -> bytes:
        """Return the signed record for whoever is told of this node; empty where it can not be dialled."""
        return self._own.of(self._reached_at(None)[:MAX_ADDRESSES])

    async def listen(self, stream: BareStream) -> None:
        """Take what a peer says of itself, and keep what may be kept of it.

        Raises:
            RemoteProtocolError: it is unreadable or beyond a limit, or names another key; nothing is kept.
            StreamReset: it did not come to its end.
        """
        reader = IdentifyReader()
        while data := await stream.read(MAX_IDENTIFY):
            reader.receive(data)
        self._keep(stream.connection, reader.receive_eof())

    def _keep(self, connection: Connection, said: Identity) -> None:
        peer_id = connection.peer_id
        if said.public_key is not None and said.public_key.peer_id != peer_id:
            raise RemoteProtocolError(f"{peer_id} says that it is {said.public_key.peer_id}")
        self._spoken[connection] = frozenset(said.protocols)
        addresses = map(str, filter(None, map(decode_multiaddr, said.listen_addresses)))
        dialable = known_dialable(of_peer(addresses, peer_id), limit=MAX_ADDRESSES)
        self.addresses.said(peer_id, dialable, origin_of(connection.address))
        if not is_node(said.protocols):
            return
        record = read_record(said.signed_record)
        if record is not None and record.peer_id == peer_id:
            self._records[peer_id] = (connection, said.signed_record)

    def forget(self, connection: Connection) -> None:
        """Drop what was only worth knowing while the connection was up."""
        self._spoken.pop(connection, None)
        if self._records.get(connection.peer_id, (None, b""))[0] == connection:
            del self._records[connection.peer_id]

    def speaks(self, connection: Connection, protocol: str) -> bool:
        """Whether the peer has said that it speaks a protocol."""
        return protocol in self._spoken.get(connection, ())

    @property
    def records(self) -> tuple[bytes, ...]:
        """The signed records of connected nodes."""
        return tuple(record for _, (_, record) in sorted(self._records.items()))
