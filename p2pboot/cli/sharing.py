"""What a command that fetches gives to others: where it listens, whom it serves, how long it stays when it is done.

What answers is loaded for the first who asks: mostly nobody does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from p2pboot.cli.options import Decorator, options
from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import is_private
from p2pboot.core.timestamps import parse_duration
from p2pboot.errors import UsageError
from p2pboot.transport.addresses import parse_address

if TYPE_CHECKING:
    from p2pboot.serving.accounts import Serving
    from p2pboot.serving.heads import Offered
    from p2pboot.serving.server import Server
    from p2pboot.transport.interface import Connection, Stream, Transport
    from p2pboot.transport.interfaces import Interfaces
    from p2pboot.transport.nearness import Nearness

ANYWHERE: Final = ("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0")
"""Where a client listens if nobody says otherwise: a free port, of each family that the machine has."""

IDLE_S: Final = 30.0
LONGEST_IDLE_S: Final = 600.0
_LOOK_S: Final = 1.0
_FOR_EVER: Final = math.inf

# Whoever is connected asks for these now and then, or all the time, whether it wants anything or not.
_LOOKING_AROUND: Final = frozenset({"heads", "peers", "changes", "refused", "bad_request"})
_SOME_BYTES: Final = 32 * 1024
"""More than the replies to these have: a long one is on its way to somebody slow, who still wants it."""

Whom = Literal["lan", "any", "no"]


@dataclass(frozen=True, slots=True)
class Linger:
    """How long to serve on when the own work is done.

    Args:
        most_s: seconds at most; 0 not at all.
        idle_s: after so many seconds in which nobody asked for anything it is over.
    """

    most_s: float
    idle_s: float = _FOR_EVER


def read_linger(_ctx: click.Context | None, _param: click.Parameter | None, value: str) -> Linger:
    """Read the value of `--linger`, as click wants it; click.BadParameter where it is none."""
    match value:
        case "0" | "0s":
            return Linger(0)
        case "until-idle":
            return Linger(LONGEST_IDLE_S, IDLE_S)
        case "forever":
            return Linger(_FOR_EVER)
    try:
        return Linger(parse_duration(value))
    except ValueError:
        raise click.BadParameter(
            f'must be 0, a duration like "60s", until-idle or forever, not {value[:40]!r}'
        ) from None


sharing_options: Decorator[Any] = options(
    click.option(
        "--listen",
        multiple=True,
        metavar="MULTIADDR",
        help="Address to listen on, where others get what is fetched here; repeatable."
        "  [default: any free port]",
    ),
    click.option(
        "--serve",
        type=click.Choice(("lan", "any", "no")),
        default="lan",
        show_default=True,
        help="Whom to give what is fetched: the local network (and, with --swarm-key, all of its mesh), anybody, or"
        " nobody.",
    ),
    click.option(
        "--linger",
        callback=read_linger,
        default="0",
        show_default=True,
        metavar="DURATION|until-idle|forever",
        help="How long to serve on when all is in place; until-idle: until nobody asked for 30 s, at most 10 minutes.",
    ),
)


class Sharing:
    """One client's part as a provider.

    Args:
        serve: whom.
        listen: multiaddrs that the user gave; none for the default.
        linger: how long it stays; None: not at all.
    """

    def __init__(self, serve: Whom, listen: tuple[str, ...] = (), linger: Linger | None = None) -> None:
        self._serve = serve
        self._listen = listen
        self.is_private = False
        """Whether all who can connect have proved that they are of one's own mesh, by its swarm key."""
        self.linger = linger or Linger(0)
        self._interfaces: Interfaces | None = None
        self._serving: Serving | None = None
        self._meanwhile: list[Callable[[], Awaitable[None]]] = []

    @classmethod
    def of(cls, params: dict[str, Any]) -> Sharing:
        """Take its options out of a command's parameters.

        Raises:
            UsageError: an address is none, or others are to find what nobody is to get.
        """
        listen, serve, linger = (params.pop(name) for name in ("listen", "serve", "linger"))
        if serve == "no" and (listen or linger.most_s):
            raise UsageError(
                f"{'--listen' if listen else '--linger'} is for others, and --serve no gives them nothing",
                remedy="leave one of the two out",
            )
        if listen:
            from p2pboot.config.values import listen_addresses

            try:
                listen = listen_addresses(listen, Path())
            except UsageError as error:
                raise UsageError(f"--listen: {error.message}", remedy=error.remedy) from None
        return cls(serve, listen, linger)

    @property
    def is_on(self) -> bool:
        """Whether anybody gets anything."""
        return self._serve != "no"

    @property
    def listens_where_it_can(self) -> bool:
        """Whether nobody said where: then it is no error if that is not possible."""
        return not self._listen

    def listening(self) -> tuple[str, ...]:
        """Multiaddrs to listen on; none where nobody is served."""
        if not self.is_on:
            return ()
        if self._listen:
            return self._listen
        from p2pboot.transport.addresses import can_listen

        return tuple(one for one in ANYWHERE if can_listen(parse_address(one).kind))

    # Serving

    def offer(
        self,
        transport: Transport,
        protocol: str,
        make: Callable[[Serving], Server],
        *,
        tells: bool = False,
    ) -> None:
        """Answer a protocol to those who are served; the others' streams are reset.

        Args:
            transport: of this client.
            protocol: its name.
            make: makes what answers, when the first asks, on the one account of this client.
            tells: answer those whom we dialled as well, and whoever is made asks `serves` before it gives something: a
                provider that deals out pieces hears what came of them wherever in the world it is, or it would have to
                deal them again.
        """
        if not self.is_on:
            return

        @cache
        def server() -> Server:
            return make(self._account())

        async def handle(stream: Stream) -> None:
            connection = stream.connection
            if self.serves(connection) or (tells and transport.was_dialled(connection)):
                await server().handle(stream)
            else:
                await stream.reset()

        transport.handle(protocol, handle)

    def introduce(
        self,
        transport: Transport,
        nearness: Nearness,
        catalogue: Offered | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Tell those who are served of each other, and of the manifests that are wholly here.

        Args:
            transport: of this client.
            nearness: is told where they say that they stand.
            catalogue: the manifests; None where there are none.
            wall: the machine's clock, unix seconds.
        """
        from p2pboot.protocol.messages import SYNC_PROTOCOL

        def sync(serving: Serving) -> Server:
            from p2pboot.serving.heads import NothingOffered, SyncServer

            return SyncServer(
                catalogue or NothingOffered(),
                transport.peer_records,
                lambda: int(wall()),
                serving,
                lambda _channel, _arch: (),
                read_record=transport.read_peer_record,
                note_site=nearness.note,
                is_clients=True,
            )

        self.offer(transport, SYNC_PROTOCOL, sync)

    def meanwhile(self, run: Callable[[], Awaitable[None]]) -> None:
        """Have something run, until it is cancelled, as long as this client stays."""
        self._meanwhile.append(run)

    def _account(self) -> Serving:
        if self._serving is None:
            from p2pboot.serving.accounts import Serving
            from p2pboot.serving.limits import OF_A_CLIENT

            self._serving = Serving(OF_A_CLIENT)
        return self._serving

    def serves(self, connection: Connection) -> bool:
        """Whether the peer at the other end of a connection is given anything.

        It goes by the address that the peer has on it, whoever dialled: a provider somewhere in the world is no
        neighbour because we found it. In a private mesh everybody is, wherever he is.
        """
        if self._serve != "lan":
            return self._serve == "any"
        if self.is_private or is_private(connection.address):
            return True
        # As hosts with public addresses have their neighbours.
        from p2pboot.transport.interfaces import Interfaces
        from p2pboot.transport.scopes import on_link

        self._interfaces = self._interfaces or Interfaces()
        return on_link(parse_address(connection.address).host, self._interfaces.listing().addresses)

    # Staying

    async def stay(self) -> None:
        """Serve on for as long as the user said; the caller cancels it on a signal."""
        import trio

        async with trio.open_nursery() as nursery:
            for run in self._meanwhile if self.linger.most_s else ():
                nursery.start_soon(run)
            await self._stay()
            nursery.cancel_scope.cancel()

    async def _stay(self) -> None:
        import trio

        with trio.move_on_after(self.linger.most_s):
            (asked, sent), since = self._given(), trio.current_time()
            while trio.current_time() - since < self.linger.idle_s:
                await trio.sleep(_LOOK_S)
                asked_now, sent_now = self._given()
                if asked_now != asked or sent_now - sent >= _SOME_BYTES:
                    (asked, sent), since = (asked_now, sent_now), trio.current_time()

    def _given(self) -> tuple[int, int]:
        """Requests so far of those who want something, and bytes that went to anybody."""
        if self._serving is None:
            return 0, 0
        counters = self._serving.counters
        asked = sum(count for (_, op, _), count in counters.requests.items() if op not in _LOOKING_AROUND)
        return asked, counters.bytes_sent.total()
