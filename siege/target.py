"""What attackers are told of the node under attack: how to reach it, and what it holds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p2pboot.core.identity import SecretKey
from p2pboot.core.pieces import piece_count
from p2pboot.protocol.messages import manifest_topic

MIB = 1 << 20
CHANNEL, ARCH = "stable", "x86_64"
OPEN, PRIVATE, LAN = "open", "private", "lan"
"""Rooms: the node is of the network of all; in a private mesh, of which attackers have not the key; or on a network
with them, where it looks for others by mDNS.
"""
SECOND_CHANNEL = "second"
"""Of the publisher that is trusted and means no good."""


@dataclass(frozen=True)
class Target:
    """One node.

    Args:
        host, port, peer_id: where it speaks libp2p, and as whom.
        http: host and port of its gateway.
        path: of the largest artifact there.
        sha256, size: of the same artifact.
        table, piece_length: BLAKE3 of its piece table, and how it is cut, bytes.
        second_seed: of the secret key whose manifests of `SECOND_CHANNEL` it trusts, as hex.
        fleet: of the root that it lives by.
        vouching_seed: of a stolen secret key that says what is fresh, as hex.
        head_version, head_digest: of the manifest of `CHANNEL` that it began with.
    """

    host: str
    port: int
    peer_id: str
    http: tuple[str, int]
    path: str
    sha256: str
    size: int
    table: str
    piece_length: int
    second_seed: str
    fleet: str
    vouching_seed: str
    head_version: int
    head_digest: str

    @property
    def pieces(self) -> int:
        """How many pieces that artifact has."""
        return piece_count(self.size, self.piece_length)

    @property
    def topic(self) -> str:
        """On which it hears the honest publisher."""
        return manifest_topic(CHANNEL, ARCH)

    @property
    def second_key(self) -> SecretKey:
        """Of the trusted publisher that means no good."""
        return SecretKey(bytes.fromhex(self.second_seed))

    @property
    def vouching_key(self) -> SecretKey:
        """A key that says what is fresh, in the hands of a thief."""
        return SecretKey(bytes.fromhex(self.vouching_seed))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Target:
        said: dict[str, Any] = json.loads(path.read_text())
        return cls(**{**said, "http": tuple(said["http"])})
