"""The layout of an artifacts directory: where the files of each channel and architecture lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from p2pboot.core.dataclass import dataclass
from p2pboot.core.filenames import artifact_key_for_file
from p2pboot.core.ignored import Reason, why_not_a_place
from p2pboot.core.names import DTB_PREFIX, REQUIRED_KEYS, UKI, check_name, normalise_arch
from p2pboot.errors import ArtifactError, P2PBootError, machine_error
from p2pboot.store.hashing import shown


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something that lies in an artifacts directory and is not looked at.

    Args:
        path: where it lies.
        why: the kind of reason.
    """

    path: Path
    why: Reason


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
    """Where the files of one channel and architecture lie.

    Args:
        channel: its name.
        arch: canonical.
        path: the directory.
        fault: what is wrong with the directory itself, so that nothing in it can be published.
    """

    channel: str
    arch: str
    path: Path
    fault: P2PBootError | None = None


@dataclass(frozen=True, slots=True)
class Leaves:
    """What was found in an artifacts directory.

    Args:
        leaves: the directories of channels and architectures, sorted.
        faults: what is wrong above them, and belongs to no pair.
        ignored: what is not looked at.
    """

    leaves: tuple[Leaf, ...] = ()
    faults: tuple[P2PBootError, ...] = ()
    ignored: tuple[Ignored, ...] = ()

    def __add__(self, other: Leaves) -> Leaves:
        return Leaves(self.leaves + other.leaves, self.faults + other.faults, self.ignored + other.ignored)


def one_leaf(root: Root, channel: str, arch: str) -> Leaf:
    """Find the directory of a pair: its own, or the artifacts directory itself if that is flat.

    Raises:
        ArtifactError: it has only other pairs.
        OSError: it can not be read.
    """
    found = _find_leaves(root, channel, arch)
    for leaf in found.leaves:
        return leaf
    for fault in found.faults:
        raise fault
    is_flat = any(path.is_file() for path in sift(root.path)[0])
    others = () if is_flat else _find_leaves(root).leaves
    if others:
        pairs = ", ".join(f"{leaf.channel}/{leaf.arch}" for leaf in others[:8])
        raise ArtifactError(
            f"there is no {channel}/{arch} in {root.path}, only {pairs}",
            remedy=f"put the artifacts into {root.path / channel / arch}, or choose another channel or arch",
        )
    return Leaf(channel, arch, root.path)


def all_leaves(root: Root, channel: str | None, arch: str | None) -> Leaves:
    """Find the directories of every pair of this channel and arch (None: of all), without empty ones.

    Returns:
        At least one, and what is wrong with the rest of the directory: what lies above the pairs, or is none.

    Raises:
        P2PBootError: there are none.
        OSError: the directory can not be read.
    """
    found = _find_leaves(root, channel, arch)
    misplaced = _misplaced(root.path)
    for directory in dict.fromkeys(leaf.path.parent for leaf in found.leaves):
        misplaced += _misplaced(directory)
    found += Leaves(faults=tuple(misplaced))
    if not found.leaves:
        for fault in found.faults:
            raise fault
        place = f"{root.path}/{channel or '<channel>'}/{arch or '<arch>'}/"
        raise ArtifactError(
            f"there is nothing to publish in {root.path}",
            remedy=f"put a kernel and an initramfs into {place}",
        )
    # An empty directory is a channel in preparation; it must not keep the others from being published.
    filled = tuple(leaf for leaf in found.leaves if leaf.fault is not None or not is_empty(leaf.path))
    return Leaves(filled or found.leaves, found.faults, found.ignored)


def _misplaced(directory: Path) -> list[P2PBootError]:
    return [
        ArtifactError(
            f"{shown(path)} does not lie in a directory <channel>/<arch>",
            remedy="move it, or say what the directory is with both --channel and --arch",
        )
        for path in sift(directory)[0]
        if _is_plainly_an_artifact(path)
    ]


def _is_plainly_an_artifact(path: Path) -> bool:
    try:
        key = artifact_key_for_file(path.name)
    except ValueError:
        return False
    return (
        key is not None and (key in (*REQUIRED_KEYS, UKI) or key.startswith(DTB_PREFIX)) and not path.is_dir()
    )


