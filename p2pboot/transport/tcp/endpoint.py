"""One node's end of all its connections: makes them of sockets, with the node's identity, and dials."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from p2pboot.core.events import Event
from p2pboot.core.identity import PublicKey, SecretKey
from p2pboot.core.origins import Party
from p2pboot.errors import ProtocolError, UsageError
from p2pboot.transport.addresses import DNSADDR, Address
from p2pboot.transport.allowlist import EVERYBODY, AllowList
from p2pboot.transport.interface import DialError, DialFailure
from p2pboot.transport.racing import NoneAnswers, race
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.sockets import dial_tcp
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.transport.tcp.workspace import Workspace
from p2pboot.wire.connection import Connection, EndedEarly, Keys, NotGreeted, OtherSwarmKey, WrongPeer
from p2pboot.wire.yamux.frames import GATED
from p2pboot.wire.yamux.limits import Limits
from p2pboot.wire.yamux.session import Session

if TYPE_CHECKING:
    from p2pboot.core.swarmkey import SwarmKey

log = logging.getLogger("p2pboot.transport.tcp")

_HANDSHAKE_S: Final = 0.004  # of work, with all that follows when a peer is new
_ANSWER_S: Final = 3.0
"""How long an answer may take in a private mesh once the peer's nonce is there: who has the same swarm key needs a
round trip, who has another one says nothing. Shorter than who dials waits, so that it is known why."""
_SAME_KEY: Final = (
    "see that both ends have the same swarm key: compare what `p2pboot key swarm FILE --show` prints"
)


class Endpoint:
    """Makes connections.

    Args:
        secret_key: the node's identity.
        limits: of each connection.
        swarm_key: of the private mesh that it is an end of, if it is.
        allowed: whom it lets in.
    """

    def __init__(
        self,
        secret_key: SecretKey,
        limits: Limits | None = None,
        swarm_key: SwarmKey | None = None,
        allowed: AllowList = EVERYBODY,
    ) -> None:
        self._secret_key = secret_key
        self._swarm_key = swarm_key
        self.allowed = allowed
        self._static = secrets.token_bytes(32)
        self._limits = limits
        self._workspace = Workspace()
        self._new_core: Callable[..., Connection] = Connection
        if swarm_key is not None:
            self._new_core = _private(swarm_key)

    @property
    def mesh(self) -> str | None:
        """The fingerprint of the swarm key, where there is one."""
        return None if self._swarm_key is None else self._swarm_key.fingerprint

    async def run(self) -> None:
        """Look after the connections, for ever: as long as there are any, this has to run."""
        await self._workspace.run()

    async def turn(self, origin: str) -> None:
        """Wait until a handshake with somebody may be begun, at an address that others may come from, too."""
        await self._workspace.handshakes.take(Party(origin), _HANDSHAKE_S)

    def is_self(self, peer: PublicKey) -> bool:
        """Whether a peer is this node."""
        return peer == self._secret_key.public

    def tell_kept_out(self, tcp: TcpConnection) -> None:
        """Have the log say that somebody is not let in, unless it says that much."""
        if self._workspace.reports.try_take(1, trio.current_time()):
            log.info(
                "kept out %s, who came from %s:%d: it is not on the allow-list",
                tcp.peer_id,
                *tcp.remote,
                extra=Event.KEPT_OUT(peer=tcp.peer_id, address=tcp.remote[0]),
            )

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
        core = self._new_core(
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

        Where the address has a name, what that stands for is tried as `transport.racing` says; it takes no longer than
        the sum of `names.LOOKUP_S` and all attempts.

        Args:
            address: with a peer id in it, nobody else will do.
            accept: as `connection`.
            nursery: carries the connection.

        Returns:
            A connection that is secured and runs.

        Raises:
            UsageError: the peer id in the address is not that of an Ed25519 key.
            DialError: nobody answers, or somebody else, or no such node, or one that is not allowed.
        """
        _expected(address)
        if address.is_ip:
            return await self._dial_ip(address, accept, nursery)
        try:
            return await race(
                partial(_send_ways, address),
                lambda way: self._dial_ip(way, accept, nursery),
                TcpConnection.abort,
            )
        except NoneAnswers as error:
            # Of a name that can not be resolved, or has one address, all is said.
            failures = error.failures
            remedy = failures[0].remedy if failures else None
            message = error.message if len(failures) == 1 else f"cannot reach {address}: {error.message}"
            failure = getattr(failures[0], "failure", DialFailure.OTHER) if failures else DialFailure.OTHER
            raise DialError(message, remedy=remedy, failure=failure) from error

    async def _dial_ip(
        self, address: Address, accept: Callable[[MuxedStream], None], nursery: trio.Nursery
    ) -> TcpConnection:
        expected, began = _expected(address), trio.current_time()
        sock = await dial_tcp(address)
        try:
            connection = self.connection(sock, accept, initiator=True, began=began, expected=expected)
        except OSError as error:
            sock.close()
            raise DialError(
                f"cannot reach {address}: {error.strerror}", failure=DialFailure.HUNG_UP
            ) from error
        nursery.start_soon(connection.run)
        try:
            has_answered = await self._is_answered(connection)
        except BaseException:
            connection.abort()
            raise
        if not has_answered:
            connection.abort()
            raise self._dial_error(
                address, OtherSwarmKey("it says nothing to this swarm key: is it the same swarm key?")
            )
        if connection.failure is not None:
            raise self._dial_error(address, connection.failure)
        if self.is_self(connection.peer):
            connection.abort()
            raise DialError(f"{address} is this node itself", failure=DialFailure.ITSELF)
        if not self.allowed.admits(connection.peer_id):
            await connection.hang_up(GATED)
            raise DialError(
                f"{address} answers as {connection.peer_id}, which is not among the peers that are allowed here",
                remedy="name it, if it is to be: --allow-peer",
                failure=DialFailure.NOT_ALLOWED,
            )
        return connection

    async def _is_answered(self, connection: TcpConnection) -> bool:
        """Wait until it is secured, or over; False where the peer does not answer as one with the same swarm key."""
        if self._swarm_key is None:
            await connection.secured.wait()
            return True
        await connection.begun.wait()
        with trio.move_on_after(_ANSWER_S):
            await connection.secured.wait()
        return connection.secured.is_set()

    def _dial_error(self, address: Address, failure: ProtocolError | OSError) -> DialError:
        if isinstance(failure, WrongPeer):
            return DialError(f"{address} answers as {failure.actual.peer_id}", failure=DialFailure.OTHER_PEER)
        is_early = isinstance(failure, (EndedEarly, OSError))
        if self._swarm_key is not None and is_early:
            return DialError(
                f"{address} closed the connection before it had proved who it is: it may be full, or have another swarm"
                " key, or none",
                remedy=_SAME_KEY,
                failure=DialFailure.HUNG_UP,
            )
        if isinstance(failure, OtherSwarmKey):
            return DialError(
                f"{address} is not in this private mesh: {failure}",
                remedy=_SAME_KEY,
                failure=DialFailure.OTHER_MESH,
            )
        if is_early:
            return DialError(
                f"{address} closed the connection before it had proved who it is: it may be full, or no libp2p node",
                remedy="try again in a while, ask another provider (--bootstrap MULTIADDR), or check the port",
                failure=DialFailure.HUNG_UP,
            )
        who = "the peer named in it" if address.peer_id else "a libp2p node"
        if self._swarm_key is None and isinstance(failure, NotGreeted):
            failure = NotGreeted(f"{failure}; is it in a private mesh (--swarm-key FILE)?")
        return DialError(
            f"{address} answers, but not as {who} with Noise and Yamux: {failure}",
            remedy="check the port and the peer id",
            failure=DialFailure.NOT_LIBP2P,
        )


