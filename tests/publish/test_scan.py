import os
import socket
from pathlib import Path

import pytest

from p2pboot.core.ignored import Reason
from p2pboot.errors import ArtifactError, MachineError, UsageError
from p2pboot.publish.scan import Scanned, Tree, recently_changed, scan_each
from p2pboot.publish.tree import MAX_IGNORED
from tests.publish.pe_files import EFI_ZBOOT, UKI
from tests.publish.trees import scan


def fill(directory: Path, *names: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    return directory


def image(directory: Path, *more: str) -> Path:
    return fill(directory, "vmlinuz-6.1", "initrd.img-6.1", *more)


def refusal(directory: Path, channel: str | None = "stable", arch: str | None = "arm64") -> str:
    with pytest.raises(ArtifactError) as caught:
        scan(directory, channel, arch)
    assert caught.value.remedy
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_tree_by_channel_and_arch_is_found(tmp_path: Path) -> None:
    leaf = image(tmp_path / "stable" / "arm64", "rootfs.squashfs", "board.dtb", "extra.bin")
    expected = {
        "dtbs/board": leaf / "board.dtb",
        "extra": leaf / "extra.bin",
        "initramfs": leaf / "initrd.img-6.1",
        "kernel": leaf / "vmlinuz-6.1",
        "rootfs": leaf / "rootfs.squashfs",
    }
    for channel, arch in ((None, None), ("stable", None), (None, "arm64"), ("stable", "aarch64")):
        (tree,) = scan(tmp_path, channel, arch)
        assert tree == Tree("stable", "arm64", leaf, expected, None)
        assert list(tree.files) == sorted(expected)


def test_all_trees_are_found_sorted_and_aarch64_is_arm64(tmp_path: Path) -> None:
    for leaf in ("testing/x86_64", "stable/x86_64", "stable/aarch64"):
        image(tmp_path / leaf)
    (tmp_path / "nightly" / "arm64").mkdir(parents=True)  # in preparation
    (tmp_path / "README").write_text("hello")
    (tmp_path / "lost+found").mkdir()
    found = [(tree.channel, tree.arch) for tree in scan(tmp_path)]
    assert found == [("stable", "arm64"), ("stable", "x86_64"), ("testing", "x86_64")]
    assert scan(tmp_path, "stable", "arm64")[0].directory == tmp_path / "stable" / "aarch64"
    assert [tree.channel for tree in scan(tmp_path, arch="x86_64")] == ["stable", "testing"]


def test_a_flat_directory_needs_to_be_told_what_it_is(tmp_path: Path) -> None:
    image(tmp_path)
    (tree,) = scan(tmp_path, "stable", "aarch64")
    assert (tree.channel, tree.arch, tree.directory) == ("stable", "arm64", tmp_path)
    for channel, arch in ((None, None), ("stable", None), (None, "arm64")):
        assert "does not lie in a directory <channel>/<arch>" in refusal(tmp_path, channel, arch)


def test_what_a_fetch_left_behind_can_be_scanned(tmp_path: Path) -> None:
    fill(tmp_path, "kernel", "initramfs", "rootfs", "manifest.json", "manifest.json.sig", "dtbs/board.dtb")
    fill(tmp_path / ".p2pboot", "state.sqlite3")
    (tmp_path / "cmdline").write_text("console=ttyS0 quiet\n")
    (tree,) = scan(tmp_path, "stable", "arm64")
    assert list(tree.files) == ["dtbs/board", "initramfs", "kernel", "rootfs"]
    assert tree.cmdline == "console=ttyS0 quiet"


@pytest.mark.parametrize(("content", "cmdline"), [("", ""), ("\n", ""), ("a\n", "a"), ("a", "a")])
def test_one_final_newline_is_no_part_of_the_command_line(tmp_path: Path, content: str, cmdline: str) -> None:
    image(tmp_path)
    (tmp_path / "cmdline").write_text(content)
    assert scan(tmp_path, "stable", "arm64")[0].cmdline == cmdline


@pytest.mark.parametrize("content", [b"a\n\n", b"a\nb", b"\xff", b"a\x00b", b"x" * 4097])
def test_what_is_no_command_line_is_refused(tmp_path: Path, content: bytes) -> None:
    image(tmp_path)
    (tmp_path / "cmdline").write_bytes(content)
    assert "cmdline is no kernel command line" in refusal(tmp_path)


def test_unfinished_and_hidden_files_are_ignored(tmp_path: Path) -> None:
    image(tmp_path, ".hidden", "rootfs.part", "rootfs.tmp", "vmlinuz-6.1.sig", "manifest.json", "dtbs/.x")
    (tmp_path / ".snapshots").mkdir()
    (tmp_path / "rootfs.img.tmp").mkdir()
    assert list(scan(tmp_path, "stable", "arm64")[0].files) == ["initramfs", "kernel"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["initrd"], "no kernel in {dir}: expected vmlinuz*, bzImage*, Image* or kernel*"),
        (["bzImage"], "no initramfs in {dir}: expected initramfs* or initrd*"),
        ([], "no kernel in {dir}"),
        (["vmlinuz", "Image", "initrd"], "two files for kernel: {dir}/Image and {dir}/vmlinuz"),
        (
            ["vmlinuz", "initrd", "a.dtb", "dtbs/a.dtb"],
            "two files for dtbs/a: {dir}/a.dtb and {dir}/dtbs/a.dtb",
        ),
        (["vmlinuz", "initrd", "a.x", "a.y"], "two files for a: {dir}/a.x and {dir}/a.y"),
        (["vmlinuz", "initrd", "Makefile"], "{dir}/Makefile: artifact name 'Makefile' is not allowed"),
        (["vmlinuz", "initrd", "rootfs.weird"], "{dir}/rootfs.weird: it is called like the rootfs, but"),
        (["vmlinuz", "initrd", "dtbs/board.dts"], "{dir}/dtbs/board.dts is no device tree"),
        (["vmlinuz", "initrd", "dtbs/notes.txt"], "{dir}/dtbs/notes.txt is no device tree"),
        (
            ["vmlinuz", "initrd", "dtbs/a b.dtb"],
            "{dir}/dtbs/a b.dtb: device tree name 'a b.dtb' is not allowed",
        ),
        (
            ["vmlinuz", "initrd.img.part"],
            "no initramfs in {dir}: expected initramfs* or initrd*; ignored: initrd.img.",
        ),
        (["vmlinuz", "initrd", "other/x"], "{dir}/other is a directory"),
        (["vmlinuz", "initrd", "cmdline.txt"], "{dir}/cmdline.txt: artifact name 'cmdline' is reserved"),
    ],
)
def test_what_can_not_be_published_is_named(tmp_path: Path, names: list[str], says: str) -> None:
    directory = fill(tmp_path / "stable" / "arm64", *names)
    assert refusal(tmp_path).startswith(says.format(dir=directory))


