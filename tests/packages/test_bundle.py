"""The bundle is the same whoever makes it, and its installer says in one line what stands in its way."""

from __future__ import annotations

import gzip
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from p2pboot import __version__
from scripts.packages import bundle
from scripts.packages.files import File, archive
from scripts.packages.wheels import ROOT, Target, Wheels, look_through
from tests.packages.elves import wheel

HERE = Target("x86_64", (3, 11))


@pytest.fixture
def wheels(tmp_path: Path) -> Wheels:
    return look_through(HERE, [wheel(tmp_path, "box-1.0-cp311-cp311-manylinux_2_28_x86_64", {"box.py": b""})])


@pytest.fixture
def pip(tmp_path: Path) -> Path:
    return wheel(tmp_path, "pip-99-py3-none-any", {})


def test_an_archive_depends_on_nothing_but_its_content() -> None:
    files = {"b/run": File(b"x", executable=True), "a": File(b"y" * 1000), "c" * 150: File(b"")}
    packed = archive(files, "top", 1_000_000_000)
    assert packed == archive(dict(reversed(files.items())), "top", 1_000_000_000)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        entries = tar.getmembers()
    assert [entry.name for entry in entries] == ["top/a", "top/b/run", f"top/{'c' * 150}"]
    assert [entry.mode for entry in entries] == [0o644, 0o755, 0o644]
    assert {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries} == {(0, 0, "root", 1e9)}
    assert gzip.decompress(packed) != gzip.decompress(archive(files, "top", 0))


def test_a_bundle_has_all_that_is_installed(wheels: Wheels, pip: Path) -> None:
    files = bundle.contents(wheels, pip)
    assert files["install"].executable
    assert files["release"].data.decode().split() == [
        f"VERSION={__version__}",
        "ARCHITECTURE=x86_64",
        "PYTHON_VERSION=3.11",
        "GLIBC=28",
    ]
    assert files["requirements.txt"].data.startswith(b"box==1.0 --hash=sha256:")
    assert {
        *("wheels/box-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", "tools/pip-99-py3-none-any.whl"),
        *("systemd/p2pboot-mirror.service", "systemd/p2pboot-publisher.socket", "systemd/p2pboot.sysusers"),
        *("share/man/man1/p2pboot.1", "share/man/man1/p2pboot-fetch.1"),
        *("share/bash-completion/completions/p2pboot", "share/zsh/site-functions/_p2pboot"),
        *("share/doc/p2pboot/troubleshooting.md", "share/doc/p2pboot/operations.md"),
        "share/doc/p2pboot/examples/p2pboot.example.toml",
    } <= set(files)


def test_the_sums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "b.tar.gz").write_bytes(b"x")
    (tmp_path / "a.deb").write_bytes(b"y")
    (tmp_path / "notes").write_bytes(b"z")
    text = bundle.write_sums(tmp_path).read_text()
    assert [line.split()[1] for line in text.splitlines()] == ["a.deb", "b.tar.gz"]
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=False)
    assert checked.returncode == 0


def test_what_was_not_run_here_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.deb"
    file.write_bytes(b"")
    for architecture in bundle.ARCHITECTURES:
        bundle.say_what_was_made(Target(architecture), file)
        said = capsys.readouterr().out
        assert ("not run on this machine" in said) == (architecture != platform.machine())


