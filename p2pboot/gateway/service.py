"""The gateway as a part of a running node: its sockets, its connections, its tasks."""

from __future__ import annotations

import errno
import itertools
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import trio

from p2pboot.config.settings import NodeSettings
from p2pboot.core.events import Event
from p2pboot.core.origins import Party, party_of
from p2pboot.errors import UsageError
from p2pboot.gateway.app import LOOKUPS, Gateway
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.bases import Bases
from p2pboot.gateway.body import Room
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.dnssd import ServiceAnnouncement, announce, host_name
from p2pboot.gateway.hosts import (
    advertised,
    base_urls,
    is_on_loopback,
    is_passed,
    on_loopback,
    open_sockets,
    own_addresses,
    port_of,
)
from p2pboot.gateway.http1 import Connection, Shared
from p2pboot.gateway.names import Names
from p2pboot.gateway.offers import Offers
from p2pboot.gateway.reports import Reports
from p2pboot.gateway.slots import WAIT_S, Slots
from p2pboot.gateway.stream import ClientStream
from p2pboot.serving.threads import Turns
from p2pboot.transport.interfaces import Interfaces
from p2pboot.transport.passed import PassedSockets
from p2pboot.transport.traffic import HTTP

log = logging.getLogger(__name__)

MEASURE_S: Final = 2.0  # how often it is looked how clients read
ACCEPTED: Final = 64  # connections at once, before others have their turn
_NO_FILES_PAUSE_S: Final = 0.1
_NO_SLOT: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 10\r\nConnection: close\r\n\r\n"
)
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)

_Opened = Callable[[socket.socket, str], ClientStream]
"""Makes a stream of a connection and the address of its client."""


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
        self._shared = Shared(Turns(LOOKUPS), Room(), self._counters)
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
        reports = Reports(node, offers, self._counters, self._slots)
        options = self._settings.gateway
        bases = Bases(options.advertise_http, options.trusted_proxies)
        names = Names(options.advertise_http, host_name(node.peer_id))
        gateway = Gateway(node, offers, reports, bases, names=names, counters=self._counters)

        def stream(connection: socket.socket, client: str) -> ClientStream:
            is_many = bases.is_proxy(client)
            meter = node.bandwidth.meter(client, HTTP, is_many=is_many)
            # Who is behind a proxy only the proxy knows: each connection is taken for somebody else's.
            party = Party(f"{client} {next(self._numbers)}") if is_many else party_of(client)
            return ClientStream(connection, party, meter)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._measure)
                nursery.start_soon(names.learn)
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener, nursery, gateway, stream)
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

    async def _accept(
        self, listener: socket.socket, nursery: trio.Nursery, gateway: Gateway, opened: _Opened
    ) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener.fileno())
            for _ in range(ACCEPTED):
                try:
                    accepted, client = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _OUT_OF_RESOURCES:
                        log.warning(
                            "no connection can be accepted: %s", error.strerror, extra=Event.HTTP_FAILED()
                        )
                        await trio.sleep(_NO_FILES_PAUSE_S)
                    continue  # else the client went before it was accepted
                accepted.setblocking(False)
                stream = opened(accepted, client[0])
                admitted = trio.Event()
                if self._slots.admit(stream.slot, trio.current_time()):
                    nursery.start_soon(self._serve, gateway, stream)
                elif self._slots.wait(stream.slot, admitted.set):
                    nursery.start_soon(self._wait, gateway, stream, admitted)
                else:
                    stream.refuse(_NO_SLOT)
                    stream.finish()

    async def _wait(self, gateway: Gateway, stream: ClientStream, admitted: trio.Event) -> None:
        try:
            with trio.move_on_after(WAIT_S):
                await admitted.wait()
            self._slots.give_up(stream.slot)
            if admitted.is_set():
                await self._serve(gateway, stream)
            else:
                stream.refuse(_NO_SLOT)
                await stream.linger()
        finally:
            self._slots.give_up(stream.slot)
            stream.finish()

    async def _serve(self, gateway: Gateway, stream: ClientStream) -> None:
        try:
            answer = partial(gateway.answer, ends=stream.ends())
            await Connection(stream, answer, self._shared).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Exception:  # one connection must not end the node
            log.exception("a connection ended by a fault of the gateway", extra=Event.HTTP_FAILED())
            self._counters.failures += 1
        finally:
            self._slots.release(stream.slot, trio.current_time())
            stream.cut()

    async def _measure(self) -> None:
        while True:
            await trio.sleep(MEASURE_S)
            self._slots.measure(trio.current_time())
