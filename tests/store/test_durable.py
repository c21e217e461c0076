from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pboot.errors import MachineError
from p2pboot.fetch.placing.staging import Staging
from p2pboot.store import durable
from p2pboot.store.durable import (
    COPY_BYTES,
    clean_temporaries,
    make_directory,
    preallocate,
    write_file,
)


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_links(*_: object) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records fsyncs and renames in their order."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(fd: int) -> None:
        steps.append("fsync directory" if os.path.isdir(f"/proc/self/fd/{fd}") else "fsync file")
        fsync(fd)

    def noting_replace(path: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    return steps


def test_write_file_syncs_the_file_renames_and_syncs_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = recorded(monkeypatch)
    write_file(tmp_path / "a", b"content")
    assert steps == ["fsync file", "rename", "fsync directory"]
    assert (tmp_path / "a").read_bytes() == b"content"


def test_write_file_replaces_and_keeps_its_mode_private(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    write_file(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["a"]


def test_write_file_on_a_full_disk_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "pwrite", full_disk)
    with pytest.raises(MachineError, match=f"cannot write {path}: No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def link_or_copy(src: Path, dst: Path) -> None:
    with Staging() as staging:
        staging.link(src, dst)
        staging.place()


def test_write_file_into_no_directory_is_a_machine_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="No such file or directory"):
        write_file(tmp_path / "none" / "a", b"")


@pytest.mark.parametrize("linkable", [True, False])
@pytest.mark.parametrize("before", [None, b"old content"])
def test_link_or_copy_places_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linkable: bool, before: bytes | None
) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    src.write_bytes(b"x" * 3_000_000)
    if before is not None:
        dst.write_bytes(before)
    if not linkable:
        monkeypatch.setattr(os, "link", no_links)
    steps = recorded(monkeypatch)
    link_or_copy(src, dst)
    assert dst.read_bytes() == src.read_bytes()
    assert dst.samefile(src) is linkable
    assert sorted(os.listdir(tmp_path)) == ["dst", "src"]
    assert steps == ["fsync file", "rename", "fsync directory"]


def test_link_or_copy_onto_itself_leaves_no_temporary_name(tmp_path: Path) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    src.write_bytes(b"x")
    link_or_copy(src, dst)
    link_or_copy(src, dst)
    assert sorted(os.listdir(tmp_path)) == ["dst", "src"]


def test_link_or_copy_replaces_a_symbolic_link_and_not_its_target(tmp_path: Path) -> None:
    src, dst, target = tmp_path / "src", tmp_path / "dst", tmp_path / "target"
    src.write_bytes(b"new")
    target.write_bytes(b"precious")
    dst.symlink_to(target)
    link_or_copy(src, dst)
    assert (dst.read_bytes(), target.read_bytes()) == (b"new", b"precious")
    assert not dst.is_symlink()


def test_link_or_copy_of_a_symbolic_link_places_a_file(tmp_path: Path) -> None:
    src, dst, target = tmp_path / "src", tmp_path / "dst", tmp_path / "target"
    target.write_bytes(b"content")
    src.symlink_to(target)
    link_or_copy(src, dst)
    assert dst.read_bytes() == b"content"
    assert not dst.is_symlink()


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_link_or_copy_of_no_regular_file_is_refused_and_does_not_wait(tmp_path: Path, kind: str) -> None:
    src = tmp_path / "src"
    if kind == "directory":
        src.mkdir()
    elif kind == "fifo":
        os.mkfifo(src)
    with pytest.raises(MachineError, match="src"):
        link_or_copy(src, tmp_path / "dst")
    assert not (tmp_path / "dst").exists()


def test_link_or_copy_onto_a_directory_is_refused(tmp_path: Path) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    src.write_bytes(b"x")
    dst.mkdir()
    with pytest.raises(MachineError, match="directory"):
        link_or_copy(src, dst)
    assert sorted(os.listdir(tmp_path)) == ["dst", "src"]


def test_a_copy_on_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    src.write_bytes(b"new")
    dst.write_bytes(b"old")
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "posix_fallocate", full_disk)
    with pytest.raises(MachineError, match=r"disk full: 3 bytes are needed in .*, \d+ are available"):
        link_or_copy(src, dst)
    assert dst.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["dst", "src"]