def test_one_faulty_tree_is_named_among_good_ones(tmp_path: Path) -> None:
    image(tmp_path / "stable" / "arm64")
    fill(tmp_path / "stable" / "x86_64", "vmlinuz")
    assert f"no initramfs in {tmp_path}/stable/x86_64" in refusal(tmp_path, None, None)


def test_arm64_twice_names_both(tmp_path: Path) -> None:
    for arch in ("arm64", "aarch64"):
        image(tmp_path / "stable" / arch)
    for channel in (None, "stable"):
        message = refusal(tmp_path, channel, "arm64" if channel else None)
        assert f"both {tmp_path}/stable/aarch64 and {tmp_path}/stable/arm64" in message


def test_directories_with_other_names_are_refused(tmp_path: Path) -> None:
    image(tmp_path / "stable" / "mips64")
    assert f"{tmp_path}/stable/mips64: architecture 'mips64' is not known" in refusal(tmp_path, None, None)
    image(tmp_path / "Old Images" / "arm64")
    assert f"{tmp_path}/Old Images: channel 'Old Images' is not allowed" in refusal(tmp_path, None, None)


def test_artifacts_in_the_wrong_place_are_refused(tmp_path: Path) -> None:
    image(tmp_path / "stable" / "arm64")
    fill(tmp_path / "stable", "vmlinuz-6.1")
    assert f"{tmp_path}/stable/vmlinuz-6.1 does not lie in" in refusal(tmp_path, None, None)


def test_another_channel_than_there_is_names_those_there_are(tmp_path: Path) -> None:
    image(tmp_path / "stable" / "x86_64")
    assert refusal(tmp_path, "testing", "x86_64").endswith("only stable/x86_64")


