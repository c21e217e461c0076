import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core import names


@pytest.mark.parametrize("name", ["a", "0", "stable", "6.1.0-13", "a" * 64, "a_b.c-d"])
def test_allowed_names_are_returned_unchanged(name: str) -> None:
    assert names.check_name(name, "channel") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "-a", "_a", ".hidden", "a/b", "A", "a" * 65, "a\n", "a b", "é", "a\x00", "٣"],
)
def test_other_names_are_refused_with_what_they_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"channel .* is not allowed"):
        names.check_name(name, "channel")


def test_aarch64_is_arm64_and_nothing_else_is_known() -> None:
    assert names.normalise_arch("aarch64") == names.normalise_arch("arm64") == "arm64"
    assert names.normalise_arch("x86_64") == "x86_64"
    for other in ("amd64", "ARM64", "", "riscv64"):
        with pytest.raises(ValueError, match="use x86_64 or arm64"):
            names.normalise_arch(other)


@pytest.mark.parametrize(
    ("filename", "key"),
    [
        ("vmlinuz-6.1.0-13-cloud-amd64", "kernel"),
        ("bzImage", "kernel"),
        ("Image.gz", "kernel"),
        ("kernel", "kernel"),
        ("initramfs.img", "initramfs"),
        ("initrd.img-6.1", "initramfs"),
        ("rootfs.squashfs", "rootfs"),
        ("bcm2711-rpi-4-b.dtb", "dtbs/bcm2711-rpi-4-b"),
        ("kernel-board.dtb", "dtbs/kernel-board"),
        ("modules-6.1.0-13.tar.gz", "modules-6.1.0-13"),
        ("firmware", "firmware"),
        ("image", "image"),  # only the kernel's own spelling, Image*, is a kernel
    ],
)
def test_file_names_map_to_artifact_keys(filename: str, key: str) -> None:
    assert names.artifact_key_for_file(filename) == key


@pytest.mark.parametrize(
    "filename", [".hidden", "kernel.part", "rootfs.tmp", "manifest.json", "manifest.json.sig", "kernel.sig"]
)
def test_unfinished_hidden_and_own_files_are_ignored(filename: str) -> None:
    assert names.artifact_key_for_file(filename) is None


@pytest.mark.parametrize("filename", ["README", "Über", "BCM.dtb", "dtbs", "dtbs.tar", "cmdline", "a b"])
def test_files_without_an_allowed_key_are_refused(filename: str) -> None:
    with pytest.raises(ValueError, match=r"is not allowed|is reserved"):
        names.artifact_key_for_file(filename)


@given(st.from_regex(r"[a-zA-Z0-9][A-Za-z0-9._-]{0,40}", fullmatch=True))
def test_a_fetched_directory_maps_to_the_same_keys_again(filename: str) -> None:
    try:
        key = names.artifact_key_for_file(filename)
    except ValueError:
        return
    if key is not None:
        assert names.artifact_key_for_file(names.output_file_name(key).removeprefix("dtbs/")) == key


def test_paths_and_output_names_of_device_trees() -> None:
    assert names.artifact_path("stable", "arm64", "kernel") == "/stable/arm64/kernel"
    assert names.artifact_path("stable", "arm64", "dtbs/x") == "/stable/arm64/dtbs/x"
    assert names.output_file_name("dtbs/x") == "dtbs/x.dtb"
    assert names.output_file_name("rootfs") == "rootfs"


@pytest.mark.parametrize("key", ["dtbs/", "dtbs/a/b", "dtbs/..", "../x", "a/b", "dtbs", "manifest.json"])
def test_artifact_keys_never_leave_the_output_directory(key: str) -> None:
    with pytest.raises(ValueError, match=r"is not allowed|is reserved"):
        names.check_artifact_key(key)
