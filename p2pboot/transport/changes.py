"""Tells when this machine's interfaces or addresses change, as the kernel tells by netlink.

Spec: rtnetlink(7). What has changed is not read: whoever is told lists everything anew (`transport.interfaces`).
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from typing import Final

import trio

log = logging.getLogger(__name__)

# <linux/rtnetlink.h>: links, and addresses of both families
_GROUPS: Final = 0x1 | 0x10 | 0x100
_BYTES: Final = 65536
_TOGETHER_S: Final = 0.25  # a cable that is plugged in is several changes, and containers come in dozens


class Changes:
    """Listens from the moment that it is made until it is closed; where the kernel tells nothing, nothing comes."""

    def __init__(self) -> None:
        self._kernel: socket.socket | None = None
        try:
            self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._kernel.setblocking(False)
            self._kernel.bind((0, _GROUPS))
        except OSError as error:
            log.debug("changes of interfaces are not told: %s", error)
            self.close()

    async def wait(self) -> None:
        """Return a moment after there was a change."""
        if self._kernel is None:
            await trio.sleep_forever()
        await trio.lowlevel.wait_readable(self._kernel.fileno())
        await trio.sleep(_TOGETHER_S)
        with suppress(
            OSError
        ):  # that there is nothing more, or that it was too much: it is a change in any case
            while True:
                self._kernel.recv(_BYTES)

    def close(self) -> None:
        """Listen no longer."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None
