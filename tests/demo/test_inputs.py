"""Debian's tools are replaced by small programs of their names: no test needs Debian or a network."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from p2pboot.demo import debian, inputs
from p2pboot.demo.debian import Unobtainable, debian_files
from p2pboot.demo.inputs import DemoInputs, prepare_inputs
from p2pboot.errors import MachineError
from p2pboot.testing.waiting import HANG_S

KERNEL = b"MZ kernel" * 1000
BUSYBOX = b"\x7fELF busybox" * 1000

DEPENDS = r"""
echo linux-image-cloud-amd64
echo '  Depends: linux-image-6.1.0-9-cloud-amd64'
"""
DOWNLOAD = r"""
cp "{files}/kernel.tar" linux-image-6.1.0-9-cloud-amd64_6.1.1_amd64.deb
cp "{files}/busybox.tar" busybox-static_1.35_amd64.deb
"""


def tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


class Tools:
    """A directory that is the whole PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "cp").symlink_to("/bin/cp")
        (directory / "sleep").symlink_to("/bin/sleep")

    def add(self, name: str, script: str) -> None:
        tool = self.directory / name
        tool.write_text(f"#!/bin/sh\necho {name} $@ >> {self.directory}/log\n{script}\n")
        tool.chmod(0o755)

    @property
    def log(self) -> str:
        log = self.directory / "log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """apt and dpkg-deb that deliver a kernel and a busybox."""
    found = Tools(tmp_path / "bin")
    files = tmp_path / "files"
    files.mkdir()
    tar(
        files / "kernel.tar",
        {"./boot/config-6.1.0-9": b"#", "./boot/vmlinuz-6.1.0-9": KERNEL, "./lib/large": bytes(1 << 20)},
    )
    tar(files / "busybox.tar", {"./bin/busybox": BUSYBOX})
    found.add("apt-cache", DEPENDS)
    found.add("apt-get", DOWNLOAD.format(files=files))
    found.add("dpkg-deb", 'exec /bin/cat "$2"')
    monkeypatch.setenv("PATH", str(found.directory))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(inputs, "ROOTFS_BYTES", 3 << 20)
    return found


def prepare(tmp_path: Path, notes: list[str] | None = None, timeout_s: float = HANG_S) -> DemoInputs:
    directory = tmp_path / "artifacts" / str(len(list(tmp_path.glob("artifacts/*"))))
    note = (notes if notes is not None else []).append
    return prepare_inputs(directory, cache=tmp_path / "cache", note=note, apt_timeout_s=timeout_s)


def test_real_kernel_and_busybox_come_from_packages(tools: Tools, tmp_path: Path) -> None:
    notes: list[str] = []
    made = prepare(tmp_path, notes)
    assert made.real
    assert made.arch == "x86_64"
    assert made.kernel.name == "vmlinuz-6.1.0-9"
    assert made.kernel.read_bytes() == KERNEL
    assert made.initramfs.read_bytes().startswith(b"\x1f\x8b")
    assert made.rootfs.stat().st_size == 3 << 20
    assert notes[-1] == made.description == "real: Debian's kernel 6.1.0-9 and a busybox initramfs"
    assert sorted(path.name for path in made.kernel.parent.iterdir()) == [
        "initramfs.img",
        "rootfs.img",
        "vmlinuz-6.1.0-9",
    ]


def test_second_time_needs_no_apt(tools: Tools, tmp_path: Path) -> None:
    first = prepare(tmp_path)
    for name in ("apt-get", "apt-cache", "dpkg-deb"):
        (tools.directory / name).unlink()
    second = prepare(tmp_path)
    assert second.real
    assert second.initramfs.read_bytes() == first.initramfs.read_bytes()
    assert list((tmp_path / "cache" / "debian-amd64").glob("download-*")) == []


def test_arm_machine_asks_for_its_own_packages(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert prepare(tmp_path).arch == "arm64"
    assert "apt-cache depends linux-image-cloud-arm64" in tools.log
    assert "busybox-static:arm64" in tools.log


def test_without_package_lists_private_ones_are_made_and_removed(tools: Tools, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "debian-amd64"
    tools.add("apt-cache", f"[ -e {tmp_path}/updated ] || exit 100\n{DEPENDS}")
    download = DOWNLOAD.format(files=tmp_path / "files")
    tools.add("apt-get", f'case "$*" in *update) echo > {tmp_path}/updated ;; *) {download} ;; esac')
    assert prepare(tmp_path).real
    calls = [line for line in tools.log.splitlines() if line.startswith("apt-get")]
    assert len(calls) == 2
    assert all(f"-oDir::State={cache}/download-" in line for line in calls)
    assert sorted(path.name for path in cache.iterdir()) == ["busybox", "vmlinuz-6.1.0-9"]


@pytest.mark.parametrize(
    ("tool", "script", "reason"),
    [
        ("apt-get", "echo 'W: careful' >&2; echo 'E: no network' >&2; exit 100", "no network"),
        ("apt-get", "exit 1", "it gave no reason"),
        ("apt-get", "exit 0", "neither kernel nor busybox"),
        ("apt-cache", "echo no dependency", "have no linux-image-cloud-amd64"),
        ("dpkg-deb", "exit 2", "ReadError"),
        ("dpkg-deb", '/bin/cat "$2" | /usr/bin/head -c 3000', "ReadError"),
    ],
)
def test_what_goes_wrong_is_told_and_files_are_generated(
    tools: Tools, tmp_path: Path, tool: str, script: str, reason: str
) -> None:
    if "dependency" in script:
        tools.add("apt-get", "exit 0")
    tools.add(tool, script)
    made = prepare(tmp_path)
    assert not made.real
    assert reason in made.description
    assert "\n" not in made.description
    assert made.kernel.stat().st_size == inputs.KERNEL_BYTES
    assert made.initramfs.stat().st_size == inputs.INITRAMFS_BYTES
    assert list((tmp_path / "cache").glob("**/.part-*")) == []


def test_no_apt_at_all_is_no_error(tools: Tools, tmp_path: Path) -> None:
    (tools.directory / "apt-get").unlink()
    made = prepare(tmp_path)
    assert not made.real
    assert "apt-get is not there" in made.description


def test_unknown_processor_gets_generated_files(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "no package for riscv64" in prepare(tmp_path).description
    assert tools.log == ""


def test_hanging_apt_ends_at_the_deadline_with_its_helpers(tools: Tools, tmp_path: Path) -> None:
    """The helper holds the output open: reading to its end would wait for the helper, not only for apt."""
    tools.add("apt-get", "sleep 3600 & echo $! > helper; wait")
    made = prepare(tmp_path, timeout_s=0.5)
    assert "took too long" in made.description


def test_oversized_member_is_refused(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "MAX_MEMBER", len(KERNEL) - 1)
    with pytest.raises(Unobtainable, match="has 9000 bytes"):
        debian_files(tmp_path / "cache", "amd64", timeout_s=HANG_S)


def test_symbolic_link_is_not_taken_for_a_kernel(tools: Tools, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "files" / "kernel.tar", "w") as archive:
        link = tarfile.TarInfo("./boot/vmlinuz-6.1.0-9")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(link)
    with pytest.raises(Unobtainable, match="neither kernel nor busybox"):
        debian_files(tmp_path / "cache", "amd64", timeout_s=HANG_S)


def test_unwritable_directory_is_the_machines_fault(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="prepare the demo's files"):
        prepare_inputs(tmp_path / "file" / "artifacts", cache=tmp_path / "cache", note=print)
