import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core import names
from p2pboot.core.filenames import artifact_key_for_file

KNOWN_FORMS = {
    "kernel": """vmlinuz vmlinuz-6.1.0-13-cloud-amd64 vmlinuz-6.1.0-0.deb11.7-amd64 vmlinuz-linux-lts vmlinuz-generated
        vmlinuz-6.5.6-300.fc39.x86_64 vmlinuz-5.14.0-362.8.1.el9_3.x86_64+debug vmlinuz-5.15.0-204.147.6.2.el9uek.x86_64
        vmlinuz-6.1.61+rpt-rpi-v8 vmlinuz-6.6.8-arch1-1 vmlinuz-6.7-rc3 vmlinuz.efi vmlinuz-6.5.0-14-generic.efi.signed
        vmlinuz0 vmlinuz_6.1 bzImage bzImage--6.1.38+git0+a1b2c3d-r0-qemux86-64-20230912.bin zImage Image Image.gz
        Image.gz-dtb Image-6.4.0-150600.9-default kernel kernel.img kernel8.img kernel_2712.img kernel-6.1.12-gentoo
        kernel-x86_64 kernel.aarch64 linux linux.efi""",
    "initramfs": """initramfs initramfs.img initramfs-6.5.6-300.fc39.x86_64.img initramfs-linux.img initramfs-lts
        initramfs.cpio.zst initramfs-amd64.xz initramfs.x86_64.img initramfs7l initramfs8 initramfs_2712 initrd
        initrd.img initrd.gz initrd0.img initrd-6.4.0-default initrd.img-6.1 initrd.img-6.1.0-18-amd64
        initrd-6.1.img.lz4""",
    "rootfs": """rootfs rootfs.squashfs rootfs.ext4 rootfs.ext4.zst rootfs.img rootfs.tar.gz rootfs.erofs rootfs.raw.xz
        rootfs-2025.11.26.squashfs rootfs-amd64.img rootfs_v2.btrfs rootfs.squashfs-7 rootfs-7""",
    "uki": "uki uki.efi uki-6.1.0-18-amd64.efi",
    "dtbs/bcm2711-rpi-4-b": "bcm2711-rpi-4-b.dtb",
    "dtbs/kernel-board": "kernel-board.dtb",
    "modules-6.1.0-13": "modules-6.1.0-13.tar.gz",
    "modules": "modules.squashfs modules.img.gz",
    "firmware": "firmware firmware.bin",
    "arch-linux": "arch-linux.efi",
    "image": "image image.bin",  # only the kernel's own spelling, Image, is a kernel
    "vmlinux": "vmlinux",
}


@pytest.mark.parametrize(
    ("filename", "key"), [(name, key) for key, files in KNOWN_FORMS.items() for name in files.split()]
)
def test_file_names_map_to_artifact_keys(filename: str, key: str) -> None:
    assert artifact_key_for_file(filename) == key


@pytest.mark.parametrize(
    "filename",
    [
        *(
            "rootfs.squashfs.weird",
            "rootfs-6.squashfs.weird",
            "rootfs.xyz",
            "rootfs2.squashfs",
            "rootfs.squashfs.x1",
        ),
        *(
            "kernel.config2",
            "kernel-6.1.config2",
            "kernelx",
            "kernel-headers.tar.gz",
            "kernel-modules-6.1.squashfs",
        ),
        *(
            "vmlinuz.1",
            "vmlinuz-6.1.fast",
            "vmlinuz-",
            "vmlinuz-6.1.",
            "Image.weird",
            "bzImage.txtx",
            "vmlinuz 6.1",
        ),
        *(
            "initrd.img.weird",
            "initrd-ucode.img",
            "initramfs-data.img",
            "initramfs.squashfs",
            "rootfs-verity.img",
        ),
        *(
            "rootfs-partial.squashfs",
            "rootfs.squashfs-upload",
            "rootfs.squashfs-tmp",
            "rootfs.verity",
            "uki.weird",
        ),
    ],
)
def test_what_only_begins_like_an_artifact_becomes_none(filename: str) -> None:
    with pytest.raises(ValueError, match="with an ending that is not known"):
        artifact_key_for_file(filename)


@pytest.mark.parametrize("filename", ["modules.squashfs.weird", "firmware.cpio.gz.xyz", "extra.tar.half2"])
def test_an_unknown_ending_after_a_known_one_may_be_half_a_copy(filename: str) -> None:
    with pytest.raises(ValueError, match="may be unfinished"):
        artifact_key_for_file(filename)


@pytest.mark.parametrize(
    "filename",
    [".hidden", "kernel.part", "rootfs.tmp", "manifest.json", "manifest.json.sig", "kernel.sig", "README"],
)
def test_unfinished_hidden_and_own_files_are_ignored(filename: str) -> None:
    assert artifact_key_for_file(filename) is None


@pytest.mark.parametrize(
    "filename",
    [
        "Makefile",
        "Über",
        "BCM.dtb",
        "dtbs",
        "dtbs.tar",
        "dtbs.tar.gz",
        "cmdline",
        "cmdline.txt",
        "a b",
        "VMLINUZ",
    ],
)
def test_files_without_an_allowed_key_are_refused(filename: str) -> None:
    with pytest.raises(ValueError, match=r"is not allowed|is reserved"):
        artifact_key_for_file(filename)


def test_long_names_are_judged_quickly() -> None:
    """No name has so many readings that judging it takes for ever: this would not end within years."""
    for stem in ("kernel-1", "rootfs-1", "initrd.img-1"):
        for part in (".x86_64", "-a", "_a", "+a.1", ".1", "--a", ".fc1"):
            filename = (stem + part * 100)[:250] + "!"
            with pytest.raises(ValueError, match="ending"):
                artifact_key_for_file(filename)


@given(st.from_regex(r"[a-zA-Z0-9][A-Za-z0-9._-]{0,40}", fullmatch=True))
def test_a_fetched_directory_maps_to_the_same_keys_again(filename: str) -> None:
    try:
        key = artifact_key_for_file(filename)
    except ValueError:
        return
    if key is not None:
        assert artifact_key_for_file(names.output_file_name(key).removeprefix("dtbs/")) == key
