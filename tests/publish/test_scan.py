import os
import socket
from pathlib import Path

import pytest

from p2pboot.errors import ArtifactError, MachineError, UsageError
from p2pboot.publish.scan import Tree, recently_changed, scan


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
        (["vmlinuz", "initrd", "README"], "{dir}/README: artifact name 'README' is not allowed"),
        (["vmlinuz", "initrd", "dtbs/notes.txt"], "{dir}/dtbs/notes.txt is no device tree"),
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
    image(tmp_path / "stable" / "riscv64")
    assert f"{tmp_path}/stable/riscv64: architecture 'riscv64' is not known" in refusal(tmp_path, None, None)
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
