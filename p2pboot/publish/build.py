"""Building: from the files of a tree to the manifest that is published for them.

Owns what a manifest says. Which number it gets, and whether the one in force still does, is
:mod:`.numbering`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import PublicKey, SecretKey
from p2pboot.core.manifest import Artifact, Candidate, Manifest, Rollout, Statement, add_signature
from p2pboot.core.pieces import piece_length_for
from p2pboot.errors import UsageError, machine_error
from p2pboot.publish.archive import files_to_publish
from p2pboot.publish.numbering import Content, Series, Wishes, claim, last_published
from p2pboot.publish.scan import Tree
from p2pboot.store.hashing import ChangedWhileHashing, HashedPath, Progress, hash_file
from p2pboot.store.store import Store

DEFAULT_EXPIRES_IN_S: Final = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What the operator says about a manifest.

    Args:
        name: of the provider; usually the name of the host.
        version: the image's version; None for the day of the build, ``YYYY.MM.DD`` in UTC.
        manifest_version: the counter; None for the next one.
        expires_in_s: how long the manifest is valid, seconds.
        cmdline: kernel command line; None for what the tree's file ``cmdline`` says.
        urls: addresses of HTTP gateways that will have the artifacts, such as ``http://192.0.2.7:8080``; the most
            useful first, as a manifest with many artifacts has no room for many.
        peer_id: of the node that serves; None for that of the first signer, sorted by key id.
        piece_length: into what artifacts are cut, bytes; longer where there would be too many pieces. None for what
            suits their sizes, and of content that was cut before the length that it has.
    """

    name: str
    version: str | None = None
    manifest_version: int | None = None
    expires_in_s: int = DEFAULT_EXPIRES_IN_S
    cmdline: str | None = None
    urls: tuple[str, ...] = ()
    peer_id: str | None = None
    piece_length: int | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """A manifest that all its signers signed, or a document that waits for some of them.

    Args:
        raw: its bytes.
        statement: what it says.
        missing: key ids of those who have not signed yet.
        files: the files that it names.
        unchanged: it is the one that was published before.
        first: nothing was published with these keys, channel and architecture from this state directory.
        urls_left_out: addresses of gateways that the manifest has no room for: the last of those that were given.
    """

    raw: bytes
    statement: Statement
    missing: tuple[str, ...]
    files: tuple[HashedPath, ...]
    unchanged: bool
    first: bool
    urls_left_out: tuple[str, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """The complete manifest, read and checked.

        Raises:
            SignatureError: somebody has not signed yet.
        """
        return Manifest.parse(self.raw)


def build(  # noqa: PLR0913 - of what is not said of the manifest two are told how it goes
    tree: Tree,
    options: BuildOptions,
    *,
    keys: Iterable[SecretKey] = (),
    signers: Iterable[PublicKey] = (),
    store: Store,
    now: int,
    progress: Progress = lambda _done, _total: None,
    known: Callable[[int], None] = lambda _size: None,
    admit: Callable[[Content], None] = lambda _content: None,
    floor: int = 0,
    rollout: Rollout | None = None,
) -> Built:
    """Build and sign the manifest of a tree, or return the one in force if nothing changed.

    Unchanged means: the same but for dates, counter, and a version that ``options`` leaves open. It still is
    built again when a third of its validity or less is left, or when ``floor`` says that its number is in use.
    The number of one that waits for signatures is claimed as well: what is built next gets another, whether this one
    is ever signed or not.

    Args:
        tree: from :func:`p2pboot.publish.scan.scan_each`.
        options: what the operator says.
        keys: of those who sign here.
        signers: those who are to sign elsewhere.
        store: hash cache, counter and last manifest.
        now: unix seconds.
        progress: called in this thread with the bytes hashed and to hash.
        known: called with the size of each file that need not be read again, before progress counts it all the same.
        admit: told what is to be published, before a number is claimed for it; may refuse it by raising.
        floor: the highest ``manifest_version`` that these signers are known to have given to *another*
            manifest; the number will be higher.
        rollout: to which machines it is given, and when; of a channel that ends in ``.next``.

    Raises:
        ArtifactError: a file can not be published, or there are too many.
        ChangedWhileHashing: a file is still being written.
        UsageError: an option can not be said in a manifest, or its ``manifest_version`` is used up.
        MachineError, StoreError: disk or state directory.
    """
    keys = tuple(keys)
    described = describe(
        tree,
        options,
        signers=(*(key.public for key in keys), *signers),
        store=store,
        progress=progress,
        known=known,
        rollout=rollout,
    )
    content, files = described.content, described.files
    admit(content)

    def signed(raw: bytes) -> bytes:
        for key in keys:
            raw = add_signature(raw, key)
        return raw

    wishes = Wishes(options.version, options.manifest_version, options.expires_in_s, now, floor)
    claimed = claim(content, store.publications, wishes, signed)
    document = Candidate.decode(claimed.raw)
    named_in = min(len(artifact.urls) for artifact in document.claims.artifacts.values())
    return Built(
        claimed.raw,
        document.claims,
        document.missing_signers,
        files,
        claimed.unchanged,
        claimed.first,
        options.urls[named_in:],
    )


@dataclass(frozen=True, slots=True)
class Described:
    """What a manifest of a tree would say, and the files that it would name."""

    content: Content
    files: tuple[HashedPath, ...]


def describe(
    tree: Tree,
    options: BuildOptions,
    *,
    signers: Iterable[PublicKey],
    store: Store,
    progress: Progress = lambda _done, _total: None,
    known: Callable[[int], None] = lambda _size: None,
    rollout: Rollout | None = None,
) -> Described:
    """Say what a manifest of a tree would say, without making one; what was hashed before is not read again.

    Arguments, and what it raises, as for :func:`build`; ``signers`` are all of them.
    """
    named = sorted(set(signers), key=lambda key: key.keyid)
    if not named:
        raise UsageError("nobody is named to sign the manifest", remedy="name at least one key")
    series = Series(tuple(key.keyid for key in named), tree.channel, tree.arch)
    files = _hash_files(tree, store, _Cutting(store, series, options.piece_length), progress, known)
    content = Content(
        series,
        tuple(
            Artifact.describe(
                key,
                channel=tree.channel,
                arch=tree.arch,
                sha256=hashed.digest,
                size=hashed.table.size,
                piece_length=hashed.table.piece_length,
                table_digest=hashed.table.digest,
                urls=blob_urls(options.urls, hashed.digest),
            )
            for key, hashed in files.items()
        ),
        tree.cmdline if options.cmdline is None else options.cmdline,
        options.peer_id or named[0].peer_id,
        options.name,
        rollout,
    )
    return Described(content, tuple(files.values()))


class _Cutting:
    """How the files of a series are cut: as the operator says, else as they were before, else as suits their size.

    Args:
        store: knows how content was cut.
        series: what it published last counts before what others did.
        wanted: what the operator says, bytes.
    """

    def __init__(self, store: Store, series: Series, wanted: int | None) -> None:
        self._store = store
        self._wanted = wanted
        self._published = last_published(store.publications, series)

    def of(self, size: int) -> Mapping[str, int]:
        """How content of a size was cut, by digest."""
        published = {one.sha256: one.piece_length for one in self._published if one.size == size}
        return {**self._store.cuts(size), **published}

    def length(self, size: int) -> int | None:
        """How a file of a size is to be cut whatever is in it; None where that decides."""
        return None if self._wanted is None else piece_length_for(max(size, 1), self._wanted)


def _hash_files(
    tree: Tree, store: Store, cutting: _Cutting, progress: Progress, known: Callable[[int], None]
) -> dict[str, HashedPath]:
    """Hash every file of a tree that the cache does not know; progress counts all of them."""
    to_read = sum(_size(path) for path in (*tree.files.values(), *tree.archived.values()))
    files = files_to_publish(tree, store.path, interrupt=lambda: progress(0, to_read))
    sizes = {key: _size(path) for key, path in files.items()}
    total, before = sum(sizes.values()), 0
    hashed = {}
    for key, path in files.items():
        progress(before, total)
        counted = _Counted(before, total, progress)
        hashed[key] = hash_file(
            path,
            cache=store.hashes,
            piece_length=cutting.length(sizes[key]),
            cuts=cutting.of,
            progress=counted,
        )
        if not counted.was_read:
            known(sizes[key])
        before += sizes[key]
    progress(total, total)
    return hashed


class _Counted:
    """A `Progress` of one file that is told as that of all; knows whether the file had to be read."""

    def __init__(self, before: int, total: int, progress: Progress) -> None:
        self._before = before
        self._total = total
        self._progress = progress
        self.was_read = False

    def __call__(self, done: int, _size: int) -> None:
        self.was_read = True
        self._progress(self._before + done, self._total)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise ChangedWhileHashing(path) from None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error


def blob_urls(bases: Iterable[str], sha256: str) -> tuple[str, ...]:
    """Return where gateways at these addresses have an artifact."""
    return tuple(f"{base.rstrip('/')}/blobs/{sha256}" for base in bases)