def test_missing_empty_and_other_things_than_directories(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"there is no directory {tmp_path}/nowhere"
    assert "there is nothing to publish" in refusal(tmp_path, None, None)
    (tmp_path / "stable").mkdir()
    assert "there is nothing to publish" in refusal(tmp_path, None, None)
    fill(tmp_path, "file")
    assert refusal(tmp_path / "file") == f"{tmp_path}/file is not a directory"


@pytest.mark.parametrize(("channel", "arch"), [("Stable", "arm64"), ("stable", "mips"), ("../x", "arm64")])
def test_channel_and_arch_are_checked_first(tmp_path: Path, channel: str, arch: str) -> None:
    with pytest.raises(UsageError, match=r"not allowed|not known"):
        scan(tmp_path, channel, arch)


def test_empty_files_are_refused(tmp_path: Path) -> None:
    image(tmp_path)
    (tmp_path / "rootfs.img").touch()
    assert refusal(tmp_path) == f"{tmp_path}/rootfs.img is empty"


def test_only_regular_files_are_taken_and_nothing_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "vmlinuz")
    os.mkfifo(tmp_path / "initrd")
    assert refusal(tmp_path) == f"{tmp_path}/initrd is a FIFO, not a regular file"
    (tmp_path / "initrd").unlink()
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("initrd")
        assert refusal(tmp_path) == f"{tmp_path}/initrd is a socket, not a regular file"
    (tmp_path / "initrd").unlink()
    (tmp_path / "cmdline").mkdir()
    assert refusal(tmp_path) == f"{tmp_path}/cmdline is a directory, not a regular file"


def test_links_may_stay_inside_but_not_leave(tmp_path: Path) -> None:
    root = tmp_path / "root"
    leaf = image(root / "stable" / "arm64")
    fill(root / ".releases", "rootfs-7")
    (leaf / "rootfs").symlink_to("../../.releases/rootfs-7")
    assert scan(root)[0].files["rootfs"] == leaf / "rootfs"
    (leaf / "rootfs").unlink()
    secret = fill(tmp_path, "secret") / "secret"
    for target in (secret, Path("../../../secret"), Path("/dev/null")):
        (leaf / "rootfs").symlink_to(target)
        assert "outside of" in refusal(root, None, None)
        (leaf / "rootfs").unlink()
    (leaf / "rootfs").symlink_to("nothing")
    assert refusal(root, None, None) == f"{leaf}/rootfs is a link to nothing"


def test_linked_directories_may_stay_inside_but_not_leave(tmp_path: Path) -> None:
    root = tmp_path / "root"
    image(root / ".releases" / "7")
    (root / "stable").mkdir()
    (root / "stable" / "arm64").symlink_to("../.releases/7")
    assert scan(root)[0].arch == "arm64"
    image(tmp_path / "elsewhere")
    (root / "stable" / "x86_64").symlink_to(tmp_path / "elsewhere")
    assert "outside of" in refusal(root, None, None)
    (root / "stable" / "x86_64").unlink()
    (root / ".releases" / "7" / "dtbs").symlink_to(tmp_path / "elsewhere")
    assert "outside of" in refusal(root, None, None)


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    image(tmp_path / "real" / "stable" / "arm64")
    (tmp_path / "link").symlink_to("real")
    assert scan(tmp_path / "link")[0].directory == tmp_path / "link" / "stable" / "arm64"


def test_a_name_that_would_move_the_cursor_is_shown_harmlessly(tmp_path: Path) -> None:
    image(tmp_path, "\x1b[2Jx")
    assert "\x1b" not in refusal(tmp_path)


def test_a_directory_that_can_not_be_read_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    image(tmp_path)
    monkeypatch.setattr(os, "listdir", forbidden)
    with pytest.raises(MachineError, match=f"cannot read {tmp_path}: Permission denied"):
        scan(tmp_path)


SECOND_NS = 1_000_000_000


def test_a_tree_was_recently_changed_until_all_of_it_was_quiet(tmp_path: Path) -> None:
    image(tmp_path, "dtbs/board.dtb")
    (tree,) = scan(tmp_path, "stable", "arm64")
    newest = max(path.stat().st_ctime_ns for path in (tmp_path, tmp_path / "dtbs", *tree.files.values()))
    assert recently_changed(tree, newest + SECOND_NS, 2.0)
    assert not recently_changed(tree, newest + 2 * SECOND_NS, 2.0)
    assert not recently_changed(tree, newest - 3600 * SECOND_NS, 2.0), "a clock that was ahead"


