"""What a state takes, and what for: by publisher, release and artifact; and what the disk and the quota leave."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Artifact, Manifest
from p2pboot.core.policy import TrustPolicy
from p2pboot.errors import Malformed, SignatureError, machine_error
from p2pboot.store.blobs import BlobStore
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.durable import free_bytes
from p2pboot.store.filenames import MEMORY_FILES
from p2pboot.store.garbage import collect_garbage, disk_bytes
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store

WHOLE: Final = "whole"
PARTIAL: Final = "partial"
IN_PLACE: Final = "in place"
MISSING: Final = "missing"


@dataclass(frozen=True, slots=True)
class ArtifactUsage:
    """What one artifact of a release takes.

    Args:
        name: its key.
        sha256: of the artifact.
        size: bytes.
        state: "whole", "partial", "in place" (served where the publisher has it), "missing".
        disk_bytes: what it takes of the disk, holes not counted.
        shared_with: other releases here that name the same content, which is kept once.
    """

    name: str
    sha256: str
    size: int
    state: str
    disk_bytes: int
    shared_with: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "size": self.size,
            "state": self.state,
            "disk_bytes": self.disk_bytes,
            "shared_with": list(self.shared_with),
        }


@dataclass(frozen=True, slots=True)
class ReleaseUsage:
    """What one release takes.

    Args:
        row: what is known of its manifest.
        version: for people.
        artifacts: in the order of the manifest.
    """

    row: HeadRow
    version: str
    artifacts: tuple[ArtifactUsage, ...]

    @property
    def name(self) -> str:
        """What it is called: `stable/x86_64#7`."""
        return _name(self.row)

    @property
    def disk_bytes(self) -> int:
        """What it takes, shared content included."""
        return sum({one.sha256: one.disk_bytes for one in self.artifacts}.values())

    @property
    def own_bytes(self) -> int:
        """What would be free without it."""
        return sum({one.sha256: one.disk_bytes for one in self.artifacts if not one.shared_with}.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "channel": self.row.channel,
            "arch": self.row.arch,
            "version": self.version,
            "manifest_version": self.row.manifest_version,
            "digest": self.row.digest,
            "role": "parked" if self.row.is_parked else self.row.role,
            "disk_bytes": self.disk_bytes,
            "own_bytes": self.own_bytes,
            "artifacts": [one.to_json() for one in self.artifacts],
        }


def releases(store: Store) -> list[ReleaseUsage]:
    """What each release takes that is here or on its way, by channel, arch and number, the newest first.

    Raises:
        StoreError, MachineError: the store can not be read.
    """
    known: list[tuple[HeadRow, Manifest]] = []
    for row in sorted(store.manifests.all(), key=lambda row: (row.pair, -row.manifest_version)):
        stored = store.manifests.get(row.digest)
        try:
            if stored is not None:
                known.append((row, Manifest.parse(bytes(stored.raw))))
        except (Malformed, SignatureError, TypeError):
            continue  # the disk damaged it, which a check says
    naming: dict[str, list[str]] = {}
    for row, manifest in known:
        for sha256 in {one.sha256 for one in manifest.artifacts.values()}:
            naming.setdefault(sha256, []).append(_name(row))
    return [
        ReleaseUsage(
            row,
            manifest.version,
            tuple(_usage(store.blobs, one, naming, _name(row)) for one in manifest.artifacts.values()),
        )
        for row, manifest in known
    ]


def describe_usage(store: Store, catalogue: Catalogue, policy: TrustPolicy) -> dict[str, Any]:
    """Everything that a state takes, as plain values; sizes in bytes.

    Args:
        store: it is only read.
        catalogue: of the same store.
        policy: whose releases are told apart.

    Raises:
        StoreError, MachineError: the store can not be read.
    """
    found = releases(store)
    publishers: dict[str, list[ReleaseUsage]] = {}
    for release in found:
        publishers.setdefault(_publisher(release.row, policy), []).append(release)
    try:
        status = os.statvfs(store.path)
    except OSError as error:
        raise machine_error(error, f"look at {store.path}") from error
    garbage = collect_garbage(store, catalogue, dry_run=True)
    files = store.blobs.files
    return {
        "state": str(store.path),
        "used": store.blobs.used_bytes(),
        "disk_bytes": sum(
            disk_bytes(files.whole(one)) + disk_bytes(files.partial(one)) for one in files.digests()
        ),
        "memory_bytes": sum(disk_bytes(store.path / name) for name in MEMORY_FILES),
        "limit": store.blobs.room.limit_bytes(),
        "quota": store.blobs.quota_bytes,
        "disk": {"size": status.f_blocks * status.f_frsize, "free": free_bytes(store.path)},
        "publishers": [
            {
                "publisher": name,
                "disk_bytes": _together(releases),
                "releases": [one.to_json() for one in releases],
            }
            for name, releases in publishers.items()
        ],
        "garbage": [one.to_json() for one in garbage],
    }


def _together(releases: list[ReleaseUsage]) -> int:
    """What several take, shared content once."""
    artifacts = {one.sha256: one.disk_bytes for release in releases for one in release.artifacts}
    return sum(artifacts.values())


def _usage(blobs: BlobStore, artifact: Artifact, naming: dict[str, list[str]], release: str) -> ArtifactUsage:
    whole, partial = blobs.files.whole(artifact.sha256), blobs.files.partial(artifact.sha256)
    if os.path.exists(whole):
        state = WHOLE
    elif blobs.in_place(artifact.sha256):
        state = IN_PLACE
    else:
        state = PARTIAL if os.path.exists(partial) else MISSING
    others = Counter(naming[artifact.sha256])
    del others[release]
    return ArtifactUsage(
        artifact.key,
        artifact.sha256,
        artifact.size,
        state,
        disk_bytes(whole) + disk_bytes(partial),
        tuple(sorted(others)),
    )


def _publisher(row: HeadRow, policy: TrustPolicy) -> str:
    publisher = policy.publisher_for(*row.pair)
    if publisher is not None and publisher.is_met_by(row.signers):
        return publisher.shown
    return ", ".join(row.signers)


def _name(row: HeadRow) -> str:
    return f"{row.channel}/{row.arch}#{row.manifest_version}"
