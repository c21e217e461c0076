"""What the database of a state says, compared with the signed documents that are in it.

Who had the disk can write any row, and a node serves, also to firmware that checks nothing, what its rows say. So
before it serves anything, and again with every scrubbing, it reads each manifest as if a stranger had brought it: a
row that does not say what its document says goes, and with it what was made of it. A manifest that is missed then is
brought in again like any other.
"""

from __future__ import annotations

from collections import defaultdict

from p2pboot.core.manifest import Manifest, check_detached
from p2pboot.errors import Malformed, SignatureError
from p2pboot.store.manifests import HeadRow, Manifests
from p2pboot.store.store import Store


def audit(store: Store) -> tuple[str, ...]:
    """Remove what contradicts the documents that it came from; reads no artifact.

    Returns:
        What was removed, each a line for a person.

    Raises:
        StoreError: the database is damaged.
        MachineError: it can not be used.
    """
    found: list[str] = []
    tables: defaultdict[str, set[str]] = defaultdict(set)

    def is_false(row: HeadRow) -> bool:
        manifest = _document(store.manifests, row)
        if manifest is None:
            found.append(
                f"what is kept as manifest {row.digest} of {row.channel}/{row.arch} is not what was signed"
            )
            return True
        for artifact in manifest.artifacts.values():
            tables[artifact.sha256].add(artifact.table_digest)
        if _has_false_signature(store.manifests, manifest):
            found.append(f"the detached signature that is kept of manifest {row.digest} is not its signers'")
            store.manifests.drop_detached(row.digest)
        return False

    store.manifests.drop(is_false)
    found += [
        f"the piece table that is kept of sha256:{one} is not what was signed"
        for one in store.blobs.keep_tables(tables)
    ]
    return tuple(found)


def _document(manifests: Manifests, row: HeadRow) -> Manifest | None:
    """The signed manifest that a row is of; None where it is of none, or says something else."""
    stored = manifests.get(row.digest)
    try:
        manifest = None if stored is None else Manifest.parse(bytes(stored.raw))
    except (Malformed, SignatureError, TypeError):
        return None
    if manifest is None:
        return None
    said = (manifest.digest, (manifest.channel, manifest.arch), manifest.signers, manifest.manifest_version)
    dates = (manifest.created_at, manifest.expires_at)
    if said != (row.digest, row.pair, row.signers, row.manifest_version) or dates != (
        row.created_at,
        row.expires_at,
    ):
        return None
    named = {(artifact.sha256, artifact.table_digest) for artifact in manifest.artifacts.values()}
    return manifest if named == manifests.named_by(row.digest) else None


def _has_false_signature(manifests: Manifests, manifest: Manifest) -> bool:
    stored = manifests.get(manifest.digest)
    if stored is None or stored.detached is None:
        return False
    try:
        check_detached(manifest.raw, str(stored.detached), manifest.signers)
    except SignatureError:
        return True
    return False