def test_an_old_date_does_not_hide_a_fresh_copy(tmp_path: Path) -> None:
    image(tmp_path)
    (tree,) = scan(tmp_path, "stable", "arm64")
    os.utime(tree.files["kernel"], (0, 0))
    changed_ns = tree.files["kernel"].stat().st_ctime_ns
    assert recently_changed(tree, changed_ns + SECOND_NS, 2.0)


def test_a_file_that_vanished_is_a_recent_change(tmp_path: Path) -> None:
    image(tmp_path)
    (tree,) = scan(tmp_path, "stable", "arm64")
    tree.files["kernel"].unlink()
    assert recently_changed(tree, 2**62, 2.0)


def keys(directory: Path) -> dict[str, str]:
    """Artifact key → file name of what a flat directory has."""
    (tree,) = scan(directory, "stable", "arm64")
    return {key: path.name for key, path in tree.files.items()}


def ignored(directory: Path) -> dict[str, Reason]:
    (tree,) = scan(directory, "stable", "arm64")
    return {str(one.path.relative_to(directory)): one.why for one in tree.ignored}


# What is no artifact


def test_half_an_upload_is_not_published_as_what_it_will_be(tmp_path: Path) -> None:
    image(
        tmp_path,
        "rootfs.squashfs.filepart",
        "modules.squashfs.part",
        ".rootfs.img.Xa3f2G",
        "rootfs.img.crdownload",
    )
    assert set(keys(tmp_path)) == {"kernel", "initramfs"}
    assert set(ignored(tmp_path).values()) == {Reason.UNFINISHED}


def test_half_an_upload_is_not_published_under_another_name_either(tmp_path: Path) -> None:
    image(tmp_path, "rootfs.squashfs.filepart")
    (tmp_path / "rootfs.squashfs").symlink_to("rootfs.squashfs.filepart")
    assert ignored(tmp_path)["rootfs.squashfs"] is Reason.UNFINISHED


def test_what_systems_and_shares_leave_is_ignored_and_listed(tmp_path: Path) -> None:
    image(
        tmp_path, "Thumbs.db", ".DS_Store", "desktop.ini", "._vmlinuz-6.1", "dtbs/board.dtb", "dtbs/Thumbs.db"
    )
    for directory in ("@eaDir", "#recycle", "__MACOSX", "dtbs/@eaDir"):
        (tmp_path / directory).mkdir()
        fill(tmp_path / directory, "vmlinuz-6.1@SynoEAStream")
    assert set(keys(tmp_path)) == {"kernel", "initramfs", "dtbs/board"}
    found = ignored(tmp_path)
    assert {"@eaDir", "#recycle", "__MACOSX", "dtbs/@eaDir", "dtbs/Thumbs.db", "Thumbs.db"} <= set(found)
    assert set(found.values()) == {Reason.SYSTEM}


def test_ignored_names_above_the_artifacts_are_listed_too(tmp_path: Path) -> None:
    leaf = image(tmp_path / "stable" / "amd64")
    for directory in (tmp_path / "@eaDir", leaf.parent / "@eaDir", tmp_path / "stable.old"):
        image(directory)
    found = scan_each(tmp_path)
    assert [tree.arch for tree in found.trees] == ["x86_64"]
    assert not found.faults
    assert not found.unfit
    assert {one.path for one in found.ignored} == {
        tmp_path / "@eaDir",
        leaf.parent / "@eaDir",
        tmp_path / "stable.old",
    }


def test_files_beside_images_are_no_artifacts(tmp_path: Path) -> None:
    image(
        tmp_path, "SHA256SUMS", "SHA256SUMS.gpg", "README", "System.map-6.1", "config-6.1", "vmlinuz-6.1.asc"
    )
    (tmp_path / "grub").mkdir()
    assert set(keys(tmp_path)) == {"kernel", "initramfs"}
    assert set(ignored(tmp_path).values()) == {Reason.COMPANION}
    assert len(ignored(tmp_path)) == 7


def test_the_live_directories_of_distributions_can_be_published_as_they_are(tmp_path: Path) -> None:
    fill(
        tmp_path, "vmlinuz", "initrd", "filesystem.squashfs", "filesystem.size", "filesystem.manifest-remove"
    )
    fill(tmp_path, "filesystem.packages", "filesystem.packages-remove", "TRANS.TBL")
    (tree,) = scan(tmp_path, "stable", "x86_64")
    assert list(tree.files) == ["filesystem", "initramfs", "kernel"]
    assert len(tree.ignored) == 5


