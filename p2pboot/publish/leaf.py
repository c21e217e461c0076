"""The files of one channel and architecture: which of them are which artifacts, and what is wrong with them.

Goes by names (:mod:`p2pboot.core.names`, :mod:`p2pboot.core.ignored`) and by what ``artifacts.toml`` says
(:mod:`.chosen`); opened are that file, ``cmdline``, and the first bytes of what may be a unified kernel image. Links to
a file of the same directory and hard links are other names of one file. What is not understood is refused with its
name rather than left out, and what is known to be no artifact is listed: an artifact that silently is not published is
found out at boot.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.devicetrees import ENDINGS, MAX_DIRECTORIES, check_member_name, check_member_names
from p2pboot.core.filenames import artifact_key_for_file, begins_like, known_form, may_be_uki
from p2pboot.core.ignored import Reason, why_ignored, why_ignored_directory
from p2pboot.core.manifest.fields import MAX_CMDLINE_BYTES
from p2pboot.core.names import (
    DTB_PREFIX,
    INITRAMFS,
    KERNEL,
    NAME_PATTERN,
    REQUIRED_KEYS,
    UKI,
)
from p2pboot.core.textfiles import SAVE_AS_UTF8, OtherEncoding, decode_text
from p2pboot.errors import ArtifactError
from p2pboot.publish.chosen import CHOSEN_NAME, Chosen
from p2pboot.publish.layout import Ignored, Leaf, Root
from p2pboot.publish.pe import is_uki
from p2pboot.publish.tree import CMDLINE_FILE, MAX_IGNORED, Tree
from p2pboot.store.hashing import check_regular, shown

MAX_SINGLE_TREES: Final = 32
"""Device trees that are artifacts of their own: so many leave a manifest room for addresses and signers."""

_ORDER: Final = {reason: index for index, reason in enumerate(Reason)}  # half an upload before a readme
_DTBS: Final = ("dtbs", "dtb")
_DTBS_OF_A_KERNEL: Final = re.compile(r"dtbs?-.+")  # Alpine's dtbs-lts, Fedora's and openSUSE's dtb-VERSION
_OVERLAYS: Final = "overlays"  # beside the kernel on a Raspberry Pi
_EXPECTED: Final = {
    KERNEL: "vmlinuz*, bzImage*, Image* or kernel*",
    INITRAMFS: "initramfs* or initrd*",
}


def scan_leaf(root: Root, leaf: Leaf) -> Tree:
    """Find the artifacts of a channel and architecture.

    Args:
        root: the artifacts directory, which nothing may lead out of.
        leaf: where they lie.

    Raises:
        P2PBootError: it can not be published as it is.
        OSError: something can not be read.
    """
    if leaf.fault is not None:
        raise leaf.fault
    names = sorted(os.listdir(leaf.path))
    found = _Found(root, leaf, Chosen.beside(root, leaf.path, names))
    found.take_all(names)
    found.check_whole()
    single = _single_trees(found.device_trees)
    archived = found.device_trees if single is None else {}
    files = {**found.files, **(single or {})}
    ignored = sorted(found.ignored, key=lambda one: _ORDER[one.why])
    return Tree(
        leaf.channel,
        leaf.arch,
        leaf.path,
        MappingProxyType(dict(sorted(files.items()))),
        found.cmdline,
        MappingProxyType(dict(sorted(archived.items()))),
        tuple(ignored[:MAX_IGNORED]),
        MappingProxyType(dict(Counter(one.why.value for one in ignored[MAX_IGNORED:]))),
    )


def _single_trees(trees: dict[str, Path]) -> dict[str, Path] | None:
    """Device trees as artifacts of their own; None if they need an archive: too many, or names that do not fit."""
    stems = {name.removesuffix(".dtb"): path for name, path in trees.items() if name.endswith(".dtb")}
    if len(stems) < len(trees) or len(trees) > MAX_SINGLE_TREES:
        return None
    if not all(NAME_PATTERN.fullmatch(stem) for stem in stems):
        return None
    return {DTB_PREFIX + stem: path for stem, path in stems.items()}


@dataclass(slots=True)
class _Found:
    """Collects what one directory has."""

    root: Root
    leaf: Leaf
    chosen: Chosen
    files: dict[str, Path] = field(default_factory=dict)
    device_trees: dict[str, Path] = field(default_factory=dict)
    ignored: list[Ignored] = field(default_factory=list)
    cmdline: str | None = None

    def take_all(self, names: list[str]) -> None:
        """Look at everything in the directory."""
        plain: list[Path] = []
        for name in names:
            path = self.leaf.path / name
            said = self.chosen.keys.get(name) or self.chosen.fetched.get(name)
            if said is not None:
                self._take_as(path, said, listed=name in self.chosen.keys)
            elif name == CMDLINE_FILE:
                self._check_file(path)
                self.cmdline = _read_cmdline(path)
            elif path.is_dir():
                self._take_directory(path)
            elif not self._ignores(path):
                plain.append(path)
        for names_of_one in self._one_file_each(plain):
            self._take_file(names_of_one)

    def check_whole(self) -> None:
        """Refuse a set that no machine could be started from, or in two ways."""
        uki = self.files.get(UKI)
        beside = [self.files[key] for key in REQUIRED_KEYS if key in self.files]
        if uki is not None and beside:
            raise ArtifactError(
                f"{shown(uki)} is a unified kernel image, which carries kernel and initramfs, and"
                f" {' and '.join(shown(path) for path in beside)} {'lies' if len(beside) == 1 else 'lie'} beside it",
                remedy=f"keep either, or say in {CHOSEN_NAME} which is meant: {UKI} = {_quoted(uki)}",
            )
        for key in () if uki is not None else REQUIRED_KEYS:
            if key not in self.files:
                raise ArtifactError(
                    f"no {key} in {self.leaf.path}: expected {_EXPECTED[key]}{self._left_out()}",
                    remedy=f"every image has a kernel and an initramfs: put the {key} there, or name it in"
                    f' {CHOSEN_NAME}: {key} = "file name"',
                )
        if self.device_trees:
            try:
                check_member_names(self.device_trees)
            except ValueError as error:
                raise ArtifactError(
                    f"{self.leaf.path}: {error}", remedy="remove device trees that no machine needs"
                ) from None

    def _left_out(self) -> str:
        """What may have been meant."""
        meant = [one for one in self.ignored if one.why in (Reason.UNFINISHED, Reason.BACKUP)]
        if not meant:
            return ""
        names = ", ".join(
            f"{one.path.name if one.path.name.isprintable() else '?'} ({one.why})" for one in meant[:3]
        )
        return f"; ignored: {names}"

    # Names

    def _ignores(self, path: Path, *, among_device_trees: bool = False) -> bool:
        why = why_ignored(path.name, among_device_trees=among_device_trees)
        if why is None and path.is_symlink() and why_ignored(_target(path).name) is Reason.UNFINISHED:
            why = Reason.UNFINISHED  # another name does not make half an upload whole
        if why is None:
            return False
        if why is not Reason.OWN:
            self.ignored.append(Ignored(path, why))
        return True

    def _one_file_each(self, paths: Iterable[Path]) -> Iterator[list[Path]]:
        """Names that are links to one file of this directory together, the file's own name first."""
        here = Path(os.path.realpath(self.leaf.path))
        groups: dict[str, list[Path]] = {}
        for path in paths:
            target = _target(path) if path.is_symlink() else None
            is_link_within = target is not None and target.parent == here
            own_name = target.name if target is not None and is_link_within else path.name
            group = groups.setdefault(own_name, [])
            if is_link_within:
                group.append(path)
            else:
                group.insert(0, path)
        yield from groups.values()

    def _take_file(self, names: list[Path]) -> None:
        """Take one file under the best of its names: one that has a known form before any other."""
        trees = [path for path in names if path.name.endswith(ENDINGS)]
        if trees:  # each name may be what a machine asks for
            for path in trees:
                self._take_tree(path, path.name)
            return
        formed = {known_form(path.name): path for path in reversed(names) if known_form(path.name)}
        if names[0] in formed.values():
            formed = {known_form(names[0].name): names[0]}
        for key, path in formed.items():
            assert key is not None  # noqa: S101 - it has a form
            self._take_as_its_name_says(path, key)
        if formed:
            return
        refused: ValueError | None = None
        for path in names:
            try:
                key = artifact_key_for_file(path.name)
            except ValueError as error:
                refused = refused or error
                if may_be_uki(path.name) and self._is_uki(path):  # BOOTX64.EFI: its name does not matter
                    return self._take_as_its_name_says(path, UKI)
            else:
                if key is not None:
                    return self._take_as_its_name_says(path, key)
        path = names[0]
        raise ArtifactError(
            f"{shown(path)}: {refused}",
            remedy=f"rename the file, or say in {CHOSEN_NAME} what it is:"
            f" {begins_like(path.name) or 'name'} = {_quoted(path)}",
        )

    # What is taken

    def _take_as_its_name_says(self, path: Path, key: str) -> None:
        if self.chosen.leaves_aside(key):
            self.ignored.append(Ignored(path, Reason.NOT_CHOSEN))
            return
        self._check_file(path)
        if may_be_uki(path.name):
            if self._is_uki(path):
                key = UKI
            elif key == UKI:
                raise self._no_uki(path)
            if self.chosen.leaves_aside(key):
                self.ignored.append(Ignored(path, Reason.NOT_CHOSEN))
                return
        self._add(self.files, key, path)

    def _take_as(self, path: Path, key: str, *, listed: bool) -> None:
        """Take a file as what was said of it, in ``artifacts.toml`` or by the manifest that it came with."""
        if key.startswith(DTB_PREFIX):
            self._take_tree(path, f"{key.removeprefix(DTB_PREFIX)}.dtb")
            return
        self._check_file(path)
        if listed and key == UKI and not self._is_uki(path):
            raise self._no_uki(path)
        self._add(self.files, key, path)

    def _take_directory(self, path: Path) -> None:
        if path.name in _DTBS:
            self.root.check_inside(path)
            self._take_trees_below(path, "", 0)
            return
        if any(_is_same(path, self.leaf.path / name) for name in _DTBS):
            return  # "dtb-6.4.0", which the link "dtb" names
        why = why_ignored_directory(path.name)
        if why is None and path.name == _OVERLAYS:
            self.root.check_inside(path)
            self._take_trees_below(path, f"{_OVERLAYS}/", 1)
            return
        if why is None and self._is_only_dtbs(path):
            self.root.check_inside(path)
            self._take_trees_below(path, "", 0)
            return
        if why is None:
            raise ArtifactError(
                f"{shown(path)} is a directory; {self.leaf.channel}/{self.leaf.arch} has only files and dtbs/",
                remedy="move it elsewhere",
            )
        if why is not Reason.OWN:
            self.ignored.append(Ignored(path, why))

    def _is_only_dtbs(self, path: Path) -> bool:
        """Whether these are the device trees of the one kernel that has some; those of two must not be mixed."""
        if _DTBS_OF_A_KERNEL.fullmatch(path.name) is None:
            return False
        others = (
            other
            for other in self.leaf.path.iterdir()
            if other.name in _DTBS or _DTBS_OF_A_KERNEL.fullmatch(other.name)
            if why_ignored_directory(other.name) is None and other.is_dir()
        )
        return all(_is_same(path, other) for other in others)

    def _take_trees_below(self, directory: Path, prefix: str, depth: int) -> None:
        for name in sorted(os.listdir(directory)):
            path = directory / name
            if path.is_dir():
                why = why_ignored_directory(name)
                if why is not None:
                    self.ignored.append(Ignored(path, why))
                    continue
                self.root.check_inside(path)
                if path.is_symlink() and _target(directory).is_relative_to(_target(path)):
                    continue  # back to where it lies: the same files again, without end
                if depth == MAX_DIRECTORIES:
                    raise ArtifactError(
                        f"{shown(path)}: device trees lie in at most {MAX_DIRECTORIES} directories below dtbs/",
                        remedy="move it up",
                    )
                self._take_trees_below(path, f"{prefix}{name}/", depth + 1)
            elif self._ignores(path, among_device_trees=True):
                continue
            elif name.endswith(ENDINGS):
                self._take_tree(path, prefix + name)
            else:
                raise ArtifactError(
                    f"{shown(path)} is no device tree ({', '.join(f'*{end}' for end in ENDINGS)})",
                    remedy="move it elsewhere",
                )

    def _take_tree(self, path: Path, name: str) -> None:
        try:
            check_member_name(name)
        except ValueError as error:
            raise ArtifactError(f"{shown(path)}: {error}", remedy="rename the file") from None
        self._check_file(path)
        self._add(self.device_trees, name, path)

    def _add(self, found: dict[str, Path], key: str, path: Path) -> None:
        other = found.get(key)
        if other is None:
            found[key] = path
        elif not os.path.samefile(other, path):
            one, two = sorted((other, path))
            what = f"{DTB_PREFIX}{key.removesuffix('.dtb')}" if found is self.device_trees else key
            raise ArtifactError(
                f"two files for {what}: {shown(one)} and {shown(two)}",
                remedy=f"keep one of them, or say in {CHOSEN_NAME} which is meant:"
                f" {_quoted_key(what)} = {_quoted(one)}",
            )

    def _check_file(self, path: Path) -> None:
        """Refuse everything but a regular file with content, inside of the directory."""
        self.root.check_inside(path)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise ArtifactError(
                f"{shown(path)} is a link to nothing", remedy="remove it, or put the file there"
            ) from None
        check_regular(path, status, may_be_empty=path.name == CMDLINE_FILE)

    def _is_uki(self, path: Path) -> bool:
        self._check_file(path)
        return is_uki(path)

    @staticmethod
    def _no_uki(path: Path) -> ArtifactError:
        return ArtifactError(
            f"{shown(path)} is no unified kernel image: it has no PE sections .linux and .initrd",
            remedy="make one with ukify or dracut --uefi, or give it a kernel's name and put the initramfs beside it",
        )


def _quoted(path: Path) -> str:
    return '"' + path.name.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def _quoted_key(key: str) -> str:
    return f'"{key}"' if "/" in key or "." in key else key


def _is_same(path: Path, other: Path) -> bool:
    return os.path.lexists(other) and os.path.realpath(path) == os.path.realpath(other)


def _target(path: Path) -> Path:
    """Where a link ends."""
    return Path(os.path.realpath(path))


def _read_cmdline(path: Path) -> str:
    """The kernel command line; what editors add is left out: a byte-order mark and one end of line of either kind."""
    with path.open("rb") as file:
        data = file.read(MAX_CMDLINE_BYTES + 6)  # byte-order mark, end of line, one too many
    try:
        text = decode_text(data).removesuffix("\n")
    except OtherEncoding as error:
        raise ArtifactError(f"{path} {error}", remedy=SAVE_AS_UTF8) from None
    except ValueError:
        text = None
    if text is None or len(text.encode()) > MAX_CMDLINE_BYTES or not (text == "" or text.isprintable()):
        raise ArtifactError(
            f"{path} is no kernel command line: one line of text, at most {MAX_CMDLINE_BYTES} bytes",
            remedy="correct it, or rename the file if it is something else",
        )
    return text
