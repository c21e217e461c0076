"""One node's end of all its connections: makes them of sockets, with the node's identity, and dials."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import Final

import trio

from p2pboot.core.identity import PublicKey, SecretKey
from p2pboot.core.origins import Party
from p2pboot.errors import ProtocolError, UsageError
from p2pboot.transport.addresses import Address
from p2pboot.transport.interface import DialError
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.sockets import dial_tcp
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.transport.tcp.workspace import Workspace
from p2pboot.wire.connection import Connection, EndedEarly, Keys, WrongPeer
from p2pboot.wire.yamux.limits import Limits
from p2pboot.wire.yamux.session import Session

_HANDSHAKE_S: Final = 0.004  # of work, with all that follows when a peer is new


class Endpoint:
    """Makes connections.

    Args:
        secret_key: the node's identity.
        limits: of each connection.
    """

    def __init__(self, secret_key: SecretKey, limits: Limits | None = None) -> None:
        self._secret_key = secret_key
        self._static = secrets.token_bytes(32)
        self._limits = limits
        self._workspace = Workspace()

    async def run(self) -> None:
        """Look after the connections, for ever: as long as there are any, this has to run."""
        await self._workspace.run()

    async def turn(self, origin: str) -> None:
        """Wait until a handshake with somebody may be begun, at an address that others may come from, too."""
        await self._workspace.handshakes.take(Party(origin), _HANDSHAKE_S)

    def is_self(self, peer: PublicKey) -> bool:
        """Whether a peer is this node."""
        return peer == self._secret_key.public

    def connection(
        self,
        sock: socket.socket,
        accept: Callable[[MuxedStream], None],
        *,
        initiator: bool,
        began: float,
        expected: PublicKey | None = None,
    ) -> TcpConnection:
        """Make a connection of a socket; nothing happens before its `run`.

        Args:
            sock: connected and prepared (`sockets`).
            accept: is called with each stream that the peer opens. It neither waits nor raises.
            initiator: whether this side dialled.
            began: when it did, or saw the other's dial, as the clock of the event loop has it.
            expected: the only peer that will do.

        Raises:
            OSError: the socket is not connected any more.
        """
        core = Connection(
            initiator=initiator,
            keys=Keys(self._secret_key, self._static, secrets.token_bytes(32)),
            session=Session(initiator=initiator, limits=self._limits),
            expected=expected,
            scratch=self._workspace.scratch,
        )
        return TcpConnection(sock, core, self._workspace, accept, dialled=initiator, began=began)

    async def dial(
        self, address: Address, accept: Callable[[MuxedStream], None], nursery: trio.Nursery
    ) -> TcpConnection:
        """Connect, and see who answers. The caller sets the timeout.

        Args:
            address: with a peer id in it, nobody else will do.
            accept: as `connection`.
            nursery: carries the connection.

        Returns:
            A connection that is secured and runs.

        Raises:
            UsageError: the peer id in the address is not that of an Ed25519 key.
            DialError: nobody answers, or somebody else, or no such node.
        """
        expected, began = _expected(address), trio.current_time()
        sock = await dial_tcp(address)
        try:
            connection = self.connection(sock, accept, initiator=True, began=began, expected=expected)
        except OSError as error:
            sock.close()
            raise DialError(f"cannot reach {address}: {error.strerror}") from error
        nursery.start_soon(connection.run)
        try:
            await connection.secured.wait()
        except BaseException:
            connection.abort()
            raise
        if connection.failure is not None:
            raise _dial_error(address, connection.failure)
        if self.is_self(connection.peer):
            connection.abort()
            raise DialError(f"{address} is this node itself")
        return connection


def _expected(address: Address) -> PublicKey | None:
    if address.peer_id is None:
        return None
    try:
        return PublicKey.from_peer_id(address.peer_id)
    except ValueError as error:
        raise UsageError(str(error), remedy="copy the whole address, 12D3KooW…") from error


def _dial_error(address: Address, failure: ProtocolError | OSError) -> DialError:
    if isinstance(failure, WrongPeer):
        return DialError(f"{address} answers as {failure.actual.peer_id}")
    if isinstance(failure, (EndedEarly, OSError)):
        return DialError(
            f"{address} closed the connection before it had proved who it is: it may be full, or no libp2p node",
            remedy="try again in a while, ask another provider (--bootstrap MULTIADDR), or check the port",
        )
    who = "the peer named in it" if address.peer_id else "a libp2p node"
    return DialError(
        f"{address} answers, but not as {who} with Noise and Yamux: {failure}",
        remedy="check the port and the peer id",
    )
