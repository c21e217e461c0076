"""The admin address as a part of a running node: its socket, with a few connections of its own.

Nobody who boots takes one of its connections, and nobody who looks takes one of the boot port's.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import Any, Final

import trio

from p2pboot.config.settings import NodeSettings
from p2pboot.core.events import Event
from p2pboot.core.origins import party_of
from p2pboot.errors import MachineError
from p2pboot.gateway.accepting import Accepting
from p2pboot.gateway.admin.access import Access
from p2pboot.gateway.admin.app import FIELDS, LOOKUPS, Admin, Counted
from p2pboot.gateway.admin.events import Events
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.hosts import base_url, ip_of, listen, open_sockets, port_of
from p2pboot.gateway.names import Names, host_name
from p2pboot.gateway.offers import Offers
from p2pboot.gateway.slots import Slots
from p2pboot.gateway.stream import ClientStream
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.passed import PassedSockets
from p2pboot.transport.traffic import HTTP

log = logging.getLogger(__name__)

USUAL: Final = "127.0.0.1:4080"
ANY_PORT: Final = "127.0.0.1:0"
SLOTS: Final = 64  # connections; a browser has six at the most, and who watches has one
SEND_BUFFER: Final = 64 * 1024  # what the kernel keeps for a client that does not read


class AdminService:
    """A service for `node.run.run_node`.

    Args:
        settings: of the node, whose `gateway.admin` is not `off`.
        gateway: what the gateway counts, where there is one.
        passed: sockets that the service manager opened.

    Raises:
        MachineError: the address that was configured can not be listened on.
        UsageError: the service manager passed no such socket.
    """

    urls: tuple[str, ...] = ()

    def __init__(
        self, settings: NodeSettings, gateway: Counted | None = None, *, passed: PassedSockets | None = None
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._listeners = _open(settings.gateway.admin, passed or PassedSockets())
        self._slots = Slots(SLOTS)
        self._counters = GatewayCounters()
        self._events: Events | None = None

    @property
    def admin(self) -> str | None:
        """The URL of the page as this machine opens it; None where nothing can be listened on."""
        if not self._listeners:
            return None
        host = ip_of(self._listeners[0])
        if host.is_unspecified:
            host = ipaddress.ip_address("127.0.0.1" if host.version == 4 else "::1")
        return base_url(str(host), self.port)

    @property
    def port(self) -> int:
        """The TCP port that it listens on; 0 where there is none."""
        return port_of(self._listeners) if self._listeners else 0

    @property
    def watching(self) -> int:
        """How many event streams there are."""
        return 0 if self._events is None else len(self._events)

    def _is_near(self) -> bool:
        """Whether this machine reaches it by a loopback address."""
        hosts = [ip_of(listener) for listener in self._listeners]
        return any(host.is_loopback or host.is_unspecified for host in hosts)

    def close(self) -> None:
        """Stop listening; idempotent."""
        for listener in self._listeners:
            listener.close()

    async def run(self, node: Backend, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; all connections end with it."""
        if not self._listeners:
            task_status.started()
            return
        options = self._settings.gateway
        names = Names(options.advertise_http, host_name(node.peer_id))
        access = Access(options.admin_allow, names)
        app = Admin(node, Offers(node), access, self._counters, gateway=self._gateway)
        self._events = app.events
        accepting = Accepting(self._listeners, self._slots, self._counters, turns=LOOKUPS, fields=FIELDS)
        # What is said of the node is not what it serves: neither limited nor counted with that.
        unlimited = Bandwidth()

        def stream(connection: socket.socket, client: str) -> ClientStream:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            return ClientStream(connection, party_of(client), unlimited.meter(client, HTTP))

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(names.learn)
                nursery.start_soon(app.events.run)
                nursery.start_soon(accepting.run, app.answer, stream)
                log.info("status page at %s", self.admin, extra=Event.HTTP_LISTENING(urls=self.admin))
                if not (options.admin_allow or self._is_near()):
                    log.warning(
                        "nobody can see the status page at %s: name who may with --admin-allow",
                        self.admin,
                        extra=Event.HTTP_HIDDEN(),
                    )
                task_status.started()
        finally:
            self.close()


def _open(configured: str | None, passed: PassedSockets) -> tuple[socket.socket, ...]:
    """Listen where the operator said; or else at the usual port, at any other one, or nowhere: it stops no node."""
    if configured is not None:
        return open_sockets(configured, passed, option="--admin")
    try:
        return (listen(USUAL, option="--admin"),)
    except MachineError as error:
        log.info("%s: another port is taken for the status page", error.message, extra=Event.PORT_TAKEN())
    try:
        return (listen(ANY_PORT, option="--admin"),)
    except MachineError as error:
        log.warning("there is no status page: %s", error.message, extra=Event.PORT_TAKEN())
        return ()
