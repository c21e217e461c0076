"""Makes Debian packages, one for each architecture, of the wheels that the bundle has.

    python -m scripts.packages.deb DIR      writes DIR/p2pboot_0.1.0-1_amd64.deb, …_arm64.deb and SHA256SUMS

`--architecture` makes one of them only.

The environment in /usr/lib/p2pboot is laid out here as `venv` and pip would on the machine itself, with the paths that
it has there: pip unpacks the wheels (`--target`, without an index, with hashes), and bytecode is compiled for the
interpreter that the package depends on. So the package needs neither pip nor a compiler, works for another processor
too, and dpkg knows every file. `dpkg-deb` packs it; nothing of debhelper is needed.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from p2pboot import __version__
from scripts.packages.bundle import BUILD, argument_parser, say_what_was_made, write_sums
from scripts.packages.files import shared_files, systemd_files
from scripts.packages.wheels import ROOT, Target, WheelError, Wheels, collect, source_date

_HOME = "usr/lib/p2pboot"
_PROGRAM = f"""\
#!/{_HOME}/bin/python
import sys

from p2pboot.cli.main import main

sys.exit(main())
"""
_COMPLETION = {  # below /usr/share
    "bash": "bash-completion/completions/p2pboot",
    "zsh": "zsh/vendor-completions/_p2pboot",
    "fish": "fish/vendor_completions.d/p2pboot.fish",
}
_SYSTEMD = {".sysusers": "sysusers.d/p2pboot.conf", ".tmpfiles": "tmpfiles.d/p2pboot.conf"}  # below /usr/lib
_MAINTAINER = "p2pboot developers <developers@p2pboot.invalid>"
_COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: p2pboot

Files: *
Copyright: the p2pboot developers
License: Apache-2.0
 On Debian systems, the full text of this license is in /usr/share/common-licenses/Apache-2.0.

Files: usr/lib/p2pboot/lib/python*/site-packages/*
Copyright: the authors of the packages that p2pboot needs
License: several
 Each package's licence is in its directory of metadata, *.dist-info.
"""


def debian_version(version: str) -> str:
    """A Python version as Debian compares it: "0.2.0rc1" comes before "0.2.0" as "0.2.0~rc1-1"."""
    return re.sub(r"(?<=\d)\.?(a|b|rc|dev)(?=\d)", r"~\1", version) + "-1"


def control(wheels: Wheels, version: str, size: int) -> str:
    """The package's control file.

    Args:
        wheels: what it holds.
        version: the package's.
        size: of what it installs, in bytes.
    """
    major, minor = wheels.target.python
    libraries = [
        f"{name} (>= 2.{wheels.glibc})" if name == "libc6" else name for name in wheels.packages or ("libc6",)
    ]
    # Compiled modules and bytecode are those of one version of Python: another release of Debian takes another package.
    python = [f"python3 (>= {major}.{minor}~)", f"python3 (<< {major}.{minor + 1}~)"]
    return f"""\
Package: p2pboot
Version: {version}
Architecture: {wheels.target.debian}
Maintainer: {_MAINTAINER}
Installed-Size: {-(-size // 1024)}
Depends: {", ".join([*python, *libraries])}
Section: net
Priority: optional
Description: signed boot images from peer to peer
 p2pboot publishes, mirrors and fetches signed boot manifests and their
 artifacts: kernels, initramfs and root file systems. Peers find each other on
 the local network, by gossip and by a hash table; machines that speak only
 HTTP boot from a gateway.
 .
 This package brings its own Python packages in /usr/lib/p2pboot, built for
 Python {major}.{minor}, and touches no other.
"""


def lay_out(wheels: Wheels, tree: Path, version: str) -> None:
    """Put all that the package installs below a directory.

    Args:
        wheels: what it holds.
        tree: a directory that is not there yet.
        version: the package's.
    """
    _lay_out_environment(wheels, tree)
    _put(tree / "usr/share/doc/p2pboot/copyright", _COPYRIGHT.encode())
    _put(tree / "usr/share/doc/p2pboot/changelog.Debian.gz", _compressed(_changelog(version).encode()))
    for name, file in shared_files(completion=_COMPLETION).items():
        if name.startswith("man/"):
            _put(tree / "usr/share" / f"{name}.gz", _compressed(file.data))
        elif name == "doc/p2pboot/CHANGELOG.md":
            _put(tree / "usr/share/doc/p2pboot/changelog.gz", _compressed(file.data))
        elif not name.endswith("/LICENSE"):  # Debian has it already
            _put(tree / "usr/share" / name, file.data)
    for name, file in systemd_files().items():
        place = _SYSTEMD.get(Path(name).suffix, f"systemd/system/{name}")
        _put(tree / "usr/lib" / place, file.data)
    (tree / "usr/bin").mkdir()
    (tree / "usr/bin/p2pboot").symlink_to("../lib/p2pboot/bin/p2pboot")
    (tree / "etc/p2pboot/keys").mkdir(parents=True)
    (tree / "etc/p2pboot/keys").chmod(0o700)


