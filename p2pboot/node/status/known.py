"""What the manifests that are here say of others: whose provider a peer is, and which release an artifact is of.

Read in a thread whenever the catalogue changed, so that nobody who wants to know has to read a manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import PublicKey
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store


@dataclass(frozen=True, slots=True)
class Release:
    """One manifest that is held.

    Args:
        digest: of the manifest.
        channel, arch, version: what it is.
        sizes: of its artifacts, bytes, by key.
    """

    digest: str
    channel: str
    arch: str
    version: str
    sizes: Mapping[str, int]


class Known:
    """What is known through manifests, as of the last look.

    Args:
        store: the manifests.
        catalogue: of that store; told whom the operator trusts.
    """

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue
        self.providers: Mapping[str, str] = {}
        """By peer id, what its operator calls it, in a manifest that is held or brought in."""
        self.publishers: frozenset[str] = frozenset()
        """The peer ids of the trusted keys, and of those providers."""
        self._releases: Mapping[str, Sequence[tuple[Release, str]]] = {}

    def releases_of(self, sha256: str) -> Sequence[tuple[Release, str]]:
        """The releases that name an artifact, each with the key that it has there; the newest first."""
        return self._releases.get(sha256, ())

    async def reconcile(self) -> None:
        """Look again at all of it.

        Raises:
            StoreError, MachineError: it can not be read; what was known before stays so.
        """
        self.providers, self._releases = await trio.to_thread.run_sync(self._look)
        keys = (key for publisher in self._catalogue.trust.publishers for key in publisher.keys)
        self.publishers = frozenset({*self.providers, *(PublicKey.from_keyid(key).peer_id for key in keys)})

    def _look(self) -> tuple[dict[str, str], dict[str, list[tuple[Release, str]]]]:
        providers: dict[str, str] = {}
        releases: dict[str, list[tuple[Release, str]]] = {}
        manifests = self._store.manifests
        rows = [*manifests.heads(), *manifests.pending()]
        for row in sorted(rows, key=lambda row: (row.created_at, row.manifest_version), reverse=True):
            claims = manifests.claims(row.digest)
            if claims is None or not self._catalogue.trust.takes(row):
                continue
            providers.setdefault(claims.provider_peer_id, claims.provider_name)
            sizes = {key: artifact.size for key, artifact in claims.artifacts.items()}
            release = Release(row.digest, *row.pair, claims.version, sizes)
            for key, artifact in claims.artifacts.items():
                releases.setdefault(artifact.sha256, []).append((release, key))
        return providers, releases
