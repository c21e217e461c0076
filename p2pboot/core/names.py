"""Names: what a channel, an architecture and an artifact may be called, and which file is which artifact.

Every name ends up in a path, a gossip topic, an HTTP header and an iPXE script, so one narrow alphabet is
allowed everywhere and nothing is ever escaped. The pattern excludes an empty name, ``.``, ``..``, a slash, a
leading dot or dash and every control character.

An artifact is known by its *key*: ``kernel``, ``initramfs``, ``rootfs``, any other plain name, or
``dtbs/<name>`` for a device tree.
"""

from __future__ import annotations

import re
from typing import Final

NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What channels and artifacts are called; used with ``fullmatch``."""

ARCHS: Final = ("x86_64", "arm64")
DTB_PREFIX: Final = "dtbs/"
REQUIRED_KEYS: Final = ("kernel", "initramfs")

RESERVED_NAMES: Final = frozenset({"dtbs", "cmdline", "manifest.json", "manifest.json.sig"})
"""Names that a fetched directory uses for something else: an artifact of that name would overwrite it."""

_ARCH_ALIASES: Final = {"aarch64": "arm64"}
_FILE_PREFIXES: Final = (
    ("vmlinuz", "kernel"),
    ("bzImage", "kernel"),
    ("Image", "kernel"),
    ("kernel", "kernel"),
    ("initramfs", "initramfs"),
    ("initrd", "initramfs"),
    ("rootfs", "rootfs"),
)
# A suffix that starts with a digit belongs to a version ("modules-6.1"), it is no extension. Stripping every
# extension makes the rule idempotent: a fetched file, which is called after its key, maps to that key again.
_EXTENSIONS: Final = re.compile(r"(?:\.[A-Za-z][A-Za-z0-9]*)+\Z")


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
    """Return the canonical name of an architecture: ``aarch64`` becomes ``arm64``.

    Raises:
        ValueError: neither x86_64 nor arm64 (nor aarch64).
    """
    arch = _ARCH_ALIASES.get(text, text)
    if arch not in ARCHS:
        raise ValueError(f"architecture {text[:80]!r} is not known: use x86_64 or arm64")
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

    ``kernel`` stays ``kernel``; the device tree ``dtbs/x`` becomes ``dtbs/x.dtb``.
    """
    return f"{key}.dtb" if key.startswith(DTB_PREFIX) else key


def is_ignored_file(filename: str) -> bool:
    """Whether a file in an artifacts directory is not meant to be published.

    That is: hidden files, what a copy is still writing (``*.part``, ``*.tmp``), and what this program itself
    leaves beside artifacts (``*.sig``, ``manifest.json``).
    """
    return (
        filename.startswith(".")
        or filename.endswith((".part", ".tmp", ".sig"))
        or filename == "manifest.json"
    )


def artifact_key_for_file(filename: str) -> str | None:
    """Return the key of the artifact that a file is, or None if the file is ignored.

    ``vmlinuz*``, ``bzImage*``, ``Image*``, ``kernel*`` are the kernel, ``initramfs*`` and ``initrd*`` the
    initramfs, ``rootfs*`` the root file system, ``*.dtb`` device trees; any other file keeps its name without
    extensions. The extension of a device tree says more than its prefix, so it is looked at first.

    Raises:
        ValueError: the name that results is not allowed (:func:`check_artifact_key`).
    """
    if is_ignored_file(filename):
        return None
    if filename.endswith(".dtb"):
        return check_artifact_key(DTB_PREFIX + filename.removesuffix(".dtb"))
    for prefix, key in _FILE_PREFIXES:
        if filename.startswith(prefix):
            return key
    return check_artifact_key(_EXTENSIONS.sub("", filename))
