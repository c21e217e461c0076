"""Runs one node as a process: opens the state, the network and the directory, and answers signals.

SIGINT and SIGTERM end it in order, SIGHUP re-reads the settings; a service manager is told of each. The order at the
end matters: first our own tasks are cancelled (their `finally` close streams), then the network's host is closed, each
for a bounded time.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import trio

from p2pboot.config.reload import diff_settings, live_part
from p2pboot.config.settings import NodeSettings
from p2pboot.core.events import Event
from p2pboot.core.identity import SecretKey
from p2pboot.core.policy import check_apart
from p2pboot.core.swarmkey import SwarmKey
from p2pboot.errors import ArtifactError, ConfigError, MachineError, P2PBootError, first_error, machine_error
from p2pboot.node.bringing import Watch, nobody_watches
from p2pboot.node.node import Node
from p2pboot.node.reach import Reachability
from p2pboot.node.supervising import follow
from p2pboot.node.supervisor import Supervisor
from p2pboot.publish.scan import scan_each
from p2pboot.store.filenames import DATABASE_NAME
from p2pboot.store.keyfiles import load_key, load_or_generate, load_swarm_key
from p2pboot.store.store import Store
from p2pboot.store.trustdocs import resolved
from p2pboot.transport.addresses import can_listen, parse_address
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.interface import Gossip
from p2pboot.transport.interfaces import Interfaces

log = logging.getLogger(__name__)


class Service(Protocol):
    """Something that runs beside a node and shows what it holds, such as an HTTP gateway."""

    @property
    def urls(self) -> Sequence[str]:
        """Beginnings of the HTTP URLs under which the node's artifacts can be had now; known before it runs."""

    @property
    def admin(self) -> str | None:
        """The URL of the status page, of the service that has it; None of all others."""

    async def run(self, node: Node, *, task_status: Any) -> None:
        """Serve until cancelled; `task_status.started()` once it does."""


def run_node(
    settings: NodeSettings,
    *,
    reload: Callable[[], NodeSettings],
    announce_line: Callable[[str], None],
    wall: Callable[[], float],
    services: Sequence[Service] = (),
    supervisor: Supervisor | None = None,
    watch: Watch | None = None,
) -> None:
    """Run a node until a signal ends it.

    Args:
        settings: everything it is told; `provider.directory` is None for a mirror.
        reload: reads the settings again, for SIGHUP; raises P2PBootError when they are wrong.
        announce_line: is given the best dialable multiaddr, once the node listens and the services serve, and again
            whenever another one is the best.
        wall: the machine's clock, unix seconds; called from any thread.
        services: run in the node's own nursery, and end with it.
        supervisor: is told how the node is; None: nobody is.
        watch: is shown how each release gets here; None: the log is.

    Raises:
        P2PBootError: the node can not start, or can not go on; its exit status says why.
    """
    try:
        supervisor = supervisor or Supervisor()
        said = partial(_main, settings, reload, announce_line, services)
        trio.run(partial(said, wall=wall, supervisor=supervisor, watch=watch or nobody_watches))
    except OSError as error:
        raise machine_error(error, "run the node") from None
    except BaseExceptionGroup as group:
        first = first_error(group)
        if first is group:
            first = first_error(group, OSError)
        raise (machine_error(first, "run the node") if isinstance(first, OSError) else first) from None


async def _main(
    settings: NodeSettings,
    reload: Callable[[], NodeSettings],
    announce_line: Callable[[str], None],
    services: Sequence[Service],
    *,
    wall: Callable[[], float],
    supervisor: Supervisor,
    watch: Watch,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.beat)
            current = _Current(settings, reload, supervisor)
            nursery.start_soon(_obey, signals, nursery.cancel_scope, current, supervisor)
            await _run(current, announce_line, services, wall=wall, supervisor=supervisor, watch=watch)


