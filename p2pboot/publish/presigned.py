"""A manifest that was signed elsewhere and lies beside its artifacts: ``manifest.json`` in the tree's directory.

So a machine can publish without holding the key that the fleet trusts, and a directory that was fetched can be
served again as what it is. A manifest that only the node's own key signs is none of these: the node builds its own.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import MAX_MANIFEST, Candidate, Manifest, check_detached
from p2pboot.core.names import DTB_ARCHIVE
from p2pboot.core.textfiles import decode_text
from p2pboot.core.timestamps import format_time
from p2pboot.errors import ArtifactError, Malformed, P2PBootError, SignatureError, machine_error
from p2pboot.publish.archive import files_to_publish
from p2pboot.publish.chosen import MANIFEST_NAME
from p2pboot.publish.tree import CMDLINE_FILE, Tree
from p2pboot.store.hashing import HashedPath, Progress, hash_file
from p2pboot.store.store import Store

DETACHED_NAME: Final = "manifest.json.sig"
_MAX_DETACHED: Final = 1024


@dataclass(frozen=True, slots=True)
class Presigned:
    """A complete manifest and the files that it names, which are what it says.

    Args:
        manifest: with the signatures of all its signers.
        detached: text of the detached signature beside it, or None.
        files: the artifacts.
    """

    manifest: Manifest
    detached: str | None
    files: tuple[HashedPath, ...]


def take_presigned(
    tree: Tree, *, own_keyid: str, store: Store, now: int, progress: Progress = lambda _done, _total: None
) -> Presigned | None:
    """Read the manifest beside a tree's artifacts, if others signed it, and check the artifacts against it.

    Args:
        tree: from :func:`p2pboot.publish.scan.scan_each`.
        own_keyid: of the node's own signing key.
        store: knows the digests of files, and keeps the archive of device trees if the manifest names one.
        now: unix seconds.
        progress: as for :func:`p2pboot.publish.hashing.hash_file`.

    Returns:
        None when there is none, or only the own key signs it.

    Raises:
        ArtifactError: it is none, waits for signatures, has expired, is for another channel or architecture, or
            does not fit the files.
        ChangedWhileHashing: a file is still being written.
        MachineError: something can not be read.
    """
    path = tree.directory / MANIFEST_NAME
    raw = _read(path, MAX_MANIFEST)
    if raw is None:
        return None
    try:
        candidate = Candidate.decode(raw)
        if candidate.signers == (own_keyid,):
            return None
        if candidate.missing_signers:
            raise ArtifactError(
                f"{path} waits for the signatures of {', '.join(candidate.missing_signers)}",
                remedy=f"p2pboot manifest sign {path} --key PATH, with each of these keys",
            )
        manifest = Manifest.parse(raw)
    except (Malformed, SignatureError) as error:
        raise ArtifactError(f"{path}: {error.message}", remedy=_remedy(path)) from None
    _check_terms(manifest, tree, path, now)
    return Presigned(manifest, _detached(tree, manifest), _check_files(manifest, tree, path, store, progress))


def signers_beside(tree: Tree) -> tuple[str, ...] | None:
    """Who is said to sign the manifest beside a tree's artifacts; None when none lies there that can be read."""
    try:
        raw = _read(tree.directory / MANIFEST_NAME, MAX_MANIFEST)
        return None if raw is None else Candidate.decode(raw).signers
    except P2PBootError:
        return None


def _remedy(path: Path) -> str:
    return (
        f"put the manifest that belongs to these files there, or remove {path} to sign with this node's key"
    )


def _check_terms(manifest: Manifest, tree: Tree, path: Path, now: int) -> None:
    if (manifest.channel, manifest.arch) != (tree.channel, tree.arch):
        raise ArtifactError(
            f"{path} is for {manifest.channel}/{manifest.arch}, not {tree.channel}/{tree.arch}",
            remedy=_remedy(path),
        )
    if manifest.expires_at <= now:
        raise ArtifactError(f"{path} expired at {format_time(manifest.expires_at)}", remedy=_remedy(path))


def _check_files(
    manifest: Manifest, tree: Tree, path: Path, store: Store, progress: Progress
) -> tuple[HashedPath, ...]:
    there = files_to_publish(
        tree,
        store.path,
        named=manifest.artifacts,
        interrupt=lambda: progress(0, manifest.artifacts[DTB_ARCHIVE].size),
    )
    missing = sorted(manifest.artifacts.keys() - there.keys())
    if missing:
        raise ArtifactError(
            f"{path} names {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not there",
            remedy=_remedy(path),
        )
    unnamed = sorted(there.keys() - manifest.artifacts.keys())
    if unnamed:  # left out in silence it would be found out when a machine boots
        raise ArtifactError(
            f"{path} does not name {', '.join(unnamed)}, which {'lies' if len(unnamed) == 1 else 'lie'} beside it",
            remedy=_remedy(path),
        )
    if tree.cmdline not in (None, manifest.cmdline):
        raise ArtifactError(f"{tree.directory / CMDLINE_FILE} is not what {path} says", remedy=_remedy(path))
    files = []
    for key, artifact in manifest.artifacts.items():
        hashed = hash_file(
            there[key], cache=store.hashes, piece_length=artifact.piece_length, progress=progress
        )
        if (hashed.digest, hashed.table.digest) != (artifact.sha256, artifact.table_digest):
            raise ArtifactError(f"{hashed.path} is not the {key} that {path} names", remedy=_remedy(path))
        files.append(hashed)
    return tuple(files)


def _detached(tree: Tree, manifest: Manifest) -> str | None:
    raw = _read(tree.directory / DETACHED_NAME, _MAX_DETACHED)
    if raw is None:
        return None
    try:
        text = decode_text(raw).strip()
        check_detached(manifest.raw, text, manifest.signers)
    except (SignatureError, ValueError):
        return None  # of an earlier manifest; this one goes without
    return text


def _read(path: Path, limit: int) -> bytes | None:
    """A small file's bytes, one more than the limit at most; None when there is none.

    Raises:
        ArtifactError: something else has that name. To go on without it would put another manifest into force.
    """
    if not os.path.lexists(path):
        return None
    try:
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(limit + 1)
    except FileNotFoundError:
        pass  # a link to nothing
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    raise ArtifactError(f"{path} is not a regular file", remedy="put the file there, or remove it")
