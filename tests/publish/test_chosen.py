"""`artifacts.toml` says which file is which artifact; a manifest beside fetched files does, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.core.ignored import Reason
from p2pboot.errors import ArtifactError
from p2pboot.publish.build import BuildOptions, build
from p2pboot.publish.scan import Tree
from p2pboot.store.store import Store
from tests.publish.pe_files import UKI
from tests.publish.trees import scan


@pytest.fixture
def image(tmp_path: Path) -> Path:
    leaf = tmp_path / "image"
    leaf.mkdir()
    for name in ("vmlinuz-6.1", "vmlinuz-6.0", "initrd.img", "disk"):
        (leaf / name).write_bytes(name.encode())
    return leaf


def choose(image: Path, content: str | bytes) -> None:
    (image / "artifacts.toml").write_bytes(content.encode() if isinstance(content, str) else content)


def tree_of(image: Path) -> Tree:
    (tree,) = scan(image, "stable", "arm64")
    return tree


def keys(image: Path) -> dict[str, str]:
    return {key: path.name for key, path in tree_of(image).files.items()}


def refusal(image: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        scan(image, "stable", "arm64")
    assert caught.value.remedy
    assert "\n" not in caught.value.message + caught.value.remedy
    return caught.value.message


def test_the_named_file_is_the_artifact_and_others_of_its_form_are_left_aside(image: Path) -> None:
    assert "two files for kernel" in refusal(image)
    choose(image, 'kernel = "vmlinuz-6.0"\nrootfs = "disk"\n')
    assert keys(image) == {"kernel": "vmlinuz-6.0", "initramfs": "initrd.img", "rootfs": "disk"}
    assert [(one.path.name, one.why) for one in tree_of(image).ignored] == [
        ("vmlinuz-6.1", Reason.NOT_CHOSEN)
    ]


@pytest.mark.parametrize(
    "name", ["README", "rootfs.squashfs.filepart", "Root FS.img", ".root", "rootfs.weird", "Über"]
)
def test_any_file_can_be_named_also_one_that_would_be_ignored_or_refused(image: Path, name: str) -> None:
    (image / name).write_bytes(b"x")
    choose(image, f'kernel = "vmlinuz-6.1"\nrootfs = "{name}"\n')
    assert keys(image)["rootfs"] == name


def test_a_listed_link_is_the_artifact_too(image: Path) -> None:
    (image / "current").symlink_to("vmlinuz-6.0")
    choose(image, 'kernel = "current"')
    assert keys(image)["kernel"] == "current"


def test_device_trees_can_be_named(image: Path) -> None:
    (image / "Board Rev.2").write_bytes(b"tree")
    choose(image, 'kernel = "vmlinuz-6.1"\n"dtbs/board" = "Board Rev.2"\n')
    assert keys(image)["dtbs/board"] == "Board Rev.2"


def test_one_kind_of_image_is_chosen_against_the_other(image: Path) -> None:
    (image / "linux.efi").write_bytes(UKI)
    choose(image, 'uki = "linux.efi"')
    assert keys(image) == {"uki": "linux.efi", "disk": "disk"}
    choose(image, 'kernel = "vmlinuz-6.1"')
    assert keys(image) == {"kernel": "vmlinuz-6.1", "initramfs": "initrd.img", "disk": "disk"}
    choose(image, 'uki = "vmlinuz-6.1"')
    assert "is no unified kernel image" in refusal(image)


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbfkernel = "vmlinuz-6.1"\r\nrootfs = "disk"\r\n',
        b'kernel = "vmlinuz-6.1"\nrootfs = "disk"',
    ],
)
def test_what_editors_add_or_leave_out_does_not_matter(image: Path, content: bytes) -> None:
    choose(image, content)
    assert keys(image)["rootfs"] == "disk"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('kernel = "gone"', "there is no file 'gone' for kernel"),
        ("kernel = vmlinuz", "is no TOML file"),
        ("kernel = " + "9" * 5000, "a number of too many digits"),
        (b"\xff\xfe", "is saved as UTF-16"),
        (b'kernel = "\xff"', "is no TOML file"),
        ('Kernel = "disk"', "artifact name 'Kernel' is not allowed"),
        ('"dtbs.tar" = "disk"', "artifact name 'dtbs.tar' is reserved"),
        ('cmdline = "disk"', "artifact name 'cmdline' is reserved"),
        ('"../x" = "disk"', "is not allowed"),
        ('kernel = "disk"\nrootfs = "disk"', "'disk' is named for both kernel and rootfs"),
        ('kernel = "vmlinuz-6.1"\nkernel = "vmlinuz-6.0"', "is no TOML file"),
        ("kernel = 1", "kernel is not the name of a file beside it"),
        ('kernel = "../image/disk"', "kernel is not the name of a file beside it"),
        ('kernel = "/etc/passwd"', "kernel is not the name of a file beside it"),
        ('kernel = ".."', "kernel is not the name of a file beside it"),
        ('kernel = "a\\u0000b"', "kernel is not the name of a file beside it"),
        ('[artifacts]\nkernel = "disk"', "artifacts is not the name of a file beside it"),
        ("#" * 70_000, "has more than 65536 bytes"),
        ("x = " + "[" * 5000, "artifacts.toml"),
    ],
)
def test_what_is_wrong_is_one_clear_line(image: Path, content: str | bytes, says: str) -> None:
    choose(image, content)
    message = refusal(image)
    assert says in message
    assert "artifacts.toml" in message


def test_a_file_that_is_none_is_refused_and_nothing_hangs(image: Path) -> None:
    path = image / "artifacts.toml"
    os.mkfifo(path)
    assert refusal(image) == f"{path} is not a regular file"
    path.unlink()
    path.mkdir()
    assert refusal(image) == f"{path} is not a regular file"
    path.rmdir()
    path.symlink_to("gone")
    assert refusal(image) == f"{path} is a link to nothing"
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert "outside of" in refusal(image)


def test_a_named_file_has_to_be_one_that_can_be_published(image: Path) -> None:
    (image / "sub").mkdir()
    choose(image, 'kernel = "sub"')
    assert "sub is a directory" in refusal(image)
    (image / "empty").touch()
    choose(image, 'kernel = "empty"')
    assert "empty is empty" in refusal(image)
    (image / "out").symlink_to("/etc/hostname")
    choose(image, 'kernel = "out"')
    assert "outside of" in refusal(image)


def test_it_is_watched_like_what_it_names(image: Path) -> None:
    choose(image, 'kernel = "vmlinuz-6.1"')
    assert image / "artifacts.toml" in tree_of(image).sources


def test_fetched_files_are_what_the_manifest_beside_them_calls_them(image: Path, tmp_path: Path) -> None:
    """Names that only artifacts.toml can give must not mean something else where the files are fetched."""
    choose(
        image,
        'kernel = "vmlinuz-6.1"\nkernel-debug = "vmlinuz-6.0"\nrootfs2 = "disk"\n"notes.txt" = "notes.txt"',
    )
    (image / "notes.txt").write_bytes(b"x")
    wanted = {"kernel", "kernel-debug", "initramfs", "rootfs2", "notes.txt"}
    assert set(keys(image)) == wanted
    with Store.open(tmp_path / "state") as store:
        built = build(
            tree_of(image),
            BuildOptions(name="x"),
            keys=[SecretKey(b"\x01" * 32)],
            store=store,
            now=1_700_000_000,
        )
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    for key, path in tree_of(image).files.items():
        (fetched / key).write_bytes(path.read_bytes())
    assert "two files for kernel" in refusal(fetched)
    (fetched / "manifest.json").write_bytes(built.raw)
    assert keys(fetched) == {key: key for key in wanted}
