"""What the benchmarks publish: a small kernel and initramfs, and one large artifact that nothing compresses."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import MIB
from p2pboot.testing.artifacts import write_image

CHANNEL = "stable"
ARCH = "x86_64"
SMALL_BYTES = MIB


def write_artifacts(directory: Path, rootfs_bytes: int) -> Path:
    """Make `<directory>/artifacts` and return the large file in it."""
    leaf = directory / "artifacts" / CHANNEL / ARCH
    sizes = {"vmlinuz": SMALL_BYTES, "initramfs.img": SMALL_BYTES, "rootfs.squashfs": rootfs_bytes}
    return write_image(leaf, sizes) / "rootfs.squashfs"
