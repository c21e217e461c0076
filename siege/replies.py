"""How many replies have come on a stream, without keeping them."""

from __future__ import annotations

import json

import trio

from p2pboot.wire.multistream import GREETING, encode_line
from p2pboot.wire.varint import decode_varint


class Replies:
    """Takes what comes on one stream of a p2pboot protocol.

    Args:
        protocol: the stream's.
    """

    def __init__(self, protocol: str) -> None:
        self._skip = len(encode_line(GREETING) + encode_line(protocol))
        self._header = bytearray()
        self._taken: list[str] = []
        self._status = ""
        self._changed = trio.Event()

    def hear(self, data: bytes) -> None:
        """Take some more."""
        at = 0
        while at < len(data):
            if self._skip:
                count = min(self._skip, len(data) - at)
                self._skip -= count
                at += count
                if not self._skip:
                    self._complete()
                continue
            self._header.append(data[at])
            at += 1
            self._try_header()

    def _try_header(self) -> None:
        prefix = decode_varint(self._header, max_bytes=2)
        if prefix is None or len(self._header) < sum(prefix):
            return
        said = json.loads(self._header[prefix[1] :])
        self._header.clear()
        self._status, self._skip = str(said["status"]), int(said.get("length", 0))
        if not self._skip:
            self._complete()

    def _complete(self) -> None:
        if self._status:  # otherwise it was the negotiation
            self._taken.append(self._status)
            self._changed.set()
        self._status = ""

    async def more(self) -> None:
        """Wait until there is something to take."""
        while not self._taken:
            self._changed = trio.Event()
            await self._changed.wait()

    def take(self) -> list[str]:
        """Return the statuses of the replies that have come since the last call."""
        taken, self._taken = self._taken, []
        return taken
