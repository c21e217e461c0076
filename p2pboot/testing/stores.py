"""Stores that hold something."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from p2pboot.core.manifest import Artifact, Manifest
from p2pboot.errors import BlobMissing
from p2pboot.store.blobs import BlobStore
from p2pboot.store.errors import BlobGone
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import table_of


def hold(store: Store, artifact: Artifact, data: bytes) -> Path:
    """Have an artifact in a store as a fetch brings it, piece by piece; return its file.

    Where the content has another SHA-256 than stated it stays a partial artifact with every piece.
    """
    partial = store.blobs.begin(artifact.sha256, table_of(data, artifact.piece_length))
    if partial is None:
        return store.blobs.path(artifact.sha256)
    for index in partial.held.missing():
        offset, length = partial.table.span(index)
        partial.write(index, data[offset : offset + length])
    return partial.finish() if hashlib.sha256(data).hexdigest() == artifact.sha256 else partial.path


def hold_all(store: Store, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Have every artifact of a manifest, whose contents are given by key."""
    for key, artifact in manifest.artifacts.items():
        hold(store, artifact, files[key])


def offer(store: Store, manifest: Manifest, files: Mapping[str, bytes], detached: str | None = None) -> None:
    """Have a manifest with all its artifacts, as the head of its channel and arch."""
    store.manifests.put(manifest, detached)
    hold_all(store, manifest, files)
    store.manifests.set_head(manifest.digest)


def is_intact(blobs: BlobStore, sha256: str) -> bool:
    """Read a whole artifact: whether it is held, and every piece of it what the table says."""
    table = blobs.table(sha256)
    if table is None or not blobs.holds(sha256):
        return False
    try:
        for index in range(table.count):
            blobs.read(sha256, *table.span(index))
    except (BlobMissing, BlobGone):
        return False
    return True