def test_the_list_of_ignored_files_is_bounded_and_begins_with_the_worst(tmp_path: Path) -> None:
    image(tmp_path, *(f"notes-{number}.txt" for number in range(MAX_IGNORED + 20)), "rootfs.part")
    (tree,) = scan(tmp_path, "stable", "arm64")
    assert len(tree.ignored) == MAX_IGNORED
    assert tree.ignored[0].why is Reason.UNFINISHED
    assert tree.more_ignored == {"companion": 21}


# Links


def test_a_boot_directory_with_links_has_each_file_once(tmp_path: Path) -> None:
    fill(tmp_path, "vmlinuz-6.1.0-18-amd64", "initrd.img-6.1.0-18-amd64", "vmlinuz-6.1.0-17-amd64.old")
    (tmp_path / "vmlinuz").symlink_to("vmlinuz-6.1.0-18-amd64")
    (tmp_path / "vmlinuz.old").symlink_to("vmlinuz-6.1.0-17-amd64.old")
    (tmp_path / "initrd.img").symlink_to(tmp_path / "initrd.img-6.1.0-18-amd64")
    assert keys(tmp_path) == {"kernel": "vmlinuz-6.1.0-18-amd64", "initramfs": "initrd.img-6.1.0-18-amd64"}


def test_hard_links_of_one_file_are_one_artifact(tmp_path: Path) -> None:
    fill(tmp_path, "vmlinuz-6.1", "initrd.img-6.1")
    os.link(tmp_path / "initrd.img-6.1", tmp_path / "initrd.img")
    assert set(keys(tmp_path)) == {"kernel", "initramfs"}


def test_a_links_name_counts_where_its_targets_says_nothing(tmp_path: Path) -> None:
    fill(tmp_path, "6.1.0-18.bin", "Debian 12.img", "initrd", "filesystem.squashfs")
    (tmp_path / "vmlinuz").symlink_to("6.1.0-18.bin")
    (tmp_path / "debian.img").symlink_to("Debian 12.img")
    (tmp_path / "rootfs.squashfs").symlink_to("filesystem.squashfs")
    (tmp_path / "chain.squashfs").symlink_to("rootfs.squashfs")
    assert keys(tmp_path) == {
        "kernel": "vmlinuz",
        "debian": "debian.img",
        "initramfs": "initrd",
        "rootfs": "rootfs.squashfs",
    }


def test_two_files_for_one_artifact_stay_an_error_with_the_way_out(tmp_path: Path) -> None:
    fill(tmp_path, "vmlinuz-6.1", "vmlinuz-6.0", "initrd")
    (tmp_path / "vmlinuz").symlink_to("vmlinuz-6.1")
    with pytest.raises(ArtifactError, match="two files for kernel") as caught:
        scan(tmp_path, "stable", "arm64")
    assert 'artifacts.toml which is meant: kernel = "vmlinuz-6.0"' in (caught.value.remedy or "")


def test_files_of_one_content_stay_the_artifacts_they_are(tmp_path: Path) -> None:
    image(tmp_path, "a.bin", "dtbs/x.dtb")
    os.link(tmp_path / "a.bin", tmp_path / "b.bin")
    (tmp_path / "dtbs" / "y.dtb").symlink_to("x.dtb")
    assert {"a", "b", "dtbs/x", "dtbs/y"} <= set(keys(tmp_path))


def test_a_volume_of_kubernetes_is_read_through_its_links(tmp_path: Path) -> None:
    fill(tmp_path / "..2025_11_26", "vmlinuz", "initrd.img")
    (tmp_path / "..data").symlink_to("..2025_11_26")
    for name in ("vmlinuz", "initrd.img"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert set(keys(tmp_path)) == {"kernel", "initramfs"}


# Unified kernel images


@pytest.mark.parametrize(
    "name", ["vmlinuz.efi", "arch-linux.efi", "uki", "vmlinuz", "linux.efi", "BOOTX64.EFI"]
)
def test_a_uki_alone_is_an_image_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(UKI)
    assert keys(tmp_path) == {"uki": name}


def test_a_compressed_kernel_is_no_uki_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz.efi").write_bytes(EFI_ZBOOT)
    assert "no initramfs" in refusal(tmp_path)
    fill(tmp_path, "initrd", "shellx64.efi")
    assert keys(tmp_path) == {"kernel": "vmlinuz.efi", "initramfs": "initrd", "shellx64": "shellx64.efi"}


@pytest.mark.parametrize("beside", [["initrd.img"], ["vmlinuz"], ["vmlinuz", "initrd.img"]])
def test_a_uki_and_parts_of_the_other_kind_are_an_error(tmp_path: Path, beside: list[str]) -> None:
    fill(tmp_path, *beside)
    (tmp_path / "linux.efi").write_bytes(UKI)
    message = refusal(tmp_path)
    assert f"{tmp_path}/linux.efi is a unified kernel image" in message
    assert all(name in message for name in beside)


def test_two_ukis_are_two_files_for_one_artifact(tmp_path: Path) -> None:
    for name in ("a.efi", "b.efi"):
        (tmp_path / name).write_bytes(UKI)
    assert "two files for uki" in refusal(tmp_path)


def test_what_is_only_called_a_uki_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "uki.efi")
    assert "uki.efi is no unified kernel image: it has no PE sections .linux and .initrd" in refusal(tmp_path)


