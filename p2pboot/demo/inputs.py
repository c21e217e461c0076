"""What the demo publishes: Debian's kernel with a busybox initramfs, or generated files of the same sizes."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from p2pboot.core.dataclass import dataclass
from p2pboot.demo.debian import DebianFiles, Unobtainable, debian_files
from p2pboot.demo.initramfs import build_initramfs
from p2pboot.errors import machine_error
from p2pboot.testing.artifacts import write_content

APT_TIMEOUT_S = 30.0
KERNEL_BYTES = 14 << 20  # as Debian 12's cloud kernel for x86_64
INITRAMFS_BYTES = 1 << 20  # as its busybox, gzipped
ROOTFS_BYTES = 64 << 20

# The machine's own name for its processor: (p2pboot's, Debian's).
_ARCHES = {"x86_64": ("x86_64", "amd64"), "aarch64": ("arm64", "arm64")}


@dataclass(frozen=True, slots=True)
class DemoInputs:
    """An artifacts directory that is ready to be published.

    Args:
        real: the kernel boots; otherwise it is a generated file.
        description: which files these are and, for generated ones, why; one line.
        arch: what the kernel is for, "x86_64" or "arm64".
        kernel: `vmlinuz-<release>`.
        initramfs: `initramfs.img`.
        rootfs: `rootfs.img`, generated in either case.
    """

    real: bool
    description: str
    arch: str
    kernel: Path
    initramfs: Path
    rootfs: Path


def prepare_inputs(
    directory: Path,
    *,
    cache: Path,
    note: Callable[[str], None],
    apt_timeout_s: float = APT_TIMEOUT_S,
) -> DemoInputs:
    """Fill `directory` with a kernel, an initramfs and a root file system.

    Args:
        directory: made when missing; must not hold a kernel already.
        cache: keeps what came from Debian for the next time; made when missing.
        note: told in one line each what happens and which files it became.
        apt_timeout_s: how long apt may try before generated files take its place.

    Raises:
        MachineError: the files can not be written.
    """
    machine = platform.machine()
    arch, debian_arch = _ARCHES.get(machine, ("x86_64", None))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        initramfs, rootfs = directory / "initramfs.img", directory / "rootfs.img"
        try:
            if debian_arch is None:
                raise Unobtainable(f"no package for {machine}")
            note("looking for a real kernel and busybox in Debian's packages")
            files = debian_files(cache, debian_arch, timeout_s=apt_timeout_s)
            kernel = _place_real(files, directory, initramfs)
            release = kernel.name.removeprefix("vmlinuz-")
            description = f"real: Debian's kernel {release} and a busybox initramfs"
        except Unobtainable as reason:
            kernel = directory / "vmlinuz-generated"
            write_content(kernel, "kernel", KERNEL_BYTES)
            write_content(initramfs, "initramfs", INITRAMFS_BYTES)
            description = f"generated files of a kernel's and an initramfs's sizes, because {reason}"
        write_content(rootfs, "rootfs", ROOTFS_BYTES)
    except OSError as error:
        raise machine_error(error, f"prepare the demo's files in {directory}") from error
    note(description)
    return DemoInputs(not kernel.name.endswith("-generated"), description, arch, kernel, initramfs, rootfs)


def _place_real(files: DebianFiles, directory: Path, initramfs: Path) -> Path:
    initramfs.write_bytes(build_initramfs(files.busybox.read_bytes()))
    return shutil.copyfile(files.kernel, directory / files.kernel.name)