class _Current:
    """The settings in force, and the node that they are applied to once it runs."""

    def __init__(
        self, settings: NodeSettings, reload: Callable[[], NodeSettings], supervisor: Supervisor | None = None
    ) -> None:
        self.settings = settings
        self._supervisor = supervisor or Supervisor()
        self.node: Node | None = None
        self._swarm_key: SwarmKey | None = None
        self._reload = reload

        self._missed = False  # a reload was asked for before there was a node to apply it

    async def begin(self, node: Node, swarm_key: SwarmKey | None = None) -> None:
        """From now on there is a node, with this swarm key in force."""
        self.node, self._swarm_key = node, swarm_key
        if self._missed:
            await self.reread()

    async def reread(self) -> None:
        """Apply what changed; what can not be read or applied leaves in force what is."""
        if self.node is None:
            self._missed = True
            return
        async with self._supervisor.reloading():
            await self._reread(self.node)

    async def _reread(self, node: Node) -> None:
        try:
            settings = await trio.to_thread.run_sync(self._reload)
            applied, needs_restart = diff_settings(self.settings, settings)
            await node.apply(settings)
        except P2PBootError as error:
            log.error(
                "the settings are not reloaded: %s%s",
                error,
                f" ({error.remedy})" if error.remedy else "",
                extra=Event.SETTINGS_REFUSED(),
            )
            return
        changed = await trio.to_thread.run_sync(self._changed_file, settings)
        self.settings = live_part(self.settings, settings)
        log.info(
            "settings reloaded; changed: %s",
            ", ".join(applied) or "nothing",
            extra=Event.SETTINGS_RELOADED(changed=", ".join(applied)),
        )
        if needs_restart:
            log.warning(
                "these changes need a restart: %s",
                ", ".join(needs_restart),
                extra=Event.RESTART_NEEDED(changed=", ".join(needs_restart)),
            )
        if changed:
            log.warning(
                "the swarm key that is in force stays so until a restart: %s",
                changed,
                extra=Event.RESTART_NEEDED(changed="network.swarm_key"),
            )

    def _changed_file(self, settings: NodeSettings) -> str:
        """What is new about the file with the swarm key, under its old name; "" where nothing is. Blocking."""
        path = settings.network.swarm_key_path
        if path is None or path != self.settings.network.swarm_key_path:
            return ""
        try:
            return "" if load_swarm_key(path) == self._swarm_key else f"{path} has another one"
        except P2PBootError as error:
            return error.message


async def _obey(
    signals: AsyncIterator[int], scope: trio.CancelScope, current: _Current, supervisor: Supervisor
) -> None:
    async for number in signals:
        if number == signal.SIGHUP:
            await current.reread()
        else:
            log.info(
                "ending on %s",
                signal.Signals(number).name,
                extra=Event.NODE_ENDING(signal=signal.Signals(number).name),
            )
            await supervisor.stopping()
            scope.cancel()


async def _run(
    current: _Current,
    announce_line: Callable[[str], None],
    services: Sequence[Service],
    *,
    wall: Callable[[], float],
    supervisor: Supervisor,
    watch: Watch,
) -> None:
    settings = current.settings
    # Before anything listens or is made: an unusable directory is the operator's to mend.
    await trio.to_thread.run_sync(_check_directory, settings, supervisor.is_there)
    swarm_key = await trio.to_thread.run_sync(_swarm_key, settings)
    key = await trio.to_thread.run_sync(load_or_generate, settings.identity.key_path)
    path = settings.identity.signing_key_path
    signing_key = key if path is None else await trio.to_thread.run_sync(load_key, path)
    freshness_key = await trio.to_thread.run_sync(_freshness_key, settings, (key, signing_key))
    async with AsyncExitStack() as stack:
        await supervisor.status(f"opening the state {settings.store.state}")
        # What it holds can be served, whatever becomes of its numbers.
        open_store = partial(
            Store.open, settings.store.state, quota_bytes=settings.store.quota_bytes, tolerant=True
        )
        store = await trio.to_thread.run_sync(open_store)
        stack.callback(store.close)
        await trio.to_thread.run_sync(store.lock)
        policy = await trio.to_thread.run_sync(resolved, settings.policy, store.documents)
        keys = {
            "identity.key_path": key,
            "identity.signing_key_path": signing_key,
            "provider.freshness_key": freshness_key,
        }
        check_apart(policy, {what: one.public.keyid for what, one in keys.items() if one is not None})
        interfaces = Interfaces()
        bandwidth = Bandwidth(settings.network.rates)
        transport = await _open_transport(stack, settings, key, interfaces, bandwidth, swarm_key=swarm_key)

        def urls() -> Sequence[str]:
            # Without a gateway of its own a publisher may name those of its mirrors.
            return [url for service in services for url in service.urls] or settings.gateway.advertise_http

        reach = Reachability(transport, urls, interfaces)
        hints: AsyncIterable[str] | None = None
        if settings.network.mdns:
            from p2pboot.transport.mdns import open_mdns

            discovery = open_mdns(
                transport.peer_id,
                transport.addresses,
                listens_on=transport.listens_on,
                interfaces=interfaces,
                report=reach.note_discovery,
            )
            hints = await stack.enter_async_context(discovery)
        node = Node(
            settings,
            store=store,
            transport=transport,
            bandwidth=bandwidth,
            signing_key=signing_key,
            freshness_key=freshness_key,
            hints=hints,
            urls=reach.urls,
            wall=wall,
        )
        node.watchdog = lambda: supervisor.watchdog
        node.show_bringing(watch)
        node.admin = next((service.admin for service in services if service.admin is not None), None)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run, supervisor.runtime)
            await current.begin(node, swarm_key)
            for service in services:
                await nursery.start(service.run, node)
            announce_line(_dialable(reach))  # only now: whoever reads it may connect at once
            await supervisor.ready()
            nursery.start_soon(follow, node, supervisor)
            await reach.follow(
                moved=announce_line,
                urls_changed=node.urls_changed,
                report=partial(node.problems.report, "network"),
            )


