"""What a manifest says, as values: artifacts and the statement about them.

These values know nothing of JSON or signatures; :mod:`.document` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import sha256_cid
from p2pboot.core.manifest.rollout import Rollout
from p2pboot.core.names import artifact_path


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file that a manifest vouches for."""

    key: str
    """``kernel``, ``initramfs``, ``uki``, ``rootfs``, ``dtbs.tar``, another plain name, or ``dtbs/<name>``."""
    sha256: str
    """Of the whole file, 64 lowercase hex digits."""
    size: int
    """Bytes, from 1 to 2^53-1."""
    path: str
    """Always ``/<channel>/<arch>/<key>``."""
    urls: tuple[str, ...]
    """Where it can be had over HTTP; hints, may be empty."""
    piece_length: int
    """Bytes, a power of two from 64 KiB to 16 MiB."""
    table_digest: str
    """BLAKE3 of the piece table, 64 lowercase hex digits."""
    cid: str
    """CIDv1 (raw, sha2-256) of the whole file."""

    @classmethod
    def describe(
        cls,
        key: str,
        *,
        channel: str,
        arch: str,
        sha256: str,
        size: int,
        piece_length: int,
        table_digest: str,
        urls: Sequence[str] = (),
    ) -> Artifact:
        """Describe a hashed file for a manifest; path and CID follow from the rest.

        Raises:
            ValueError: ``sha256`` is not 64 lowercase hex digits. :func:`.compose` judges everything else.
        """
        return cls(
            key=key,
            sha256=sha256,
            size=size,
            path=artifact_path(channel, arch, key),
            urls=tuple(urls),
            piece_length=piece_length,
            table_digest=table_digest,
            cid=sha256_cid(sha256),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What the signers of a manifest state. Every field has passed the rules of the format."""

    version: str
    """The image's version, free text."""
    manifest_version: int
    """Counts up per (signers, channel, arch), from 1."""
    channel: str
    arch: str
    created_at: int
    """Unix seconds."""
    expires_at: int
    """Unix seconds, later than ``created_at``; the manifest is not valid from here on."""
    artifacts: Mapping[str, Artifact]
    """By key, sorted; read-only."""
    cmdline: str | None
    provider_peer_id: str
    """Who built it, by its own word: nothing is ever decided by it."""
    provider_name: str
    signers: tuple[str, ...]
    """Key ids, sorted: exactly who signs."""
    rollout: Rollout | None = None
    """To which machines it is given, and when; None for all."""
