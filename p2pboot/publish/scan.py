"""The artifacts directory: which files are which artifacts, and what is refused.

The layout is ``<directory>/<channel>/<arch>/<file>`` (:mod:`.layout`); a flat directory works when channel and
architecture are given. Device trees (``*.dtb``, ``*.dtbo``) lie beside the kernel or below ``dtbs/``, by vendor or not.
A file called ``cmdline`` is the kernel command line: so a directory that ``fetch`` made can be served as it is.

Above ``<arch>/`` only files that are plainly artifacts in the wrong place are refused, a README is not; what the files
below it are is :mod:`.leaf`'s.

Each channel and architecture stands alone: :func:`scan_each` says of every one whether it can be published, and why
not.
"""

from __future__ import annotations

from pathlib import Path

from p2pboot.core.dataclass import dataclass
from p2pboot.core.names import check_name, normalise_arch
from p2pboot.core.trust import Pair
from p2pboot.errors import P2PBootError, UsageError, machine_error
from p2pboot.publish.layout import Ignored, Leaf, Leaves, Root, all_leaves, one_leaf
from p2pboot.publish.leaf import scan_leaf
from p2pboot.publish.tree import CMDLINE_FILE, Tree, recently_changed
from p2pboot.store.hashing import shown

__all__ = [
    "CMDLINE_FILE",
    "Ignored",
    "Scanned",
    "Tree",
    "Unfit",
    "recently_changed",
    "scan_each",
]


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
    error: P2PBootError


@dataclass(frozen=True, slots=True)
class Scanned:
    """What an artifacts directory holds.

    Args:
        trees: what can be published, sorted by channel and architecture.
        unfit: what can not, likewise.
        faults: what is wrong above them: directories that are no channel or no architecture or can not be read,
            artifacts in the wrong place.
        ignored: what is not looked at above them; each tree has its own list.
    """

    trees: tuple[Tree, ...]
    unfit: tuple[Unfit, ...] = ()
    faults: tuple[P2PBootError, ...] = ()
    ignored: tuple[Ignored, ...] = ()

    @property
    def pairs(self) -> set[Pair]:
        """What lies there, fit or not."""
        fit = {(tree.channel, tree.arch) for tree in self.trees}
        return fit | {(unfit.channel, unfit.arch) for unfit in self.unfit}


def scan_each(directory: Path, channel: str | None = None, arch: str | None = None) -> Scanned:
    """Find what a directory has to publish, and what is wrong with the rest.

    Args:
        directory: the artifacts directory.
        channel: only this one; together with ``arch`` the directory may also be flat.
        arch: only this one, by its name or an alias.

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
        if channel is not None and arch is not None:
            found = Leaves((one_leaf(root, channel, arch),))
        else:
            found = all_leaves(root, channel, arch)
    except OSError as error:
        raise machine_error(error, f"read {shown(Path(error.filename or directory))}") from error
    each = [_scan_one(root, leaf) for leaf in found.leaves]
    return Scanned(
        tuple(one for one in each if isinstance(one, Tree)),
        tuple(one for one in each if isinstance(one, Unfit)),
        found.faults,
        found.ignored,
    )


def _scan_one(root: Root, leaf: Leaf) -> Tree | Unfit:
    try:
        return scan_leaf(root, leaf)
    except OSError as error:
        fault: P2PBootError = machine_error(error, f"read {shown(Path(error.filename or leaf.path))}")
    except P2PBootError as error:
        fault = error
    return Unfit(leaf.channel, leaf.arch, leaf.path, fault)