def _swarm_key(settings: NodeSettings) -> SwarmKey | None:
    """The key of the private mesh that the node is in; blocking, raises as `load_swarm_key`."""
    path = settings.network.swarm_key_path
    return None if path is None else load_swarm_key(path)


def _freshness_key(settings: NodeSettings, others: Sequence[SecretKey]) -> SecretKey | None:
    """The key that says what is fresh, which is no other's; blocking.

    Raises:
        ConfigError: it is the node's or the signing key.
        KeyFileError, MachineError: it can not be read.
    """
    path = settings.provider.freshness_key_path
    if path is None or settings.provider.directory is None:
        return None
    key = load_key(path)
    if key.public in [other.public for other in others]:
        raise ConfigError(
            f"{path} is the key of this node or the one that signs its manifests, and no freshness key",
            remedy="make one of its own: p2pboot key generate --key FILE; who steals one key is not to have both",
        )
    return key


def _check_directory(settings: NodeSettings, is_supervised: bool = False) -> None:
    """Refuse to start a node that would have nothing to do; blocking.

    One that published before, or has something else to do, starts and says what is wrong. So does one that a service
    manager started: no person waits for an answer, and what is missing may come with a mount or the first release.

    Raises:
        ArtifactError, MachineError: nothing in the directory can be published.
        UsageError: the channel or arch of the settings is none.
    """
    provider = settings.provider
    if provider.directory is None:
        return
    try:
        scanned = scan_each(provider.directory, provider.channel, provider.arch)
    except (ArtifactError, MachineError) as error:
        refusal: P2PBootError = error
    else:
        if scanned.trees:
            return
        refusal = scanned.unfit[0].error
    if is_supervised or not settings.trusts_nobody or settings.snapshots.directory is not None:
        return
    if not (settings.store.state / DATABASE_NAME).exists():
        raise refusal
    with Store.open(settings.store.state, tolerant=True) as store:
        if store.publications.is_empty():
            raise refusal


def _dialable(reach: Reachability) -> str:
    if reach.best is None:
        raise MachineError(
            "this machine has no address of the kind that is listened on",
            remedy="name another one with --listen",
        )
    return reach.best


async def _open_transport(
    stack: AsyncExitStack,
    settings: NodeSettings,
    key: SecretKey,
    interfaces: Interfaces,
    bandwidth: Bandwidth,
    *,
    swarm_key: SwarmKey | None = None,
) -> Gossip:
    from p2pboot.transport.libp2p.host import open_libp2p  # 1.3 s: after everything that can fail quickly

    network = settings.network

    async def listening(listen: Sequence[str]) -> Gossip:
        opened = open_libp2p(
            key,
            listen,
            interfaces=interfaces,
            bandwidth=bandwidth,
            swarm_key=swarm_key,
            allowed=network.allowed,
        )
        return await stack.enter_async_context(opened)

    if not network.listen_is_default:
        return await listening(network.listen)
    # Nobody asked for IPv6 (or IPv4) by name: where the machine has none, the other one is meant.
    listen = [address for address in map(parse_address, network.listen) if can_listen(address.kind)]
    try:
        return await listening([str(one) for one in listen])
    except MachineError as error:
        log.warning(
            "%s; listening on any free port instead (--listen sets one)", error, extra=Event.PORT_TAKEN()
        )
        return await listening([str(replace(one, port=0)) for one in listen])
