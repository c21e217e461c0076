"""The names by which a node may be asked what it says of itself.

A page in somebody's browser can have its own name lead to this machine ("DNS rebinding"), and then read what is here
as if it were its own site: the browser says that name in `Host`. So what tells about the node is told only under names
that the page's author cannot have: addresses, and names of this machine. Machines that boot are no browsers, and what
they load is for everybody: they may use whatever name leads here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import trio

from p2pboot.gateway.hosts import is_host, is_ip

_LOCALHOST: Final = "localhost"


class Names:
    """Knows what this machine is called.

    Args:
        advertised: beginnings of URLs that the operator gave.
        announced: by which name it is found on the local network.
    """

    def __init__(self, advertised: Iterable[str], announced: str) -> None:
        hosts = (urlsplit(base).hostname for base in advertised)
        self._given = {_plain(host) for host in (_LOCALHOST, announced, *hosts) if host}
        self._full = ""  # as the resolver knows it

    async def learn(self) -> None:
        """Ask the resolver for the machine's full name, which can take as long as it likes."""
        # The stubs know an older name of the argument.
        ask = partial(trio.to_thread.run_sync, socket.getfqdn, abandon_on_cancel=True)  # type: ignore[call-arg]
        with suppress(OSError):
            self._full = _plain(await ask())

    def has(self, host: str) -> bool:
        """Whether a Host field is an address or a name of this machine, with any port."""
        if not is_host(host):
            return False
        name = urlsplit(f"//{host}").hostname or ""
        if is_ip(name):
            return True
        name = _plain(name)
        return name in self._given or name == self._full or name in _own_names()


def host_name(peer_id: str) -> str:
    """The name of the host that a node's announcements lead to (`gateway.dnssd`), with a dot at its end."""
    return f"p2pboot-{peer_id[-12:].lower()}.local."


def _own_names() -> set[str]:
    """What the kernel calls the machine, now; without its domain; and either in the local network's own domain."""
    name = _plain(socket.gethostname())
    short = name.partition(".")[0]
    return {one for one in (name, short, f"{name}.local", f"{short}.local") if not one.startswith(".")} - {""}


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