# Device trees


def tree_of(directory: Path) -> Tree:
    (tree,) = scan(directory, "stable", "arm64")
    return tree


def test_few_device_trees_of_plain_names_are_artifacts_of_their_own(tmp_path: Path) -> None:
    image(tmp_path, *(f"dtbs/board-{number}.dtb" for number in range(32)))
    tree = tree_of(tmp_path)
    assert not tree.archived
    assert "dtbs/board-31" in tree.files
    assert len(tree.device_trees) == 32
    fill(tmp_path, "dtbs/one-more.dtb")
    tree = tree_of(tmp_path)
    assert len(tree.archived) == len(tree.device_trees) == 33
    assert set(tree.files) == {"kernel", "initramfs"}


@pytest.mark.parametrize(
    "name",
    [
        "qcom/sm8250-mtp.dtb",
        "6.1.0-18-arm64/qcom/x.dtb",
        "overlays/i2c.dtbo",
        "i2c.dtbo",
        "BCM2711,rev-b+@1.dtb",
    ],
)
def test_vendors_overlays_and_other_names_need_an_archive(tmp_path: Path, name: str) -> None:
    path = image(tmp_path, "dtbs/plain.dtb") / "dtbs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"tree")
    tree = tree_of(tmp_path)
    assert tree.archived == {name: path, "plain.dtb": tmp_path / "dtbs" / "plain.dtb"}


def test_device_trees_beside_the_kernel_and_below_dtbs_go_together(tmp_path: Path) -> None:
    image(tmp_path, "board.dtb", "dtbs/other.dtb", "dtbs/README.txt")
    (tmp_path / "dtbs" / "ti").mkdir()
    (tmp_path / "dtbs" / "ti" / "x.dtb").write_bytes(b"x")
    assert set(tree_of(tmp_path).archived) == {"board.dtb", "other.dtb", "ti/x.dtb"}


def test_a_boot_directory_may_link_to_the_device_trees_of_its_kernel(tmp_path: Path) -> None:
    image(tmp_path)
    (tmp_path / "dtb-6.4.0-default" / "qcom").mkdir(parents=True)
    (tmp_path / "dtb-6.4.0-default" / "qcom" / "x.dtb").write_bytes(b"x")
    (tmp_path / "dtb").symlink_to("dtb-6.4.0-default")
    assert set(tree_of(tmp_path).archived) == {"qcom/x.dtb"}
    (tmp_path / "dtb").unlink()
    assert set(tree_of(tmp_path).archived) == {"qcom/x.dtb"}


@pytest.mark.parametrize("name", ["dtbs-lts", "dtb-6.5.6-300.fc39.aarch64"])
def test_a_distributions_directory_of_device_trees_needs_no_other_name(tmp_path: Path, name: str) -> None:
    image(tmp_path)
    fill(tmp_path / name / "qcom", "x.dtb")
    (tree,) = scan(tmp_path, "stable", "arm64")
    assert dict(tree.archived) == {"qcom/x.dtb": tmp_path / name / "qcom" / "x.dtb"}


def test_device_trees_of_two_kernels_are_not_mixed(tmp_path: Path) -> None:
    image(tmp_path)
    fill(tmp_path / "dtb-6.4", "a.dtb")
    fill(tmp_path / "dtb-6.5", "b.dtb")
    assert "dtb-6.4 is a directory" in refusal(tmp_path)
    (tmp_path / "dtb").symlink_to("dtb-6.5")
    assert "dtb-6.4 is a directory" in refusal(tmp_path)
    (tmp_path / "dtb-6.4").rename(tmp_path / "dtb-6.4.old")
    (tree,) = scan(tmp_path, "stable", "arm64")
    assert list(tree.device_trees) == ["b.dtb"]


