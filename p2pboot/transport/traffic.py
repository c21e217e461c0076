"""How many bytes a node exchanged with its peers: counted by each transport, where they pass."""

from __future__ import annotations

from collections import Counter
from typing import Final

from p2pboot.transport.interface import Forwarding, Validator

SENT: Final = "sent"
RECEIVED: Final = "received"
GOSSIP: Final = "gossip"  # payloads of messages; how often they were forwarded only the network knows


class Traffic(Counter[tuple[str, str]]):
    """Bytes by (protocol, SENT or RECEIVED); protocols are those of this program, never a peer's words."""

    def of_messages(self, validator: Validator) -> Validator:
        """Count the payloads of gossip messages that are validated."""

        async def counting(peer_id: str, payload: bytes) -> Forwarding:
            self[GOSSIP, RECEIVED] += len(payload)
            return await validator(peer_id, payload)

        return counting
