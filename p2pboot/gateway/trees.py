"""Device trees out of the one archive that holds them all, by the names they have on a disk.

An archive is an artifact like any other, verified piece by piece as it is read; what is in it is read once and
remembered, as that means passing over all of it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache, partial
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.devicetrees import Archive
from p2pboot.core.manifest import Artifact
from p2pboot.store.blobs import BlobStore

EXTENSION: Final = ".dtb"
_REMEMBERED: Final = 8  # archives; 0.4 MB each for arm64's 1,500 trees, 2 MB for the most that are allowed


@dataclass(frozen=True, slots=True)
class Representation:
    """Bytes to answer with: an artifact, or a part of one that has a name of its own.

    Args:
        sha256: of the artifact.
        start: where it begins in the artifact, bytes.
        size: how long it is, bytes.
        tag: its entity tag: another one whenever the bytes are others.
    """

    sha256: str
    start: int
    size: int
    tag: str

    @classmethod
    def whole(cls, sha256: str, size: int) -> Representation:
        """All of an artifact."""
        return cls(sha256, 0, size, sha256)

    @property
    def is_whole(self) -> bool:
        """Whether the tag is also the digest of what is sent."""
        return self.tag == self.sha256


class TreeArchives:
    """Finds device trees in archives; blocking, for any number of threads.

    Args:
        blobs: where the archives are.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._archive = lru_cache(_REMEMBERED)(self._read)

    def find(self, artifact: Artifact, name: str) -> Representation | None:
        """A device tree by its name on the disk, or without the extension; None if there is none.

        Args:
            artifact: the archive, wholly held.
            name: `<vendor>/<name>.dtb`, as it was asked for.

        Raises:
            Malformed: the artifact is no archive of device trees.
            BlobMissing, BlobGone: it is not here (any more).
        """
        member = self._archive(artifact.sha256, artifact.size).find(name)
        if member is None:
            return None
        tag = hashlib.sha256(f"{artifact.sha256} {member.name}".encode()).hexdigest()
        return Representation(artifact.sha256, member.offset, member.size, tag)

    def _read(self, sha256: str, size: int) -> Archive:
        return Archive.read(partial(self._blobs.read, sha256), size)