def test_overlays_beside_the_kernel_are_device_trees(tmp_path: Path) -> None:
    fill(tmp_path, "kernel8.img", "initramfs8", "bcm2711-rpi-4-b.dtb")
    fill(tmp_path / "overlays", "vc4.dtbo", "overlay_map.dtb", "README")
    (tree,) = scan(tmp_path, "stable", "arm64")
    assert list(tree.archived) == ["bcm2711-rpi-4-b.dtb", "overlays/overlay_map.dtb", "overlays/vc4.dtbo"]
    fill(tmp_path / "dtbs/overlays", "other.dtbo")
    (tree,) = scan(tmp_path, "stable", "arm64")
    assert "overlays/other.dtbo" in tree.archived
    fill(tmp_path / "dtbs/overlays", "vc4.dtbo")
    assert "two files for dtbs/overlays/vc4.dtbo" in refusal(tmp_path)


def test_a_link_among_device_trees_to_where_it_lies_ends_nothing(tmp_path: Path) -> None:
    image(tmp_path)
    fill(tmp_path / "dtbs", "a.dtb")
    fill(tmp_path / "dtbs/qcom", "x.dtb")
    (tmp_path / "dtbs/self").symlink_to(".")
    (tmp_path / "dtbs/qcom/up").symlink_to("..")
    (tmp_path / "dtbs/latest").symlink_to("qcom")
    (tree,) = scan(tmp_path, "stable", "arm64")
    assert list(tree.archived) == ["a.dtb", "latest/x.dtb", "qcom/x.dtb"]


def test_directories_of_device_trees_may_not_nest_for_ever(tmp_path: Path) -> None:
    deep = image(tmp_path) / "dtbs/a/b/c"
    deep.mkdir(parents=True)
    (deep / "x.dtb").write_bytes(b"x")
    assert set(tree_of(tmp_path).archived) == {"a/b/c/x.dtb"}
    (deep / "again").mkdir()
    assert "at most 3 directories below dtbs/" in refusal(tmp_path)


def test_device_trees_may_not_come_from_outside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (image(root / "stable" / "arm64") / "dtbs").mkdir()
    fill(tmp_path / "elsewhere", "x.dtb")
    (root / "stable/arm64/dtbs/qcom").symlink_to(tmp_path / "elsewhere")
    assert "outside of" in refusal(root, None, None)


def test_a_device_tree_that_is_written_to_is_a_recent_change(tmp_path: Path) -> None:
    vendor = image(tmp_path) / "dtbs" / "qcom"
    vendor.mkdir(parents=True)
    (vendor / "x.dtb").write_bytes(b"x")
    tree = tree_of(tmp_path)
    assert {vendor / "x.dtb", vendor} <= tree.sources
    (vendor / "x.dtb").unlink()
    assert recently_changed(tree, 2**62, 2.0)


# Each channel and architecture stands alone


def pairs(found: Scanned) -> tuple[list[str], dict[str, str]]:
    fit = [f"{tree.channel}/{tree.arch}" for tree in found.trees]
    return fit, {f"{one.channel}/{one.arch}": one.error.message for one in found.unfit}


FAULTY = {
    "half-filled": (lambda leaf: (leaf / "initrd.img-6.1").unlink(), "no initramfs"),
    "link out": (lambda leaf: (leaf / "rootfs.img").symlink_to("/etc/hostname"), "outside of"),
    "link to nothing": (lambda leaf: (leaf / "rootfs.img").symlink_to("gone"), "link to nothing"),
    "bad command line": (lambda leaf: (leaf / "cmdline").write_bytes(b"a\nb"), "no kernel command line"),
    "bad artifacts.toml": (lambda leaf: (leaf / "artifacts.toml").write_bytes(b"="), "no TOML file"),
    "unknown form": (lambda leaf: fill(leaf, "rootfs.weird"), "called like the rootfs"),
    "twice": (lambda leaf: image(leaf.parent / "amd64"), "are x86_64 of testing"),
    "directory is a link out": (
        lambda leaf: (leaf.rename(leaf.with_name("riscv64")), leaf.symlink_to("/etc")),
        "outside of",
    ),
}


