"""The gateway as a part of a running node: its sockets, its connections, its tasks."""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import Sequence
from typing import Any

import trio

from p2pboot.config.settings import NodeSettings
from p2pboot.config.values import is_passed
from p2pboot.core.events import Event
from p2pboot.core.origins import Party, party_of
from p2pboot.errors import UsageError
from p2pboot.gateway.accepting import Accepting
from p2pboot.gateway.app import LOOKUPS, Gateway
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.bases import Bases
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.dnssd import ServiceAnnouncement, announce
from p2pboot.gateway.hosts import (
    advertised,
    base_urls,
    is_on_loopback,
    on_loopback,
    open_sockets,
    own_addresses,
    port_of,
)
from p2pboot.gateway.offers import Offers
from p2pboot.gateway.reports import Reports
from p2pboot.gateway.slots import Slots
from p2pboot.gateway.stream import ClientStream
from p2pboot.transport.interfaces import Interfaces
from p2pboot.transport.passed import PassedSockets
from p2pboot.transport.traffic import HTTP

log = logging.getLogger(__name__)


def _where(http: str, settings: NodeSettings) -> str:
    """Where to listen: HTTP asks nobody for the key of a private mesh, so there it is not for everybody by itself."""
    if settings.network.swarm_key_path is None or settings.gateway.public or is_passed(http):
        return http
    where = on_loopback(http)
    if where != http:
        log.warning(
            "the mesh is private, so HTTP is offered to this machine alone, at %s; with --gateway-public it is offered"
            " at %s to everybody who reaches that",
            where,
            http,
            extra=Event.HTTP_HIDDEN(),
        )
    return where


def _refuse_public(listeners: Sequence[socket.socket], settings: NodeSettings) -> None:
    """The same for sockets that are what they are."""
    is_bounded = settings.network.swarm_key_path is not None and not settings.gateway.public
    if is_bounded and not all(map(is_on_loopback, listeners)):
        raise UsageError(
            "the mesh is private, and the socket that the service manager passed is for everybody who reaches it",
            remedy="let its unit listen on 127.0.0.1 alone, or say --gateway-public",
        )


class GatewayService:
    """A service for `node.run.run_node`.

    Args:
        settings: of the node.
        where: to listen instead of at its `gateway.http`; one of both is there.
        passed: sockets that the service manager opened.
        slots: how many connections; tests want few.
        interfaces: tells the machine's addresses.

    Raises:
        MachineError: the address can not be listened on.
        UsageError: the service manager passed no such socket, or one that is for more people than it may be.
    """

    def __init__(
        self,
        settings: NodeSettings,
        *,
        where: str | None = None,
        passed: PassedSockets | None = None,
        slots: Slots | None = None,
        interfaces: Interfaces | None = None,
    ) -> None:
        asked = where or settings.gateway.http
        assert asked is not None  # noqa: S101 - the caller asked for it
        self._settings = settings
        where = _where(asked, settings)
        self._is_hidden = where != asked
        self._listeners = open_sockets(where, passed or PassedSockets())
        try:
            _refuse_public(self._listeners, settings)
        except UsageError:
            self.close()
            raise
        self._slots = Slots() if slots is None else slots  # an empty one is false
        self._counters = GatewayCounters()
        self._accepting = Accepting(self._listeners, self._slots, self._counters, turns=LOOKUPS)
        self._numbers = itertools.count()
        self._interfaces = Interfaces() if interfaces is None else interfaces

    @property
    def urls(self) -> tuple[str, ...]:
        """Beginnings of the URLs that go into manifests now; none while there is no network.

        Nor where a private mesh keeps it on loopback, which nobody asked for: each client would be led to itself.
        """
        if self._is_hidden:
            return self._settings.gateway.advertise_http
        return advertised(self._listeners, self._settings.gateway.advertise_http, self._interfaces)

    @property
    def admin(self) -> None:
        """The status page is elsewhere."""

    @property
    def counted(self) -> tuple[GatewayCounters, Slots]:
        """What it counts, and its connections, for the metrics."""
        return self._counters, self._slots

    @property
    def port(self) -> int:
        """The TCP port that it listens on, the first of them."""
        return port_of(self._listeners)

    def close(self) -> None:
        """Stop listening; idempotent."""
        for listener in self._listeners:
            listener.close()

    async def run(self, node: Backend, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; all connections end with it."""
        offers = Offers(node)
        reports = Reports(node, offers)
        options = self._settings.gateway
        bases = Bases(options.advertise_http, options.trusted_proxies)
        gateway = Gateway(node, offers, reports, bases, counters=self._counters)

        def stream(connection: socket.socket, client: str) -> ClientStream:
            is_many = bases.is_proxy(client)
            meter = node.bandwidth.meter(client, HTTP, is_many=is_many)
            # Who is behind a proxy only the proxy knows: each connection is taken for somebody else's.
            party = Party(f"{client} {next(self._numbers)}") if is_many else party_of(client)
            return ClientStream(connection, party, meter)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._accepting.run, gateway.answer, stream)
                if self._settings.network.mdns and not self._is_hidden:
                    name = self._settings.provider.name
                    said = ServiceAnnouncement(offers, name, node.peer_id, self._listeners, self._interfaces)
                    nursery.start_soon(announce, said)
                own = own_addresses(self._listeners, self._interfaces)
                log.info(
                    "HTTP gateway at %s",
                    ", ".join(base_urls(own)),
                    extra=Event.HTTP_LISTENING(urls=", ".join(base_urls(own))),
                )
                task_status.started()
        finally:
            self.close()