class Unpacked:
    """An unpacked bundle without wheels, and a machine on which only some tools are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "bundle"
        self.directory.mkdir()
        shutil.copy(ROOT / "packaging" / "bundle" / "install", self.directory / "install")
        self.release()
        self.tools = directory / "bin"
        self.tools.mkdir()
        for tool in ("dirname", "env", "ls", "sh"):
            (self.tools / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
        self.tool("id", "echo 0")
        self.tool("uname", "echo x86_64")
        self.prefix = directory / "opt"

    def release(self, python: str = "3.11", glibc: int = 17) -> None:
        (self.directory / "release").write_text(
            f"VERSION=9.9\nARCHITECTURE=x86_64\nPYTHON_VERSION={python}\nGLIBC={glibc}\n"
        )

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def this_python(self) -> None:
        """Have the interpreter of the tests be the one that is asked for."""
        self.release(python=f"{sys.version_info[0]}.{sys.version_info[1]}")
        self.tool("python3", f'exec {sys.executable} "$@"')

    def refuses(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """The status and the one line of an installation that is refused."""
        done = subprocess.run(
            ["/bin/sh", str(self.directory / "install"), f"--prefix={self.prefix}", *arguments],
            env={"PATH": str(self.tools), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == ""
        assert done.stderr.startswith("install: error: ")
        assert done.stderr.count("\n") == 1, done.stderr
        assert not self.prefix.exists()
        return done.returncode, done.stderr


@pytest.fixture
def unpacked(tmp_path: Path) -> Unpacked:
    return Unpacked(tmp_path)


def test_who_is_not_root_is_told(unpacked: Unpacked) -> None:
    unpacked.tool("id", "echo 1000")
    status, line = unpacked.refuses()
    assert (status, "sudo ./install" in line) == (4, True)


def test_another_architecture_is_named(unpacked: Unpacked) -> None:
    unpacked.tool("uname", "echo aarch64")
    status, line = unpacked.refuses()
    assert status == 4
    assert "for x86_64 and this machine is aarch64; take the bundle for aarch64" in line


def test_another_python_is_named(unpacked: Unpacked) -> None:
    unpacked.tool("python3", "echo 3.13")
    status, line = unpacked.refuses()
    assert status == 4
    assert "needs Python 3.11; python3 is 3.13" in line


def test_no_python_is_told_with_the_command_that_installs_it(unpacked: Unpacked) -> None:
    assert "apt-get install python3" in unpacked.refuses()[1]


def test_only_the_interpreter_that_is_named_is_taken(unpacked: Unpacked) -> None:
    unpacked.this_python()
    assert "needs Python" in unpacked.refuses(PYTHON="/nowhere/python3")[1]


def test_a_python_without_venv_is_told_with_the_package(unpacked: Unpacked) -> None:
    unpacked.tool("python3", 'case "$*" in *version_info*) echo 3.11 ;; *) exit 1 ;; esac')
    status, line = unpacked.refuses()
    assert status == 4
    assert "apt-get install python3-venv" in line


def test_an_old_glibc_is_told(unpacked: Unpacked) -> None:
    unpacked.this_python()
    unpacked.release(f"{sys.version_info[0]}.{sys.version_info[1]}", glibc=999)
    status, line = unpacked.refuses()
    assert status == 4
    assert "glibc 2.999" in line


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--prefix=relative", "absolute"),
        ("--prefix=/", "absolute"),
        ("--prefix=/tmp/a b", "character"),
        ("--prefix=/tmp/$(id)", "character"),
        ("--prefix", "needs a directory"),
        ("--perfix=/x", "no argument --perfix=/x"),
        ("--prefix=/usr", "something else than p2pboot"),
    ],
)
def test_wrong_usage_is_one_line(unpacked: Unpacked, argument: str, said: str) -> None:
    status, line = unpacked.refuses(argument)
    assert status == 2
    assert said in line


def test_a_bundle_that_is_not_whole_is_called_so(unpacked: Unpacked) -> None:
    (unpacked.directory / "release").unlink()
    assert "unpack the whole bundle" in unpacked.refuses()[1]


def test_what_is_not_there_is_not_uninstalled(unpacked: Unpacked) -> None:
    status, line = unpacked.refuses("--uninstall")
    assert status == 3
    assert "no p2pboot is installed" in line


def test_what_a_killed_installation_left_is_uninstalled(unpacked: Unpacked) -> None:
    unpacked.tool("systemctl", "exit 0")
    (unpacked.prefix / "versions" / "9.9-abc" / "bin").mkdir(parents=True)
    placed = unpacked.prefix.with_name("placed")
    placed.touch()
    (unpacked.prefix / ".installed").write_text(f"{placed}\n")
    done = subprocess.run(
        [unpacked.directory / "install", f"--prefix={unpacked.prefix}", "--uninstall"],
        env={"PATH": f"{unpacked.tools}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not unpacked.prefix.exists()
    assert not placed.exists()


@pytest.mark.parametrize(
    "script",
    [
        *("packaging/bundle/install", "scripts/check-packages"),
        *("packaging/debian/postinst", "packaging/debian/prerm", "packaging/debian/postrm"),
    ],
)
def test_scripts_run_in_any_posix_shell(script: str) -> None:
    for shell in ("sh", "dash", "bash"):
        if shutil.which(shell):
            subprocess.run([shell, "-n", ROOT / script], check=True)
    assert os.access(ROOT / script, os.X_OK)
