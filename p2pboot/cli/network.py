"""What the commands share that ask on the network and end: their options, and the way to a job on it.

Each of them says what differs: `begin`, its own checks, `Client.of`, and a job for `Client.run`.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pboot.cli import logs, output
from p2pboot.cli.main import collect_garbage
from p2pboot.cli.options import (
    FILE,
    Decorator,
    Seconds,
    config_option,
    json_option,
    options,
    trust_options,
    verbosity_options,
)
from p2pboot.cli.output import warn
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.cli.sharing import Sharing
from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.errors import MachineError, NotFoundError

if TYPE_CHECKING:  # trio, cryptography: `--help` need not wait for them
    from p2pboot.cli.progress import PlainProgress
    from p2pboot.config.settings import NodeSettings
    from p2pboot.core.identity import SecretKey
    from p2pboot.core.swarmkey import SwarmKey
    from p2pboot.fetch.asking.wider import WiderSearch
    from p2pboot.transport.bandwidth import Rates
    from p2pboot.transport.interface import Transport
    from p2pboot.transport.interfaces import Interfaces
    from p2pboot.transport.nearness import Nearness

log = logging.getLogger(__name__)

T = TypeVar("T")
Hints = AsyncIterable[str] | None
Job = Callable[["Transport", Hints, "PlainProgress"], Awaitable[T]]


def network_options(
    *, timeout_s: float = 60.0, timeout_help: str = "Seconds to wait for peers, and then for progress."
) -> Decorator[Any]:
    """Whom to trust and ask, for how long, and as whom; `timeout`, `client_key_path`, `config_path`, `as_json`."""
    return options(
        trust_options,
        setting_options("network.bootstrap", "network.mdns", "network.swarm_key", "network.site"),
        click.option(
            "--timeout",
            type=Seconds(open_at_least=True),
            default=timeout_s,
            show_default=True,
            metavar="S",
            help=timeout_help,
        ),
        click.option(
            "--key",
            "client_key_path",
            type=FILE,
            metavar="PATH",
            help="Key file to be known by, where nodes let in certain peers only.  [default: a new key each time]",
        ),
        config_option,
        json_option,
        verbosity_options,
    )


dht_options: Decorator[Any] = setting_options("network.dht", "network.dht_public")


def begin(params: dict[str, Any], config_path: Path | None) -> NodeSettings:
    """Set up logging, and read the settings that the options and the configuration file say."""
    from p2pboot.config.load import load_settings

    meta = click.get_current_context().meta
    logs.configure(verbose=logs.VERBOSE in meta, quiet=output.QUIET in meta, usual=logging.WARNING)
    return load_settings(overrides_of(params), config_path)


def client_key(path: Path | None) -> SecretKey:
    """A client's identity: a key file, or a new one for each run, so that nobody can follow the machine."""
    import secrets

    from p2pboot.core.identity import KEY_BYTES, SecretKey

    if path is None:
        return SecretKey(secrets.token_bytes(KEY_BYTES))
    from p2pboot.store.keyfiles import load_key

    return load_key(path, warn=warn)


def mesh_key(path: Path) -> SwarmKey:
    """The key of the private mesh that a client asks in."""
    from p2pboot.store.keyfiles import load_swarm_key

    return load_swarm_key(path, warn=warn)


def is_told_of_nobody(settings: NodeSettings) -> bool:
    """Whether there are no addresses and discovery is off, so that only an address book is left."""
    return not settings.network.bootstrap and not settings.network.mdns


def nobody_to_ask() -> NotFoundError:
    """The error of who has no address book either."""
    return NotFoundError(
        "there is nobody to ask: no --bootstrap address, and mDNS is off",
        remedy="add --bootstrap MULTIADDR (the first line that `p2pboot serve` prints), or --mdns",
    )


