"""The answering side of a stranger: streams that the node opens, with whatever answers an attack has for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from p2pboot.protocol.frames import FrameReader, encode_frame
from p2pboot.wire.multistream import Listener

Answer = Callable[[Mapping[str, Any]], bytes | None]
"""Makes the reply to a request, header and body; None for silence."""


class Answering:
    """One stream that the node opened: bytes in, bytes out.

    Args:
        answers: by protocol.
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers
        self._negotiation = Listener(answers)
        self._frames = FrameReader()
        self._answer: Answer | None = None

    def receive(self, data: bytes) -> bytes:
        """Take what the node sent; returns what it is to have.

        Raises:
            NoCommonProtocol: it asks for nothing that is spoken here.
        """
        said = b""
        if self._answer is None:
            self._negotiation.receive(data)
            said = self._negotiation.data_to_send()
            if self._negotiation.selected is None:
                return said
            self._answer = self._answers[self._negotiation.selected]
            data = self._negotiation.trailing_data
        self._frames.receive_data(data)
        while (payload := self._frames.next_frame()) is not None:
            said += self._answer(json.loads(payload)) or b""
        return said


def reply(body: bytes) -> bytes:
    """What was asked for."""
    return encode_frame({"status": "ok", "length": len(body)}) + body


def refusal(status: str) -> bytes:
    """Nothing."""
    return encode_frame({"status": status})