def _private(swarm_key: SwarmKey) -> Callable[..., Connection]:
    """What makes the connections of a private mesh."""
    from p2pboot.wire.private import (
        NONCE_BYTES,
        PrivateConnection,
        Replays,
    )  # 50 ms that nobody else need pay

    replays = Replays()

    def new(**arguments: Any) -> Connection:
        return PrivateConnection(swarm_key, secrets.token_bytes(NONCE_BYTES), replays, **arguments)

    return new


async def _send_ways(address: Address, send: trio.MemorySendChannel[Address]) -> None:
    from p2pboot.transport.names import resolve_dnsaddr, send_hosts  # most addresses have no name

    if address.kind != DNSADDR:
        await send_hosts(address, send)
        return
    failures: list[DialError] = []
    found = await resolve_dnsaddr(address)
    for one in found:
        if one.is_ip:
            await send.send(one)
            continue
        try:
            await send_hosts(one, send)
        except DialError as error:
            failures.append(error)
    if len(failures) == len(found):
        raise failures[0]


def _expected(address: Address) -> PublicKey | None:
    if address.peer_id is None:
        return None
    try:
        return PublicKey.from_peer_id(address.peer_id)
    except ValueError as error:
        raise UsageError(str(error), remedy="copy the whole address, 12D3KooW…") from error
