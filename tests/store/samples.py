"""Artifacts and signed manifests that are the same in every run."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from blake3 import blake3

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Artifact, Manifest, compose, sign
from p2pboot.core.pieces import MIN_PIECE, PieceTable

PIECE = MIN_PIECE
# The smallest artifact; around the edge of a piece one short of it, exact, one over; several with a rest.
SIZES = (1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17)
KEY = SecretKey.from_seed(bytes(range(32)))
OTHER_KEY = SecretKey.from_seed(bytes(range(1, 33)))


@dataclass(frozen=True)
class Sample:
    data: bytes
    artifact: Artifact
    table: PieceTable

    @property
    def sha256(self) -> str:
        return self.artifact.sha256

    def piece(self, index: int) -> bytes:
        offset, length = self.table.span(index)
        return self.data[offset : offset + length]


def table_of(data: bytes, piece_length: int = PIECE) -> PieceTable:
    pieces = (data[start : start + piece_length] for start in range(0, len(data), piece_length))
    return PieceTable(len(data), piece_length, b"".join(blake3(piece).digest() for piece in pieces))


def sample(
    size: int, seed: int = 0, *, key: str = "kernel", piece_length: int = PIECE, sha256: str | None = None
) -> Sample:
    """Make an artifact; with `sha256` one whose publisher states a wrong SHA-256."""
    data = random.Random(seed).randbytes(size)
    return sample_of(data, key=key, piece_length=piece_length, sha256=sha256)


def sample_of(
    data: bytes, *, key: str = "kernel", piece_length: int = PIECE, sha256: str | None = None
) -> Sample:
    """Make an artifact of given content."""
    table = table_of(data, piece_length)
    artifact = Artifact.describe(
        key,
        channel="stable",
        arch="arm64",
        sha256=sha256 or hashlib.sha256(data).hexdigest(),
        size=len(data),
        piece_length=piece_length,
        table_digest=table.digest,
    )
    return Sample(data, artifact, table)


def manifest(
    version: int,
    *samples: Sample,
    keys: tuple[SecretKey, ...] = (KEY,),
    channel: str = "stable",
    created_at: int = 1_764_158_400,
    text: str = "2025.11.26",
) -> Manifest:
    """Sign a manifest; kernel and initramfs are made up when no samples are given."""
    chosen = samples or (sample(1, seed=1), sample(2, seed=2, key="initramfs"))
    artifacts = [
        Artifact.describe(
            chosen_sample.artifact.key,
            channel=channel,
            arch="arm64",
            sha256=chosen_sample.sha256,
            size=chosen_sample.artifact.size,
            piece_length=chosen_sample.table.piece_length,
            table_digest=chosen_sample.table.digest,
        )
        for chosen_sample in chosen
    ]
    body = compose(
        version=text,
        manifest_version=version,
        channel=channel,
        arch="arm64",
        created_at=created_at,
        expires_at=created_at + 30 * 86400,
        artifacts=artifacts,
        provider_peer_id=keys[0].public.peer_id,
        provider_name="test",
        signers=[key.public.keyid for key in keys],
    )
    return Manifest.parse(sign(body, keys))
