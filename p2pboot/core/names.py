"""Names: what a channel, an architecture and an artifact may be called, and which file is which artifact.

Every name ends up in a path, a gossip topic, an HTTP header and an iPXE script, so one narrow alphabet is
allowed everywhere and nothing is ever escaped. The pattern excludes an empty name, ``.``, ``..``, a slash, a
leading dot or dash and every control character.

An artifact is known by its *key*: ``kernel``, ``initramfs``, ``rootfs``, ``uki``, any other plain name,
``dtbs/<name>`` for a device tree, or ``dtbs.tar`` for an archive of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from p2pboot.core.ignored import why_ignored

NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What channels and artifacts are called; used with ``fullmatch``."""

ARCHS: Final = ("x86_64", "arm64", "riscv64")
ARCH_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("x86-64", "amd64", "x64", "em64t"), "x86_64"),
        **dict.fromkeys(("aarch64", "arm64v8", "armv8", "aa64"), "arm64"),
        **dict.fromkeys(("riscv64gc", "riscv-64", "rv64", "rv64gc"), "riscv64"),
    }
)
"""What else people, distributions and firmware call an architecture, in lower case; documents know no aliases."""

DTB_PREFIX: Final = "dtbs/"
DTB_ARCHIVE: Final = "dtbs.tar"
"""All device trees in one artifact (:mod:`p2pboot.core.devicetrees`); never beside single ones."""
KERNEL: Final = "kernel"
INITRAMFS: Final = "initramfs"
UKI: Final = "uki"
REQUIRED_KEYS: Final = (KERNEL, INITRAMFS)
"""What an image has, unless it has :data:`UKI` in place of both."""

RESERVED_NAMES: Final = frozenset({"dtbs", "cmdline", "manifest.json", "manifest.json.sig"})
"""Names that a fetched directory uses for something else: an artifact of that name would overwrite it."""

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


def check_name(text: str, what: str) -> str:
    """Return ``text`` if it is an allowed name.

    Args:
        text: the name to judge.
        what: what it names, for the message: ``"channel"``, ``"artifact name"``.

    Raises:
        ValueError: it is not; the message is one line for a person.
    """
    if NAME_PATTERN.fullmatch(text) is None:
        raise ValueError(
            f"{what} {text[:80]!r} is not allowed: 1 to 64 of a-z 0-9 . _ -, the first a letter or digit"
        )
    return text


def normalise_arch(text: str) -> str:
    """Return the canonical name of an architecture: ``amd64`` becomes ``x86_64``, ``AArch64`` becomes ``arm64``.

    Raises:
        ValueError: neither one of :data:`ARCHS` nor of :data:`ARCH_ALIASES`, in upper or lower case.
    """
    lower = text.lower()
    arch = ARCH_ALIASES.get(lower, lower)
    if arch not in ARCHS:
        raise ValueError(
            f"architecture {text[:80]!r} is not known: use {', '.join(ARCHS[:-1])} or {ARCHS[-1]}"
        )
    return arch


def check_artifact_key(key: str) -> str:
    """Return ``key`` if an artifact may be called so: a plain name, or ``dtbs/<name>``.

    Raises:
        ValueError: not a name, or one that a fetched directory needs for itself (:data:`RESERVED_NAMES`).
    """
    if key.startswith(DTB_PREFIX):
        check_name(key.removeprefix(DTB_PREFIX), "device tree name")
        return key
    check_name(key, "artifact name")
    if key in RESERVED_NAMES:
        raise ValueError(f"artifact name {key!r} is reserved")
    return key


def artifact_path(channel: str, arch: str, key: str) -> str:
    """Return the path that a manifest states for an artifact: always ``/<channel>/<arch>/<key>``."""
    return f"/{channel}/{arch}/{key}"


def output_file_name(key: str) -> str:
    """Return where a client puts an artifact, relative to its output directory.

    ``kernel`` stays ``kernel``; the device tree ``dtbs/x`` becomes ``dtbs/x.dtb``. The archive ``dtbs.tar`` becomes the
    directory ``dtbs``.
    """
    if key == DTB_ARCHIVE:
        return DTB_PREFIX.removesuffix("/")
    return f"{key}.dtb" if key.startswith(DTB_PREFIX) else key


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
