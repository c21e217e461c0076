"""How many replies have come on a stream, without keeping them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

from typing_extensions import override

from p2pboot.wire.kad import MessageReader
from p2pboot.wire.multistream import GREETING, encode_line
from p2pboot.wire.varint import decode_varint
from siege.peer import Stream


class Replies(ABC):
    """Takes what comes on one stream.

    Args:
        protocol: the stream's.
    """

    def __init__(self, protocol: str) -> None:
        self._negotiation = len(encode_line(GREETING) + encode_line(protocol))
        self._taken: list[str] = []

    def hear(self, data: bytes) -> None:
        """Take some more."""
        skipped = min(self._negotiation, len(data))
        self._negotiation -= skipped
        self.receive(data[skipped:])

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Take some more of what comes behind the negotiation."""

    def complete(self, status: str) -> None:
        """A reply has come."""
        self._taken.append(status)

    async def more(self, stream: Stream) -> None:
        """Wait until there is something to take.

        Raises:
            EOFError: the node ended the stream.
        """
        while not self._taken:
            if stream.over:
                raise EOFError("the node ended a stream")
            await stream.changed.wait()

    def take(self) -> list[str]:
        """Return the statuses of the replies that have come since the last call."""
        taken, self._taken = self._taken, []
        return taken


class P2PBootReplies(Replies):
    """Of a p2pboot protocol; the status is what the header says."""

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)
        self._skip = 0
        self._header = bytearray()
        self._status = ""

    @override
    def receive(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._skip:
                count = min(self._skip, len(data) - at)
                self._skip -= count
                at += count
                if not self._skip:
                    self.complete(self._status)
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
            self.complete(self._status)


class KadReplies(Replies):
    """Of the hash table; the status is the message's type."""

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)
        self._messages = MessageReader()

    @override
    def receive(self, data: bytes) -> None:
        self._messages.receive(data)
        while (message := self._messages.next()) is not None:
            self.complete(message.type.name.lower())
