"""The artifacts directory: which files are which artifacts, and what is refused.

The layout is ``<directory>/<channel>/<arch>/<file>``; a flat directory works when channel and architecture
are given. Device trees (``*.dtb``) lie beside the kernel or in a subdirectory ``dtbs/``. A file called
``cmdline`` is the kernel command line: so a directory that ``fetch`` made can be served as it is.

Only names and file attributes are looked at; no file but ``cmdline`` is opened. What is not understood is
refused with its name rather than left out: an artifact that silently is not published is found out at boot.
Above ``<arch>/`` only files that are plainly artifacts in the wrong place are refused, a README is not.

Each channel and architecture stands alone: :func:`scan_each` says of every one whether it can be published, and why
not; :func:`scan` is for who wants all or nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from p2pboot.core.names import (
    REQUIRED_KEYS,
    artifact_key_for_file,
    check_name,
    normalise_arch,
)
from p2pboot.errors import ArtifactError, UsageError, machine_error
from p2pboot.publish.layout import Leaf, Root, all_leaves, entries, one_leaf, shown

CMDLINE_FILE: Final = "cmdline"
DTBS_DIRECTORY: Final = "dtbs"
MAX_CMDLINE_BYTES: Final = 4096

_EXPECTED: Final = {
    "kernel": "vmlinuz*, bzImage*, Image* or kernel*",
    "initramfs": "initramfs* or initrd*",
}
_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


@dataclass(frozen=True, slots=True)
class Tree:
    """The artifacts of one channel and architecture.

    Args:
        channel: its name.
        arch: ``x86_64`` or ``arm64``.
        directory: where the files lie.
        files: path of each artifact by key, sorted; kernel and initramfs are there.
        cmdline: content of the file ``cmdline`` without one final newline; None if there is no such file.
    """

    channel: str
    arch: str
    directory: Path
    files: Mapping[str, Path]
    cmdline: str | None


@dataclass(frozen=True, slots=True)
class Unfit:
    """What lies there for a channel and architecture, and can not be published as it is.

    Args:
        channel: its name.
        arch: canonical.
        directory: where the files lie.
        error: what is wrong with it, and the remedy.
    """

    channel: str
    arch: str
    directory: Path
    error: ArtifactError


@dataclass(frozen=True, slots=True)
class Scanned:
    """What an artifacts directory holds.

    Args:
        trees: what can be published, sorted by channel and architecture.
        unfit: what can not, likewise.
        faults: what is wrong above them: directories that are no channel or no architecture, artifacts in the wrong
            place.
    """

    trees: tuple[Tree, ...]
    unfit: tuple[Unfit, ...] = ()
    faults: tuple[ArtifactError, ...] = ()


def scan(directory: Path, channel: str | None = None, arch: str | None = None) -> list[Tree]:
    """Find what a directory has to publish; refuse it if anything in it can not be.

    Args:
        directory: the artifacts directory.
        channel: only this one; together with ``arch`` the directory may also be flat.
        arch: only this one; ``aarch64`` is taken for ``arm64``.

    Returns:
        At least one tree, sorted by channel and architecture. With channel and arch given, exactly one.

    Raises:
        ArtifactError: there is no such directory, nothing in it, or something in it can not be published.
        UsageError: channel or arch are not allowed names.
        MachineError: it can not be read.
    """
    found = scan_each(directory, channel, arch)
    for unfit in found.unfit:
        raise unfit.error
    for fault in found.faults:
        raise fault
    return list(found.trees)


def scan_each(directory: Path, channel: str | None = None, arch: str | None = None) -> Scanned:
    """Find what a directory has to publish, and what is wrong with the rest; arguments as for :func:`scan`.

    Returns:
        At least one tree or one unfit.

    Raises:
        ArtifactError: there is no such directory, nothing in it, or artifacts lie where nothing says what they are for.
        UsageError: channel or arch are not allowed names.
        MachineError: it can not be read.
    """
    try:
        if channel is not None:
            check_name(channel, "channel")
        if arch is not None:
            arch = normalise_arch(arch)
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        root = Root.of(directory)
        faults: list[ArtifactError] = []
        if channel is not None and arch is not None:
            leaves = [one_leaf(root, channel, arch)]
        else:
            leaves, faults = all_leaves(root, channel, arch)
        found = [_scan_one(root, leaf) for leaf in leaves]
    except OSError as error:
        raise machine_error(error, f"read {shown(Path(error.filename or directory))}") from error
    trees = tuple(one for one in found if isinstance(one, Tree))
    return Scanned(trees, tuple(one for one in found if isinstance(one, Unfit)), tuple(faults))


def _scan_one(root: Root, leaf: Leaf) -> Tree | Unfit:
    try:
        return _scan_leaf(root, leaf)
    except ArtifactError as error:
        return Unfit(leaf.channel, leaf.arch, leaf.path, error)


def recently_changed(tree: Tree, now_ns: int, quiet_s: float) -> bool:
    """Whether something in a tree changed less than ``quiet_s`` seconds ago: a copy may still be running.

    Args:
        tree: from :func:`scan`.
        now_ns: the wall clock, nanoseconds since 1970.
        quiet_s: how long it must have been quiet.

    Times that lie further ahead than that (a clock that was wrong) do not count, or it would never be quiet.
    """
    paths = {*tree.files.values(), tree.directory, *(path.parent for path in tree.files.values())}
    if tree.cmdline is not None:
        paths.add(tree.directory / CMDLINE_FILE)
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            return True  # it was there a moment ago
        if any(abs(now_ns - at) < quiet_s * 1e9 for at in (status.st_mtime_ns, status.st_ctime_ns)):
            return True
    return False


@dataclass(slots=True)
class _Found:
    """Collects the artifacts of one leaf."""

    root: Root
    files: dict[str, Path] = field(default_factory=dict)

    def add(self, path: Path) -> None:
        """Take a file as the artifact that its name says."""
        try:
            key = artifact_key_for_file(path.name)
        except ValueError as error:
            raise ArtifactError(f"{shown(path)}: {error}", remedy="rename the file") from None
        if key is None:
            return
        _check_file(self.root, path)
        if key in self.files:
            raise ArtifactError(
                f"two files for {key}: {self.files[key]} and {path}", remedy="keep one of them"
            )
        self.files[key] = path


def _scan_leaf(root: Root, leaf: Leaf) -> Tree:
    found, cmdline = _Found(root), None
    for path in entries(leaf.path):
        if path.name == CMDLINE_FILE:
            cmdline = _read_cmdline(root, path)
        elif path.name == DTBS_DIRECTORY and path.is_dir():
            root.check_inside(path)
            _add_device_trees(found, path)
        elif path.is_dir():
            raise ArtifactError(
                f"{shown(path)} is a directory; {leaf.channel}/{leaf.arch} has only files and dtbs/",
                remedy="move it elsewhere",
            )
        else:
            found.add(path)
    for key in REQUIRED_KEYS:
        if key not in found.files:
            raise ArtifactError(
                f"no {key} in {leaf.path}: expected {_EXPECTED[key]}",
                remedy=f"every image has a kernel and an initramfs: put the {key} there",
            )
    files = MappingProxyType(dict(sorted(found.files.items())))
    return Tree(leaf.channel, leaf.arch, leaf.path, files, cmdline)


def _add_device_trees(found: _Found, directory: Path) -> None:
    for path in entries(directory):
        if not path.name.endswith(".dtb"):
            raise ArtifactError(f"{shown(path)} is no device tree (*.dtb)", remedy="move it elsewhere")
        found.add(path)


def _check_file(root: Root, path: Path) -> None:
    """Refuse everything but a regular file with content, inside of the directory."""
    root.check_inside(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ArtifactError(
            f"{shown(path)} is a link to nothing", remedy="remove it, or put the file there"
        ) from None
    check_regular(path, status)


def check_regular(path: Path, status: os.stat_result) -> None:
    """Refuse what can not be published because it is no regular file, or empty.

    Raises:
        ArtifactError: naming it and what it is.
    """
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise ArtifactError(f"{shown(path)} is {kind}, not a regular file", remedy="move it elsewhere")
    if status.st_size == 0 and path.name != CMDLINE_FILE:
        raise ArtifactError(f"{shown(path)} is empty", remedy="copy it again, or remove it")


def _read_cmdline(root: Root, path: Path) -> str:
    _check_file(root, path)
    with path.open("rb") as file:
        data = file.read(MAX_CMDLINE_BYTES + 2).removesuffix(b"\n")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is None or len(data) > MAX_CMDLINE_BYTES or not (text == "" or text.isprintable()):
        raise ArtifactError(
            f"{path} is no kernel command line: one line of text, at most {MAX_CMDLINE_BYTES} bytes",
            remedy="correct it, or rename the file if it is something else",
        )
    return text
