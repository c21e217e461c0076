"""The Debian package says what it needs, holds what it should, and works from where it is installed."""

from __future__ import annotations

import csv
import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.packages import deb
from scripts.packages.files import systemd_files
from scripts.packages.wheels import ROOT, Target, Wheels, look_through
from tests.packages.elves import AARCH64, elf, wheel

ARM64 = Target("aarch64", (3, 11))


@pytest.fixture
def wheels(tmp_path: Path) -> Wheels:
    """Two packages: one compiled, one with a command, as the program itself is."""
    compiled = {"box/fast.so": elf(AARCH64, "libc.so.6", "libstdc++.so.6"), "box/__init__.py": b"A = 1\n"}
    command = {
        "tool/__init__.py": b"",
        "tool-2.0.dist-info/entry_points.txt": b"[console_scripts]\ntool = tool:x\n",
    }
    return look_through(
        ARM64,
        [
            wheel(tmp_path, "box-1.0-cp311-cp311-manylinux_2_28_aarch64", compiled),
            wheel(tmp_path, "tool-2.0-py3-none-any", command),
        ],
    )


def test_the_package_is_tied_to_one_release_of_python(wheels: Wheels) -> None:
    control = deb.control(wheels, "1.2-1", 2049)
    fields = dict(line.split(": ", 1) for line in control.splitlines() if ": " in line and line[0] != " ")
    assert fields["Depends"] == "python3 (>= 3.11~), python3 (<< 3.12~), libc6 (>= 2.28), libstdc++6"
    assert (fields["Architecture"], fields["Version"], fields["Installed-Size"]) == ("arm64", "1.2-1", "3")
    assert control.endswith(".\n")


def test_versions_are_in_debians_order() -> None:
    in_order = ["0.1.0", "0.2.0.dev3", "0.2.0a1", "0.2.0b2", "0.2.0rc1", "0.2.0rc2", "0.2.0", "0.10.0"]
    debian = [deb.debian_version(version) for version in in_order]
    assert debian[0] == "0.1.0-1"
    assert debian[4] == "0.2.0~rc1-1"
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not installed here")
    for earlier, later in itertools.pairwise(version for version in debian if "dev" not in version):
        assert (
            subprocess.run(["dpkg", "--compare-versions", earlier, "lt", later], check=False).returncode == 0
        )


def test_all_is_laid_out_for_the_place_where_it_will_be(wheels: Wheels, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    deb.lay_out(wheels, tree, "1.2-1")
    home, site = tree / "usr/lib/p2pboot", tree / "usr/lib/p2pboot/lib/python3.11/site-packages"
    assert (home / "bin/python").readlink() == Path("/usr/bin/python3.11")
    program = home / "bin/p2pboot"
    assert program.read_text().startswith("#!/usr/lib/p2pboot/bin/python\n")
    assert program.stat().st_mode & 0o777 == 0o755
    assert (tree / "usr/bin/p2pboot").resolve() == program
    assert sorted(path.name for path in (home / "bin").iterdir()) == ["p2pboot", "python"]
    compiled = (site / "box/__pycache__/__init__.cpython-311.pyc").read_bytes()
    assert b"/usr/lib/p2pboot/lib/python3.11/site-packages/box/__init__.py" in compiled
    for path in tree.rglob("*"):
        assert path.is_symlink() or path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path
    for record in site.glob("*.dist-info/RECORD"):
        rows = list(csv.reader(record.read_text().splitlines()))
        assert rows
        assert [row[0] for row in rows if not (site / row[0]).is_file()] == []


def test_what_systemd_and_people_read_is_where_they_look(wheels: Wheels, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    deb.lay_out(wheels, tree, "1.2-1")
    for name in systemd_files():
        if name.endswith((".service", ".socket")):
            assert (tree / "usr/lib/systemd/system" / name).is_file()
    for name in (
        *("usr/lib/sysusers.d/p2pboot.conf", "usr/lib/tmpfiles.d/p2pboot.conf"),
        *("usr/share/man/man1/p2pboot.1.gz", "usr/share/man/man1/p2pboot-serve.1.gz"),
        *("usr/share/bash-completion/completions/p2pboot", "usr/share/zsh/vendor-completions/_p2pboot"),
        *("usr/share/fish/vendor_completions.d/p2pboot.fish", "usr/share/doc/p2pboot/troubleshooting.md"),
        *("usr/share/doc/p2pboot/examples/p2pboot.example.toml", "usr/share/doc/p2pboot/copyright"),
        "usr/share/doc/p2pboot/changelog.Debian.gz",
    ):
        assert (tree / name).is_file(), name
    assert (tree / "etc/p2pboot/keys").stat().st_mode & 0o777 == 0o700
    assert "usr/local" not in {path.relative_to(tree).as_posix() for path in tree.rglob("*")}


def test_units_start_the_program_where_the_package_puts_it() -> None:
    for name, file in systemd_files().items():
        for line in file.data.decode().splitlines():
            if line.startswith("ExecStart="):
                assert line.startswith("ExecStart=/usr/bin/p2pboot "), name


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed here")
def test_a_package_is_the_same_each_time(
    wheels: Wheels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deb, "collect", lambda _target, _build: wheels)
    made = [
        deb.write_deb(ARM64, tmp_path / f"build-{number}", tmp_path / f"dist-{number}", "1.2-1")
        for number in (1, 2)
    ]
    assert made[0].name == "p2pboot_1.2-1_arm64.deb"
    assert made[0].read_bytes() == made[1].read_bytes()
    listed = subprocess.run(
        ["dpkg-deb", "--contents", made[0]], capture_output=True, text=True, check=True
    ).stdout
    assert all(line.split()[1] == "root/root" for line in listed.splitlines())
    assert "./usr/bin/p2pboot -> ../lib/p2pboot/bin/p2pboot" in listed
    scripts = {path.name for path in (ROOT / "packaging" / "debian").iterdir()}
    control = tmp_path / "control"
    subprocess.run(["dpkg-deb", "--control", made[0], control], check=True)
    assert {path.name for path in control.iterdir()} == {"control", "md5sums", *scripts}
