"""Where a running node can be reached, followed: printed, logged and signed again when it changes.

The network and the services tell where they are at the moment. What they tell becomes the node's word (a line on
standard output, URLs in signed manifests) only when it stayed the same for some seconds: an interface that goes up and
down must not make a manifest version each time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import trio

from p2pboot.core.events import Event
from p2pboot.core.problems import Code, Problem
from p2pboot.transport.interface import Transport
from p2pboot.transport.interfaces import Interfaces

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0  # how often it is looked
SETTLED_S: Final = 5.0  # a change is one when it lasted so long

_ALLOW_NETLINK: Final = (
    "add AF_NETLINK to RestrictAddressFamilies= in the unit, or name one address with --listen, and --no-mdns"
)
_GIVE_ADDRESS: Final = (
    "give it one, by DHCP, by a router that announces an IPv6 prefix, or by hand; it is used at once"
)
_PLUG_IN: Final = "look at cable and switch, or bring the interface up; it is used at once"
_NO_MULTICAST: Final = (
    "allow multicast on port 5353, name peers with --bootstrap, or switch it off with --no-mdns"
)


class Reachability:
    """Where a node can be reached, as it has been for some seconds.

    Args:
        transport: tells its addresses.
        urls: tells the beginnings of the HTTP URLs under which its artifacts can be had now.
        interfaces: what the transport learns the machine's addresses from.
    """

    def __init__(
        self, transport: Transport, urls: Callable[[], Iterable[str]], interfaces: Interfaces
    ) -> None:
        self._transport = transport
        self._live_urls = urls
        self._interfaces = interfaces
        self._undiscovered: str | None = None
        self.best, self._urls = self._look()
        """The address for whoever wants to reach the node; None while there is none."""

    def urls(self) -> Sequence[str]:
        """The HTTP URLs' beginnings; may be called from any thread."""
        return self._urls

    def note_discovery(self, reason: str | None) -> None:
        """Take down why no peers can be found on the local network, or None when they can."""
        self._undiscovered = reason

    def problems(self) -> list[Problem]:
        """What is wrong with finding out where we and others are."""
        refused = self._interfaces.refused
        if refused is not None:  # of which the want of discovery is a part
            text = f"not allowed to list this machine's interfaces by AF_NETLINK ({refused})"
            if self._undiscovered is not None:
                text += ": addresses may be missing, and there is no discovery on the local network"
            return [Problem(Code.INTERFACES, "network", text, _ALLOW_NETLINK)]
        if self._undiscovered is not None:
            text = f"no discovery on the local network: {self._undiscovered}"
            return [Problem(Code.LOCAL_DISCOVERY, "network", text, self._remedy())]
        return []

    def _remedy(self) -> str:
        if self._interfaces.is_alone:
            return _GIVE_ADDRESS
        return _PLUG_IN if self._interfaces.is_unplugged else _NO_MULTICAST

    async def follow(
        self,
        *,
        moved: Callable[[str], None],
        urls_changed: Callable[[], None],
        report: Callable[[list[Problem]], None],
    ) -> None:
        """Look until cancelled.

        Args:
            moved: is given the best address when it is another one.
            urls_changed: is called when `urls` are others; another order is no change.
            report: is given all that is wrong after every look.
        """
        seen, since = self._look(), trio.current_time()
        while True:
            report(self.problems())
            await trio.sleep(LOOK_S)
            now = self._look()
            if now != seen:
                seen, since = now, trio.current_time()
            elif trio.current_time() - since >= SETTLED_S:
                best, urls = now
                if best != self.best:
                    self.best = best
                    if best is None:
                        log.warning(
                            "this machine has no address left under which others could reach it",
                            extra=Event.NOT_REACHABLE(),
                        )
                    else:
                        log.info("reachable at %s", best, extra=Event.REACHABLE(multiaddr=best))
                        moved(best)
                if set(urls) != set(self._urls):
                    shown = ", ".join(urls) or "no address of this machine"
                    log.info("the HTTP gateway is reachable at %s", shown, extra=Event.REACHABLE(url=shown))
                    self._urls = urls
                    urls_changed()

    def _look(self) -> tuple[str | None, tuple[str, ...]]:
        return next(iter(self._transport.addresses()), None), tuple(self._live_urls())