def _find_leaves(root: Root, channel: str | None = None, arch: str | None = None) -> Leaves:
    """Every ``<channel>/<arch>`` directory that was asked for, and what is wrong with the others."""
    directories, ignored = _directories(root.path)
    found = Leaves(ignored=ignored)
    for directory in directories:
        if channel is not None and directory.name != channel:
            continue
        if _leads_nowhere(directory):
            found += Leaves(faults=(_link_to_nothing(directory),))
            continue
        try:
            root.check_inside(directory)
            check = _named(directory, lambda name: check_name(name, "channel"))
            found += _leaves_of_channel(root, directory, check, arch)
        except P2PBootError as fault:
            found += Leaves(faults=(fault,))
        except OSError as error:
            found += Leaves(faults=(machine_error(error, f"read {shown(directory)}"),))
    return found


def _leaves_of_channel(root: Root, directory: Path, channel: str, arch: str | None) -> Leaves:
    directories, ignored = _directories(directory)
    by_arch: dict[str, list[Path]] = {}
    faults: list[P2PBootError] = []
    for entry in directories:
        if _leads_nowhere(entry):
            faults.append(_link_to_nothing(entry))
            continue
        try:
            by_arch.setdefault(_named(entry, normalise_arch), []).append(entry)
        except ArtifactError as fault:
            faults.append(fault)
    leaves = tuple(
        _leaf(root, channel, one, paths) for one, paths in sorted(by_arch.items()) if arch in (None, one)
    )
    return Leaves(leaves, tuple(faults), ignored)


def _leaf(root: Root, channel: str, arch: str, paths: list[Path]) -> Leaf:
    """The directory of a pair, which may be there under several names of its architecture."""
    try:
        for path in paths:
            root.check_inside(path)
    except ArtifactError as fault:
        return Leaf(channel, arch, paths[0], fault)
    different: dict[str, Path] = {}
    for path in paths:
        different.setdefault(os.path.realpath(path), path)  # a link to the other one is no second directory
    filled = [path for path in different.values() if not is_empty(path)] or paths[:1]
    if len(filled) > 1:
        names = " and ".join(str(path) for path in filled[:2])
        twice = ArtifactError(f"both {names} are {arch} of {channel}", remedy="keep one of them")
        return Leaf(channel, arch, filled[0], twice)
    return Leaf(channel, arch, filled[0])


def _named(path: Path, check: Callable[[str], str]) -> str:
    try:
        return check(path.name)
    except ValueError as error:
        raise ArtifactError(f"{shown(path)}: {error}", remedy="rename the directory") from None


def is_empty(directory: Path) -> bool:
    """Whether a directory has nothing in it but what is ignored; one that can not be read is not."""
    try:
        return not sift(directory)[0]
    except OSError:
        return False  # who reads it says why not


def _directories(path: Path) -> tuple[list[Path], tuple[Ignored, ...]]:
    """Every directory in this one, and links to nothing: to a volume that is not mounted, or a release that moved."""
    kept, ignored = sift(path)
    return [entry for entry in kept if entry.is_dir() or _leads_nowhere(entry)], ignored


def _leads_nowhere(path: Path) -> bool:
    return os.path.islink(path) and not os.path.exists(path)


def _link_to_nothing(path: Path) -> ArtifactError:
    return ArtifactError(
        f"{shown(path)} is a link to nothing", remedy="remove it, or put the directory there"
    )


def sift(directory: Path) -> tuple[list[Path], tuple[Ignored, ...]]:
    """Everything in a directory above the artifacts, sorted by name, and apart from it what is not looked at.

    Raises:
        OSError: it can not be read.
    """
    kept: list[Path] = []
    ignored: list[Ignored] = []
    for name in sorted(os.listdir(directory)):
        why = why_not_a_place(name)
        if why is None:
            kept.append(directory / name)
        elif why is not Reason.OWN:
            ignored.append(Ignored(directory / name, why))
    return kept, tuple(ignored)
