"""Which file is which artifact, going by its name; ``docs/adr/0008-names-of-files.md`` has the reasons.

Apart from :mod:`p2pboot.core.names`, because its forms take a tenth of the time in which a client starts, and only
who publishes needs them.
"""

from __future__ import annotations

import re
from typing import Final

from p2pboot.core.ignored import why_ignored
from p2pboot.core.names import DTB_ARCHIVE, DTB_PREFIX, INITRAMFS, KERNEL, UKI, check_artifact_key

# A suffix that starts with a digit belongs to a version ("modules-6.1"), it is no extension. Stripping every
# extension makes the rule idempotent: a fetched file, which is called after its key, maps to that key again.
_EXTENSIONS: Final = re.compile(r"(?:\.[A-Za-z][A-Za-z0-9]*)+\Z")

# Forms of names. A prefix does not make a kernel: "rootfs.squashfs.filepart" is half an upload. So after the stem there
# is nothing but a version and endings that such files really have.
_ARCH_WORDS: Final = r"x86_64|x86-64|amd64|x64|aarch64|arm64|riscv64"
# In versions a word after a dot is one of these ("6.5.6-300.fc39.x86_64"): any other is an ending that nobody knows.
_DISTRIBUTION: Final = (
    r"(?:fc|el|amzn|oe|an|al|lp|mga|cm|azl|ph|ky|uel|deb|bpo|ubuntu|mshv|arch|git|rc|rt|lts|tl|ocs|r|v|g)"
    r"[0-9][0-9A-Za-z]*"
)
# "x86_64" is a part and another one here; as one word it would give every name two readings.
_AFTER_DOT: Final = (
    rf"(?:[0-9][0-9A-Za-z]*|{_DISTRIBUTION}|x86|i[3-6]86|x64|noarch|amd64|aarch64|arm64|riscv64)"
)
_VERSION_PART: Final = rf"[0-9A-Za-z]+(?:\.{_AFTER_DOT})*"
_DASHED: Final = rf"--?{_VERSION_PART}(?:[-_+~]{_VERSION_PART})*"
_UNDERSCORED: Final = rf"_(?=[0-9]|v[0-9]|{_ARCH_WORDS}){_VERSION_PART}(?:[-_+~]{_VERSION_PART})*"
_VERSION: Final = rf"(?:{_DASHED}|{_UNDERSCORED}|\.(?:{_ARCH_WORDS}))"
_COMPRESSED: Final = r"gz|xz|zst|zstd|lz|lz4|lzma|lzo|bz2"
_IMAGE: Final = (
    r"squashfs|squash|sqfs|sqsh|sfs|ext[234]|xfs|btrfs|f2fs|erofs|cramfs|romfs|jffs2|ubifs|ubi|vfat|fat|img|raw|bin"
    r"|iso|qcow2?|vdi|vhdx?|vmdk|wic|simg|tar|tgz|txz|tbz2?|tzst|cpio"
)


def _form(stems: str, endings: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{stems})(?:{_VERSION})?(?:\.(?:{endings})){{0,3}}(?:{_DASHED})?")


_FORMS: Final = (
    # "kernel8.img", "kernel_2712.img" and "initramfs8" are the Raspberry Pi's; "vmlinuz0" and "initrd0.img" live CDs'.
    (
        _form(
            r"(?:vmlinuz|bzImage|zImage|uImage|Image)[0-9]?|kernel(?:[0-9]l?|_[0-9]{4})?",
            rf"{_COMPRESSED}|efi|img|bin|signed",
        ),
        KERNEL,
    ),
    (re.compile(r"linux(?:\.efi)?"), KERNEL),
    (
        _form(r"(?:initramfs|initrd)(?:[0-9]l?|_[0-9]{4})?", rf"{_COMPRESSED}|img|cpio|igz|bin|u-boot"),
        INITRAMFS,
    ),
    (_form(r"rootfs", rf"{_COMPRESSED}|{_IMAGE}"), "rootfs"),
    (_form(r"uki", r"efi|img|signed|uki"), UKI),
)
_BEGINNINGS: Final = (
    (re.compile(r"vmlinuz|bzImage|zImage|uImage|Image|kernel"), KERNEL),
    (re.compile(r"initramfs|initrd"), INITRAMFS),
    (re.compile(r"rootfs"), "rootfs"),
    (re.compile(r"uki(?![A-Za-z])"), UKI),
)
# Words after a dash that make another thing of it: "kernel-headers.tar.gz" is no kernel of the version "headers".
_NO_VERSION: Final = re.compile(
    r"[-_](?:headers?|modules?|config|devel|docs?|notes?|sources?|src|debuginfo|debugsymbols|dbg|dbgsym|symbols|tools"
    r"|firmware|overlays?|verity|roothash|hash|keys?|data|ucode|microcode|tmp|temp|part[0-9]*|partial|new"
    r"|incomplete|unfinished|upload|download)(?![0-9A-Za-z])",
    re.IGNORECASE,
)
# "modules.squashfs.xyz": what follows an ending that says all may be any tool's mark of an unfinished copy.
_STRANGE_ENDING: Final = re.compile(
    rf".*\.(?:{_COMPRESSED}|{_IMAGE})\.(?!(?:{_COMPRESSED}|{_IMAGE}|efi|signed|u-boot)(?:\.|\Z))[A-Za-z].*",
    re.IGNORECASE | re.DOTALL,
)
_UKI_ENDINGS: Final = (".efi", ".uki")


def known_form(filename: str) -> str | None:
    """Return ``kernel``, ``initramfs``, ``rootfs`` or ``uki`` if a file's name has a form of theirs, else None."""
    if _NO_VERSION.search(filename):
        return None
    return next((key for form, key in _FORMS if form.fullmatch(filename)), None)


def begins_like(filename: str) -> str | None:
    """Return what a file may have been meant to be, going by how its name begins; enough to ask, not to publish it."""
    return next((key for beginning, key in _BEGINNINGS if beginning.match(filename)), None)


def may_be_uki(filename: str) -> bool:
    """Whether a file of this name has to be looked into: a unified kernel image has no name of its own."""
    return filename.lower().endswith(_UKI_ENDINGS) or known_form(filename) in (KERNEL, UKI)


def artifact_key_for_file(filename: str) -> str | None:
    """Return the key of the artifact that a file is, going by its name, or None if the file is ignored.

    Kernels, initramfs and root file systems are known by forms of their names (``vmlinuz-6.1.0-18-amd64``,
    ``initrd.img-6.1``, ``rootfs.ext4.zst``); ``*.dtb`` are device trees; any other file keeps its name without
    extensions. The extension of a device tree says more than its beginning, so it is looked at first.

    Raises:
        ValueError: the name begins like one of these and has no such form, or the name that results is not allowed
            (:func:`check_artifact_key`).
    """
    if why_ignored(filename) is not None:
        return None
    if filename.endswith(".dtb"):
        return check_artifact_key(DTB_PREFIX + filename.removesuffix(".dtb"))
    key = known_form(filename)
    if key is not None:
        return key
    meant = begins_like(filename)
    if meant is not None:
        raise ValueError(f"it is called like the {meant}, but with an ending that is not known")
    if _STRANGE_ENDING.fullmatch(filename):
        raise ValueError("it has an ending that is not known after one that is: it may be unfinished")
    key = check_artifact_key(_EXTENSIONS.sub("", filename))
    if key == DTB_ARCHIVE:
        raise ValueError(f"artifact name {key!r} is reserved")
    return key
