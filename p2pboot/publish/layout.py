"""The layout of an artifacts directory: where the files of each channel and architecture lie."""

from __future__ import annotations

import os
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
    leaves, faults = _find_leaves(root, channel, arch)
    for leaf in leaves:
        return leaf
    for fault in faults:
        raise fault
    others = [] if any(entry.is_file() for entry in entries(root.path)) else _find_leaves(root)[0]
    if others:
        pairs = ", ".join(f"{leaf.channel}/{leaf.arch}" for leaf in others[:8])
        raise ArtifactError(
            f"there is no {channel}/{arch} in {root.path}, only {pairs}",
            remedy=f"put the artifacts into {root.path / channel / arch}, or choose another channel or arch",
        )
    return Leaf(channel, arch, root.path)


def all_leaves(root: Root, channel: str | None, arch: str | None) -> tuple[list[Leaf], list[ArtifactError]]:
    """Find the directories of every pair of this channel and arch (None: of all), without empty ones.

    Returns:
        At least one, and what is wrong with the rest of the directory: what lies above the pairs, or is none.

    Raises:
        ArtifactError: there are none.
    """
    leaves, faults = _find_leaves(root, channel, arch)
    faults += _misplaced(root.path)
    for directory in dict.fromkeys(leaf.path.parent for leaf in leaves):
        faults += _misplaced(directory)
    if not leaves:
        for fault in faults:
            raise fault
        place = f"{root.path}/{channel or '<channel>'}/{arch or '<arch>'}/"
        raise ArtifactError(
            f"there is nothing to publish in {root.path}",
            remedy=f"put a kernel and an initramfs into {place}",
        )
    # An empty directory is a channel in preparation; it must not keep the others from being published.
    return [leaf for leaf in leaves if entries(leaf.path)] or leaves, faults


def _misplaced(directory: Path) -> list[ArtifactError]:
    return [
        ArtifactError(
            f"{path} does not lie in a directory <channel>/<arch>",
            remedy="move it, or say what the directory is with both --channel and --arch",
        )
        for path in entries(directory)
        if _is_plainly_an_artifact(path)
    ]


def _is_plainly_an_artifact(path: Path) -> bool:
    try:
        key = artifact_key_for_file(path.name)
    except ValueError:
        return False
    return key is not None and (key in REQUIRED_KEYS or key.startswith(DTB_PREFIX)) and not path.is_dir()


def _find_leaves(
    root: Root, channel: str | None = None, arch: str | None = None
) -> tuple[list[Leaf], list[ArtifactError]]:
    """Every ``<channel>/<arch>`` directory that was asked for, and what is wrong with the others."""
    leaves: list[Leaf] = []
    faults: list[ArtifactError] = []
    for entry in _directories(root.path):
        if channel is not None and entry.name != channel:
            continue
        try:
            root.check_inside(entry)
            _check_channel_name(entry)
        except ArtifactError as fault:
            faults.append(fault)
            continue
        more, wrong = _leaves_of_channel(root, entry, arch)
        leaves += more
        faults += wrong
    return leaves, faults


def _leaves_of_channel(root: Root, channel: Path, arch: str | None) -> tuple[list[Leaf], list[ArtifactError]]:
    found: dict[str, Path] = {}
    faults: list[ArtifactError] = []
    for entry in _directories(channel):
        try:
            root.check_inside(entry)
            entry_arch = _arch_of(entry)
            if entry_arch in found:
                raise ArtifactError(
                    f"both {found.pop(entry_arch)} and {entry} are {entry_arch} of {channel.name}",
                    remedy="keep one of them",
                )
            found[entry_arch] = entry
        except ArtifactError as fault:
            faults.append(fault)
    wanted = [Leaf(channel.name, one, path) for one, path in sorted(found.items()) if arch in (None, one)]
    return wanted, faults


def _arch_of(path: Path) -> str:
    try:
        return normalise_arch(path.name)
    except ValueError as error:
        raise ArtifactError(f"{shown(path)}: {error}", remedy="rename the directory") from None


def _check_channel_name(path: Path) -> None:
    try:
        check_name(path.name, "channel")
    except ValueError as error:
        raise ArtifactError(f"{shown(path)}: {error}", remedy="rename the directory") from None


def _directories(path: Path) -> list[Path]:
    return [entry for entry in entries(path) if entry.is_dir()]


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