def test_a_file_beyond_the_limit_of_the_system_is_a_clear_error(tmp_path: Path) -> None:
    # A real failing system call, in a process of its own because the limit can not be raised again.
    script = (
        "import resource, sys; from pathlib import Path; from p2pboot.errors import MachineError\n"
        "from p2pboot.store.durable import write_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_file(Path(sys.argv[1]), bytes(5000))\n"
        "except MachineError as error: print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"cannot write {tmp_path / 'a'}: File too large\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("told", [True, False], ids=["holes in the source", "zeros written out"])
@pytest.mark.parametrize("layout", ["0x", "x0", "0x0x0", "x", "0", "xx00x"])
def test_a_copy_has_holes_where_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, told: bool
) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    size = len(layout) * COPY_BYTES + 5
    with src.open("wb") as file:
        for kind in layout:
            if kind == "0" and told:
                file.seek(COPY_BYTES, os.SEEK_CUR)
            else:
                file.write((b"x" if kind == "x" else b"\0") * COPY_BYTES)
        file.truncate(size)
    monkeypatch.setattr(os, "link", no_links)
    link_or_copy(src, dst)
    assert dst.read_bytes() == src.read_bytes()
    assert dst.stat().st_size == size
    assert dst.stat().st_blocks * 512 <= layout.count("x") * COPY_BYTES


def test_a_source_that_shrinks_while_it_is_copied_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    src = tmp_path / "src"
    src.write_bytes(b"x" * 3 * COPY_BYTES)
    os.truncate(src, 9 * COPY_BYTES)
    monkeypatch.setattr(os, "link", no_links)
    pread = os.pread

    def shrinking(fd: int, length: int, offset: int) -> bytes:
        os.truncate(src, 4 * COPY_BYTES)
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", shrinking)
    with pytest.raises(MachineError, match="shorter"):
        link_or_copy(src, tmp_path / "dst")
    assert os.listdir(tmp_path) == ["src"]


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


@pytest.mark.parametrize("before", [0, 10, 5000])
def test_preallocate_gives_exactly_the_size(tmp_path: Path, before: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * before)
    fd = opened(path)
    preallocate(fd, 1000, [(0, 1000)], tmp_path)
    os.close(fd)
    assert path.read_bytes() == b"x" * min(before, 1000) + bytes(1000 - min(before, 1000))
    assert path.stat().st_blocks * 512 >= 1000


def unsupported(*_: object) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def test_preallocate_without_support_sets_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    fd = opened(tmp_path / "a")
    preallocate(fd, 1000, [(0, 1000)], tmp_path)
    os.close(fd)
    assert (tmp_path / "a").stat().st_size == 1000


def test_preallocate_without_support_notices_a_full_disk_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    monkeypatch.setattr(durable, "free_bytes", lambda _: 999)
    fd = opened(tmp_path / "a")
    with pytest.raises(
        MachineError, match=f"1000 bytes are needed in {tmp_path}, 999 are available"
    ) as caught:
        preallocate(fd, 1000, [(0, 1000)], tmp_path)
    os.close(fd)
    assert caught.value.remedy is not None


def test_clean_temporaries_removes_only_what_was_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned = tmp_path / f".kernel.p2pboot-{'0' * 16}.tmp"
    abandoned.write_bytes(b"half")
    others = [".kernel.tmp", "kernel.p2pboot-0000000000000000.tmp", ".x.p2pboot-00.tmp"]
    for name in others:
        (tmp_path / name).write_bytes(b"the user's")
    replace = Path.replace

    def cleaning_replace(path: Path, target: Path) -> Path:
        clean_temporaries(tmp_path)  # as another process does while this one is about to rename
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", cleaning_replace)
    write_file(tmp_path / "written", b"whole")
    link_or_copy(tmp_path / "written", tmp_path / "linked")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "written", "linked"])


def test_a_long_name_and_a_strange_one_can_be_written(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127, "\udcff", "line\nbreak"):
        write_file(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_make_directory_makes_private_parents_and_leaves_existing_ones(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_make_directory_where_a_file_is_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(MachineError, match=f"cannot make the directory {tmp_path}/a: Not a directory"):
        make_directory(tmp_path / "a" / "b")
