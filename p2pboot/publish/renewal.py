"""Renewing what is in force without looking at the directory: the same content, said again with a later date.

For when the directory holds something that can not be published, or is being written to, while the files of the
release in force are still what they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Artifact, Manifest, ManifestBody, add_signature, compose
from p2pboot.publish.build import BuildOptions
from p2pboot.publish.numbering import Series, Wishes, claim
from p2pboot.store.publications import Publications


def renew(
    manifest: Manifest,
    options: BuildOptions,
    *,
    key: SecretKey,
    publications: Publications,
    now: int,
    floor: int = 0,
) -> bytes:
    """Return the document to hand out for the content of a manifest: the one in force, or the next one.

    Args:
        manifest: of the key alone.
        options: what the operator says of provider and validity; the version stays.
        key: the signer.
        publications: counters and last documents.
        now: unix seconds.
        floor: as for :func:`.build`.

    Raises:
        UsageError: an option can not be said in a manifest.
        StoreError, MachineError: the state directory.
    """
    wishes = Wishes(manifest.version, None, options.expires_in_s, now, floor)
    return claim(_Again(manifest, options), publications, wishes, lambda raw: add_signature(raw, key)).raw


@dataclass(frozen=True, slots=True)
class _Again:
    """What a manifest says, whatever its number and dates."""

    manifest: Manifest
    options: BuildOptions

    @property
    def series(self) -> Series:
        return Series(self.manifest.signers, self.manifest.channel, self.manifest.arch)

    def compose(
        self, *, version: str, manifest_version: int, created_at: int, expires_at: int
    ) -> ManifestBody:
        manifest = self.manifest
        return compose(
            version=version,
            manifest_version=manifest_version,
            channel=manifest.channel,
            arch=manifest.arch,
            created_at=created_at,
            expires_at=expires_at,
            artifacts=[self._artifact(one) for one in manifest.artifacts.values()],
            provider_peer_id=self.options.peer_id or manifest.provider_peer_id,
            provider_name=self.options.name,
            signers=manifest.signers,
            cmdline=manifest.cmdline,
        )

    def _artifact(self, artifact: Artifact) -> Artifact:
        """Name it where it can be had now; not in more places than there was room for."""
        bases = self.options.urls[: len(artifact.urls)]
        return replace(artifact, urls=tuple(f"{base.rstrip('/')}/blobs/{artifact.sha256}" for base in bases))
