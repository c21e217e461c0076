"""The layout of an artifacts directory: where the files of each channel and architecture lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pboot.core.names import (
    DTB_PREFIX,
    REQUIRED_KEYS,
    artifact_key_for_file,
    check_name,
    is_ignored_file,
    normalise_arch,
)
from p2pboot.errors import ArtifactError

_LOST_AND_FOUND: Final = "lost+found"  # every ext4 file system has it at its root; nobody can rename it


@dataclass(frozen=True, slots=True)
class Root:
    """The artifacts directory as it was named, and where it really is."""

    path: Path
    real: Path

    @classmethod
    def of(cls, directory: Path) -> Root:
        """Take a directory that was named.

        Raises:
            ArtifactError: there is none.
        """
        root = cls(directory, Path(os.path.realpath(directory)))
        if not directory.exists():
            raise ArtifactError(f"there is no directory {directory}", remedy="check the path")
        if not directory.is_dir():
            raise ArtifactError(f"{directory} is not a directory", remedy="name the directory it lies in")
        return root

    def check_inside(self, path: Path) -> None:
        """Refuse a link out of the directory: who may write into it could publish any file of the machine."""
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(self.real):
            raise ArtifactError(
                f"{shown(path)} is a link to {shown(target)}, outside of {self.path}",
                remedy="copy the file into the directory",
            )


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where the files of one channel and architecture lie."""

    channel: str
    arch: str
    path: Path


def one_leaf(root: Root, channel: str, arch: str) -> Leaf:
    """Find the directory of a pair: its own, or the artifacts directory itself if that is flat.

    Raises:
        ArtifactError: it has only other pairs, or one twice.
    """
    for leaf in _find_leaves(root, channel, arch):
        return leaf
    others = [] if any(entry.is_file() for entry in entries(root.path)) else list(_find_leaves(root))
    if others:
        pairs = ", ".join(f"{leaf.channel}/{leaf.arch}" for leaf in others[:8])
        raise ArtifactError(
            f"there is no {channel}/{arch} in {root.path}, only {pairs}",
            remedy=f"put the artifacts into {root.path / channel / arch}, or choose another channel or arch",
        )
    return Leaf(channel, arch, root.path)


def all_leaves(root: Root, channel: str | None, arch: str | None) -> list[Leaf]:
    """Find the directories of every pair of this channel and arch (None: of all), without empty ones.

    Raises:
        ArtifactError: there are none, or artifacts lie above them.
    """
    _refuse_misplaced(root.path)
    leaves = list(_find_leaves(root, channel, arch))
    if not leaves:
        place = f"{root.path}/{channel or '<channel>'}/{arch or '<arch>'}/"
        raise ArtifactError(
            f"there is nothing to publish in {root.path}",
            remedy=f"put a kernel and an initramfs into {place}",
        )
    for leaf in leaves:
        _refuse_misplaced(leaf.path.parent)
    # An empty directory is a channel in preparation; it must not keep the others from being published.
    return [leaf for leaf in leaves if entries(leaf.path)] or leaves


def _refuse_misplaced(directory: Path) -> None:
    for path in entries(directory):
        try:
            key = artifact_key_for_file(path.name)
        except ValueError:
            continue
        if key is not None and (key in REQUIRED_KEYS or key.startswith(DTB_PREFIX)) and not path.is_dir():
            raise ArtifactError(
                f"{path} does not lie in a directory <channel>/<arch>",
                remedy="move it, or say what the directory is with both --channel and --arch",
            )


def _find_leaves(root: Root, channel: str | None = None, arch: str | None = None) -> Iterator[Leaf]:
    """Yield every ``<channel>/<arch>`` directory that was asked for."""
    for channel_entry in _directories(root, root.path):
        if channel is not None and channel_entry.name != channel:
            continue
        if channel is None:
            _check_channel_name(channel_entry)
        found: dict[str, Path] = {}
        for entry in _directories(root, channel_entry):
            try:
                entry_arch = normalise_arch(entry.name)
            except ValueError as error:
                raise ArtifactError(f"{shown(entry)}: {error}", remedy="rename the directory") from None
            if entry_arch in found:
                raise ArtifactError(
                    f"both {found[entry_arch]} and {entry} are {entry_arch} of {channel_entry.name}",
                    remedy="keep one of them",
                )
            found[entry_arch] = entry
        for entry_arch, path in sorted(found.items()):
            if arch in (None, entry_arch):
                yield Leaf(channel_entry.name, entry_arch, path)


def _check_channel_name(path: Path) -> None:
    try:
        check_name(path.name, "channel")
    except ValueError as error:
        raise ArtifactError(f"{shown(path)}: {error}", remedy="rename the directory") from None


def _directories(root: Root, path: Path) -> list[Path]:
    directories = [entry for entry in entries(path) if entry.is_dir()]
    for entry in directories:
        root.check_inside(entry)
    return directories


def entries(directory: Path) -> list[Path]:
    """Everything in a directory that is not ignored, sorted by name."""
    return [
        directory / name
        for name in sorted(os.listdir(directory))
        if not is_ignored_file(name) and name != _LOST_AND_FOUND
    ]


def shown(path: Path) -> str:
    """A path as text that is safe on a terminal: names come from other people's archives."""
    text = str(path)
    return text if text.isprintable() else repr(text)
