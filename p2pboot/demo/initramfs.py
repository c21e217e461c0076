"""Builds a small initramfs: a `newc` cpio archive, gzipped, around one static busybox.

Needs neither root nor cpio(1): device nodes are only entries of the archive. The same busybox gives the same
bytes. Format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import gzip
import stat

from p2pboot.core.dataclass import dataclass

INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
echo "p2pboot demo: this initramfs came over the network and was verified piece by piece"
echo "kernel command line: $(/bin/busybox cat /proc/cmdline)"
/bin/busybox ls -l /
exec /bin/busybox sh
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of the archive.

    Args:
        name: path without a leading slash.
        mode: file type and permissions, as in `stat.st_mode`.
        data: content of a file, target of a symbolic link, empty otherwise.
        device: major and minor number of a device node.
    """

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def cpio(entries: list[Entry]) -> bytes:
    """The entries as a `newc` archive; everything belongs to root and has time 0."""
    archive = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        archive += _header(entry, inode)
        archive += entry.name.encode() + b"\0"
        _pad(archive)
        archive += entry.data
        _pad(archive)
    return bytes(archive)


def build_initramfs(busybox: bytes) -> bytes:
    """A gzipped initramfs that mounts /proc and /sys, says what it is, lists itself and gives a shell.

    Args:
        busybox: a statically linked busybox for the kernel's architecture.
    """
    directories = [Entry(name, stat.S_IFDIR | 0o755) for name in ("bin", "dev", "proc", "sys")]
    archive = cpio(
        [
            *directories,
            # The kernel opens it for init's input and output before anything could make it.
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry("bin/busybox", stat.S_IFREG | 0o755, busybox),
            Entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox"),
            Entry("init", stat.S_IFREG | 0o755, INIT),
        ]
    )
    return gzip.compress(archive, compresslevel=6, mtime=0)


def _header(entry: Entry, inode: int) -> bytes:
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        links,
        0,  # mtime
        len(entry.data),
        0,  # device of the file system: major, minor
        0,
        *entry.device,
        len(entry.name.encode()) + 1,
        0,  # checksum, unused in this variant
    )
    return b"070701" + b"".join(b"%08X" % field for field in fields)


def _pad(archive: bytearray) -> None:
    archive += bytes(-len(archive) % 4)