@pytest.mark.parametrize(("spoil", "says"), FAULTY.values(), ids=list(FAULTY))
def test_what_is_wrong_with_one_pair_is_only_its_own(tmp_path: Path, spoil: object, says: str) -> None:
    image(tmp_path / "stable" / "x86_64")
    spoil(image(tmp_path / "testing" / "x86_64"))  # type: ignore[operator]
    fit, unfit = pairs(scan_each(tmp_path))
    assert "stable/x86_64" in fit
    assert says in unfit["testing/x86_64"]
    assert pairs(scan_each(tmp_path, "stable", "x86_64")) == (["stable/x86_64"], {})
    with pytest.raises(ArtifactError, match=says):
        scan(tmp_path)


@pytest.mark.parametrize("what", ["leaf", "channel", "file"])
def test_what_can_not_be_read_in_one_place_is_only_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    image(tmp_path / "stable" / "x86_64")
    leaf = image(tmp_path / "testing" / "x86_64", "cmdline")
    sealed = {"leaf": leaf, "channel": leaf.parent, "file": leaf / "cmdline"}[what]
    listdir, path_open = os.listdir, Path.open

    def check(path: Path) -> None:
        if Path(path) == sealed:
            raise PermissionError(13, "Permission denied", str(path))

    def sealed_listdir(path: Path) -> list[str]:
        check(path)
        return listdir(path)

    def sealed_open(self: Path, *arguments: object) -> object:
        check(self)
        return path_open(self, *arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "listdir", sealed_listdir)
    monkeypatch.setattr(Path, "open", sealed_open)
    found = scan_each(tmp_path)
    assert [tree.channel for tree in found.trees] == ["stable"]
    (error,) = (*found.faults, *(one.error for one in found.unfit))
    assert error.message == f"cannot read {sealed}: Permission denied"
    assert isinstance(error, MachineError)
    assert scan(tmp_path, "stable", "x86_64")


def test_a_link_to_nothing_where_a_directory_is_expected_is_told_of(tmp_path: Path) -> None:
    image(tmp_path / "stable/x86_64")
    (tmp_path / "testing").symlink_to("gone")
    (tmp_path / "stable/arm64").symlink_to("../elsewhere")
    found = scan_each(tmp_path)
    assert [(tree.channel, tree.arch) for tree in found.trees] == [("stable", "x86_64")]
    assert sorted(fault.message for fault in found.faults) == [
        f"{tmp_path}/stable/arm64 is a link to nothing",
        f"{tmp_path}/testing is a link to nothing",
    ]
    assert "testing is a link to nothing" in refusal(tmp_path, "testing", "x86_64")


def test_an_artifact_above_the_pairs_is_a_fault_of_nobody(tmp_path: Path) -> None:
    leaf = image(tmp_path / "stable" / "x86_64")
    fill(leaf.parent, "vmlinuz-6.1")
    fill(tmp_path, "initrd.img")
    found = scan_each(tmp_path)
    assert [tree.channel for tree in found.trees] == ["stable"]
    assert [error.message.split(" does not lie")[0] for error in found.faults] == [
        f"{tmp_path}/initrd.img",
        f"{leaf.parent}/vmlinuz-6.1",
    ]


def test_one_directory_under_two_names_of_its_architecture_is_one(tmp_path: Path) -> None:
    image(tmp_path / "stable" / "x86_64")
    (tmp_path / "stable" / "amd64").symlink_to("x86_64")
    (tmp_path / "stable" / "X64").mkdir()  # in preparation
    assert pairs(scan_each(tmp_path)) == (["stable/x86_64"], {})


def test_directories_may_have_any_usual_name_of_the_architecture(tmp_path: Path) -> None:
    for arch in ("AMD64", "arm64v8", "riscv64"):
        image(tmp_path / "stable" / arch)
    assert [tree.arch for tree in scan(tmp_path)] == ["arm64", "riscv64", "x86_64"]
    (tree,) = scan(tmp_path, "stable", "x86-64")
    assert tree.directory == tmp_path / "stable" / "AMD64"


def test_editors_bytes_around_a_command_line_are_no_part_of_it(tmp_path: Path) -> None:
    image(tmp_path)
    (tmp_path / "cmdline").write_bytes(b"\xef\xbb\xbfquiet splash\r\n")
    assert tree_of(tmp_path).cmdline == "quiet splash"