@dataclass(frozen=True, slots=True)
class Client:
    """Runs a command's job on a network of its own: a transport, and discovery.

    Args:
        key: its identity.
        mdns: whether to look around on the local network.
        rates: the limits of bandwidth.
        sharing: what it gives to others.
        site: what the place is called where it stands.
        swarm_key: of the private mesh that it asks in.
        dht: whether to look in the distributed hash table where nothing is found otherwise.
        dht_public: whether there with public addresses too.
    """

    key: SecretKey
    mdns: bool
    rates: Rates
    sharing: Sharing
    site: str | None = None
    swarm_key: SwarmKey | None = None
    dht: bool = False
    dht_public: bool = False

    @property
    def mesh(self) -> str | None:
        """The fingerprint of the swarm key, where there is one."""
        return None if self.swarm_key is None else self.swarm_key.fingerprint

    @classmethod
    def of(
        cls,
        settings: NodeSettings,
        key_path: Path | None,
        sharing: Sharing | None = None,
        *,
        knows_peers: bool = False,
    ) -> Client:
        """The client that the settings describe; one that only asks where nothing is said of sharing.

        Args:
            settings: what applies.
            key_path: of its identity; None: a new one.
            sharing: what it gives to others.
            knows_peers: whether there may be somebody to ask whatever the settings say.

        Raises:
            NotFoundError: there are no addresses and discovery is off: a search could only end with this.
            KeyFileError, MachineError: the key file.
        """
        if is_told_of_nobody(settings) and not knows_peers:
            raise nobody_to_ask()
        network = settings.network
        swarm_key = None if network.swarm_key_path is None else mesh_key(network.swarm_key_path)
        sharing = Sharing("no") if sharing is None else sharing
        sharing.is_private = swarm_key is not None
        return cls(
            client_key(key_path),
            network.mdns,
            network.rates,
            sharing,
            network.site,
            swarm_key,
            dht=network.dht != "off",
            dht_public=network.dht_public,
        )

    def run(
        self,
        job: Job[T],
        progress: PlainProgress,
        show: Callable[[T], None] = lambda _result: None,
        *,
        is_endless: bool = False,
    ) -> None:
        """Run a job, show what it returns, and serve on for as long as the user wants.

        Args:
            job: gets the transport, what discovery finds, and the progress.
            progress: of the job.
            show: prints what it returned, as soon as it is done.
            is_endless: the user's end is the only one that the job has, and no interruption.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM came before that; everything was closed in order. Afterwards it is the
                end that was waited for.
        """
        import trio

        collect_garbage()
        if not trio.run(self._run, job, progress, show) and not is_endless:
            raise KeyboardInterrupt

    async def _run(self, job: Job[T], progress: PlainProgress, show: Callable[[T], None]) -> bool:
        """Returns whether the job was done."""
        import trio

        is_done = False
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope.cancel)
                async with AsyncExitStack() as stack:
                    interfaces = self._interfaces()
                    transport = await self._open(stack, interfaces)
                    hints = await stack.enter_async_context(self._discovery(transport, interfaces))
                    with progress:
                        result = await job(transport, hints, progress)
                    is_done = True
                    show(result)
                    sys.stdout.flush()  # whoever waits for it has it before we stay
                    await self.sharing.stay()
                nursery.cancel_scope.cancel()
        return is_done

    def _interfaces(self) -> Interfaces | None:
        """What tells the machine's addresses, where that is known to be needed."""
        if not self.mdns:
            return None
        from p2pboot.transport.interfaces import Interfaces

        return Interfaces()

    async def _open(self, stack: AsyncExitStack, interfaces: Interfaces | None) -> Transport:
        from p2pboot.transport.bandwidth import Bandwidth
        from p2pboot.transport.light import open_light
        from p2pboot.transport.limits import OF_A_CLIENT

        opened = partial(open_light, self.key, bandwidth=Bandwidth(self.rates), swarm_key=self.swarm_key)
        try:
            return await stack.enter_async_context(opened(self.sharing.listening(), OF_A_CLIENT, interfaces))
        except MachineError as error:
            if not self.sharing.listens_where_it_can:
                raise
            log.warning("nobody can dial this machine: %s", error.message, extra=Event.NOT_REACHABLE())
        return await stack.enter_async_context(opened())

    def stay_known(self, transport: Transport, nearness: Nearness, digest: str) -> None:
        """Find others, and be found by them, also while this client serves on.

        Args:
            transport: its network.
            nearness: who is near.
            digest: of the manifest that it has now, or the snapshot's root.
        """
        from p2pboot.fetch.asking.acquainting import Acquainting

        acquainting = Acquainting(transport, nearness)
        acquainting.look_for(digest)
        self.sharing.meanwhile(acquainting.run)

    def wider(self, transport: Transport, channel: str | None, arch: str | None) -> WiderSearch | None:
        """What looks further where nothing is found otherwise, for a channel and arch or for all; None: nobody does."""
        if not self.dht:
            return None
        from p2pboot.fetch.asking.wider import WiderSearch

        return WiderSearch(transport, (channel, arch), public=self.dht_public)

    def _discovery(
        self, transport: Transport, interfaces: Interfaces | None
    ) -> AbstractAsyncContextManager[Hints]:
        if not self.mdns:
            return nullcontext()
        from p2pboot.transport.mdns import open_mdns

        told = transport.addresses if self.sharing.is_on else tuple
        return open_mdns(transport.peer_id, told, listens_on=transport.listens_on, interfaces=interfaces)


async def _cancel_on_signal(signals: AsyncIterator[int], cancel: Callable[[], None]) -> None:
    async for _ in signals:
        cancel()
