"""What the publishers of these tests have, and what a client must have got."""

from __future__ import annotations

from pathlib import Path

from p2pboot.testing.artifacts import write_image

FINAL_NAMES = {"kernel": "vmlinuz-6.1", "initramfs": "initrd.img", "rootfs": "rootfs.squashfs"}


def write_artifacts(directory: Path, *, rootfs_bytes: int = 3 << 20, seed: int = 1) -> Path:
    """An artifacts directory `<directory>/stable/x86_64` with reproducible, incompressible content."""
    sizes = {"vmlinuz-6.1": 700_001, "initrd.img": 1 << 20, "rootfs.squashfs": rootfs_bytes}
    write_image(directory / "stable" / "x86_64", sizes, seed=seed)
    return directory


def assert_same_bytes(output: Path, artifacts: Path) -> None:
    """Every artifact is under its final name, byte for byte."""
    leaf = artifacts / "stable" / "x86_64"
    for final, source in FINAL_NAMES.items():
        assert (output / final).read_bytes() == (leaf / source).read_bytes(), final
