"""Names: what a channel, an architecture and an artifact may be called.

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

NEXT: Final = ".next"
"""What the channel of a roll-out is called after the one that it goes into: ``stable.next``."""

RESERVED_NAMES: Final = frozenset({"dtbs", "cmdline", "manifest.json", "manifest.json.sig", "freshness.json"})
"""Names that a fetched directory uses for something else: an artifact of that name would overwrite it."""


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


def base_channel(channel: str) -> str:
    """The channel that a roll-out's goes into; any other is its own."""
    base = channel.removesuffix(NEXT)
    return base if NAME_PATTERN.fullmatch(base) else channel


def is_next(channel: str) -> bool:
    """Whether a channel is one of a roll-out."""
    return base_channel(channel) != channel


def next_channel(channel: str) -> str | None:
    """The channel of roll-outs into a channel; None where there can be none: it is one, or its name is too long."""
    following = channel + NEXT
    return None if is_next(channel) or NAME_PATTERN.fullmatch(following) is None else following


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
