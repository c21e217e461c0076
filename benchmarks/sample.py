"""What the benchmarks publish: a small kernel and initramfs, and one large artifact that nothing compresses."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.results import MIB

CHANNEL = "stable"
ARCH = "x86_64"
SMALL_BYTES = MIB


def write_artifacts(directory: Path, rootfs_bytes: int) -> Path:
    """Make `<directory>/artifacts` and return the large file in it."""
    leaf = directory / "artifacts" / CHANNEL / ARCH
    leaf.mkdir(parents=True)
    _write(leaf / "vmlinuz", SMALL_BYTES)
    _write(leaf / "initramfs.img", SMALL_BYTES)
    _write(leaf / "rootfs.squashfs", rootfs_bytes)
    return leaf / "rootfs.squashfs"


def _write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
