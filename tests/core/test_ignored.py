"""What tools, systems and shares leave beside artifacts is known by its name, and why it is passed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.ignored import Reason, why_ignored, why_ignored_directory, why_not_a_place

LEAVINGS = {
    Reason.UNFINISHED: [
        *(
            "rootfs.squashfs.filepart",
            "rootfs.part",
            "rootfs.PART",
            "a.partial",
            "a.crdownload",
            "a.download",
            "a.!qB",
        ),
        *(
            "a.aria2",
            "a.tmp",
            "a.temp",
            "a.tmp.123",
            "tmp.aB3dE6gH1j",
            "rootfs.tmp.img",
            "initrd.img-6.1.new",
        ),
        *(
            ".rootfs.squashfs.Xa3f2G",
            ".vmlinuz-6.1.0-18-amd64.k3jD9x",
            "rootfs.img.6eF5b5da",
            ".in.rootfs.img.",
        ),
        *(
            ".vmlinuz.swp",
            "vmlinuz.swx",
            ".x.kate-swp",
            ".goutputstream-ABC123",
            "~syncthing~rootfs.tmp",
            "4913",
        ),
        *(".syncthing.rootfs.img.tmp", "Unconfirmed 123.crdownload", ".~lock.notes#", "rootfs.img_.gstmp"),
    ],
    Reason.BACKUP: [
        *(
            "vmlinuz~",
            "#vmlinuz#",
            "a.bak",
            "vmlinuz.old",
            "a.orig",
            "a.save",
            "a.rej",
            "initrd.img.dpkg-new",
        ),
        *(
            "initrd.img-6.1.dpkg-bak",
            "a.rpmsave",
            "a.rpmnew",
            "a.pacnew",
            "rootfs_old.squashfs",
            "rootfs-backup.img",
        ),
        *(
            "rootfs - Copy.squashfs",
            "Copy of rootfs.img",
            "Copy (2) of x",
            "rootfs (1).squashfs",
            "rootfs (copy).img",
        ),
        *(
            "rootfs copy.img",
            "rootfs copy 2.img",
            "rootfs.squashfs.1",
            "backup.squashfs",
            "backup",
            "a.ucf-dist",
        ),
        *("rootfs.sync-conflict-20251126-101010-ABCDEFG.img", "a (Bob's conflicted copy 2025-11-26).img"),
        *("initramfs-linux-fallback.img", "vmlinuz-0-rescue-0123456789abcdef", "initramfs-6.5.6kdump.img"),
        *(
            "initrd-6.4.0-default-kdump",
            "initrd.img-6.1.0-18-amd64.old-dkms",
            "rootfs.img.sb-1a2b3c4d-AbCdEf",
        ),
        *("rootfs - Kopie.img", "rootfs - copie (2).img", "rootfs (Kopie).img", "rootfs (copia).img"),
    ],
    Reason.SYSTEM: [
        *(
            "@eaDir",
            "@EADIR",
            "#recycle",
            "#snapshot",
            "@Recycle",
            "@Recently-Snapshot",
            ".snapshot",
            "~snapshot",
        ),
        *("lost+found", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "THUMBS.DB", "ehthumbs.db"),
        *(
            "desktop.ini",
            ".DS_Store",
            "._vmlinuz",
            "__MACOSX",
            "TRANS.TBL",
            "FOUND.000",
            "descript.ion",
            "Network Trash Folder",
            "Temporary Items",
            "Icon\r",
        ),
        *(
            ".AppleDouble",
            ".Trash-1000",
            ".nfs000000000123abcd00000001",
            ".fuse_hidden0000123400000001",
            "core.1234",
        ),
    ],
    Reason.HIDDEN: [
        ".git",
        ".hidden",
        "..data",
        "..2025_11_26_01",
        ".#vmlinuz",
        ".gitkeep",
        ".snapshots2x"[:6],
    ],
    Reason.COMPANION: [
        *("SHA256SUMS", "SHA256SUMS.gpg", "sha256sum.txt", "vmlinuz.sha256", "rootfs.img.md5", "MD5SUMS"),
        *("rootfs.squashfs.asc", "a.sig", "a.minisig", "a.sigstore.json", "README", "README.md", "a.txt"),
        *(
            "LICENSE",
            "COPYING",
            "COPYING.LIB",
            "System.map-6.1.0-18-amd64",
            "config-6.1.0-18-amd64",
            "kernel.map",
        ),
        *(
            "filesystem.manifest",
            "rootfs.torrent",
            "rootfs.img.zsync",
            "build.log",
            "index.html",
            "rootfs.packages",
        ),
        *(
            "rootfs.wic.bmap",
            "symvers-6.5.6-300.fc39.x86_64.xz",
            "CHECKSUM",
            "kernel.config",
            "memtest86+x64.bin",
        ),
        *(
            "filesystem.size",
            "filesystem.manifest-remove",
            "filesystem.packages-remove",
            "sysctl.conf-6.4.0-default",
        ),
    ],
    Reason.OWN: ["manifest.json", "manifest.json.sig", "artifacts.toml", ".p2pboot"],
}


@pytest.mark.parametrize(
    ("name", "reason"), [(name, reason) for reason, files in LEAVINGS.items() for name in files]
)
def test_ignored_names_are_known_with_their_reason(name: str, reason: Reason) -> None:
    assert why_ignored(name) is reason


@pytest.mark.parametrize(
    "name",
    [
        *(
            "vmlinuz",
            "vmlinuz-6.1.0-18-amd64",
            "initrd.img",
            "rootfs.squashfs",
            "modules-6.1.tar.gz",
            "cmdline",
        ),
        *("firmware.20251126", "modules-6.1.1", "extra.bin", "board.dtb", "cmdline.txt", "ignition.json"),
        *(
            "newt",
            "oldstable.img",
            "tmpfs.img",
            "backups2.img",
            "core",
            "core.gz",
            "configs",
            "amd-ucode.img",
        ),
    ],
)
def test_what_may_be_an_artifact_is_not_passed_over(name: str) -> None:
    assert why_ignored(name) is None


@pytest.mark.parametrize(
    "name", ["stable", "previous", "copy", "version", "readme", "config-test", "efi", "old"]
)
def test_channels_may_be_called_like_files_beside_images(name: str) -> None:
    assert why_not_a_place(name) is None


@pytest.mark.parametrize(
    "name", ["@eaDir", "lost+found", ".snapshots", "stable.old", "stable~", "x.tmp", "#recycle"]
)
def test_ignored_names_above_the_artifacts_are_no_places(name: str) -> None:
    assert why_not_a_place(name) is not None


def test_among_device_trees_a_text_may_be_meant_for_the_boot_loader() -> None:
    assert why_ignored("overlays.txt") is Reason.COMPANION
    assert why_ignored("overlays.txt", among_device_trees=True) is None
    for name in ("README", "README.txt", "SHA256SUMS", "LICENSE.txt"):
        assert why_ignored(name, among_device_trees=True) is Reason.COMPANION


def test_boot_loaders_have_directories_beside_kernels() -> None:
    assert {why_ignored_directory(name) for name in ("grub", "grub2", "efi", "EFI", "loader")} == {
        Reason.COMPANION
    }
    assert why_ignored_directory("modules") is None
    assert why_ignored("loader") is None


@given(st.text(max_size=40))
def test_case_never_counts_but_for_our_own_names(name: str) -> None:
    if name.isascii() and Reason.OWN not in (
        why_ignored(name.lower()),
        why_ignored(name.upper()),
        why_ignored(name),
    ):
        assert (
            (why_ignored(name) is None)
            == (why_ignored(name.lower()) is None)
            == (why_ignored(name.upper()) is None)
        )