def write_deb(target: Target, build: Path, directory: Path, version: str) -> Path:
    """Make the package for a target.

    Args:
        target: the machines that it is for.
        build: see `scripts.packages.wheels.collect`.
        directory: where it is put.
        version: the package's.

    Returns:
        The package.
    """
    wheels = collect(target, build)
    tree = build / f"deb-{target.debian}"
    shutil.rmtree(tree, ignore_errors=True)
    lay_out(wheels, tree, version)
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    sums = [f"{_md5(file)}  {file.relative_to(tree)}\n" for file in files]
    size = sum(file.stat().st_size for file in files)
    _put(tree / "DEBIAN/control", control(wheels, version, size).encode())
    _put(tree / "DEBIAN/md5sums", "".join(sums).encode())
    for script in (ROOT / "packaging" / "debian").iterdir():
        _put(tree / "DEBIAN" / script.name, script.read_bytes(), mode=0o755)
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (source_date(), source_date()), follow_symlinks=False)
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"p2pboot_{version}_{target.debian}.deb"
    # Most of it is compiled: the higher levels take minutes for a tenth less.
    unfinished = file.with_name(f"{file.name}.part")
    _run("dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", str(tree), str(unfinished))
    return unfinished.replace(file)


def _lay_out_environment(wheels: Wheels, tree: Path) -> None:
    home = tree / _HOME
    site = home / "lib" / f"python{wheels.target.dotted}" / "site-packages"
    site.mkdir(parents=True)
    wanted = tree.with_name(f"{tree.name}-requirements.txt")
    wanted.write_text(wheels.requirements())
    found = [
        argument
        for place in {file.parent for file in wheels.files}
        for argument in ("--find-links", str(place))
    ]
    _run(
        *(
            sys.executable,
            "-m",
            "pip",
            "--isolated",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-compile",
        ),
        *("--require-hashes", "--requirement", str(wanted), *found),
        *("--only-binary", ":all:", "--target", str(site), *wheels.target.pip_options()),
    )
    shutil.rmtree(
        site / "bin", ignore_errors=True
    )  # other packages' commands, with the builder's interpreter
    for record in site.glob("*.dist-info/RECORD"):
        _forget_missing(record, site)
    _put(home / "bin/p2pboot", _PROGRAM.encode(), mode=0o755)
    (home / "bin/python").symlink_to(f"/usr/bin/python{wheels.target.dotted}")
    _put(
        home / "pyvenv.cfg",
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {wheels.target.dotted}\n".encode(),
    )
    for path in site.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # nothing in there is run by its name
    # It names the files as they are installed, and is good whatever their dates are.
    _run(
        *(sys.executable, "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash"),
        *("-s", str(tree), "-p", "/", str(site)),
    )


def _forget_missing(record: Path, site: Path) -> None:
    """Leave out of a package's list of files what is not there, as the commands that were removed."""
    rows = csv.reader(record.read_text().splitlines())
    there = [row for row in rows if (site / row[0]).is_file() and ".." not in row[0]]
    kept = io.StringIO()
    csv.writer(kept, lineterminator="\n").writerows(there)
    record.write_text(kept.getvalue())


def _changelog(version: str) -> str:
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(source_date()))
    return (
        f"p2pboot ({version}) unstable; urgency=medium\n\n"
        f"  * What changed is in /usr/share/doc/p2pboot/changelog.gz.\n\n -- {_MAINTAINER}  {date}\n"
    )


def _put(file: Path, data: bytes, mode: int = 0o644) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    file.chmod(mode)


def _compressed(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def _run(*command: str) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(source_date())}
    done = subprocess.run(  # noqa: S603 - commands of this module
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise WheelError(
            f"{' '.join(command[:4])} … failed with status {done.returncode}; its reason is above"
        )


def main(directory: Path, build: Path, architectures: Iterable[str], version: str) -> None:
    """Make the packages for some architectures."""
    if shutil.which("dpkg-deb") is None:
        raise WheelError(
            "dpkg-deb is not installed; on Debian it always is, elsewhere it is in the package dpkg"
        )
    os.umask(0o022)
    for architecture in architectures:
        target = Target(architecture)
        say_what_was_made(target, write_deb(target, build, directory, version))
    write_sums(directory)


if __name__ == "__main__":
    given = argument_parser(__doc__).parse_args()
    try:
        main(given.directory, BUILD, given.architecture, debian_version(__version__))
    except WheelError as error:
        sys.exit(f"deb: error: {error}")
