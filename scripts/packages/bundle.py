"""Makes the bundle: one archive for each architecture with all that a machine without a package index needs.

    python -m scripts.packages.bundle DIR   writes DIR/p2pboot-0.1.0-linux-x86_64-python3.11.tar.gz, … and SHA256SUMS

`--architecture` makes one of them only.

Inside are the wheels with a requirements file of their hashes, pip's wheel, which installs them, the files of
`scripts.packages.files`, and `install` (packaging/bundle/install), which puts all of it in place.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

from p2pboot import __version__
from scripts.packages.files import File, archive, shared_files, systemd_files
from scripts.packages.wheels import ROOT, Target, WheelError, Wheels, collect, pip_wheel, source_date

ARCHITECTURES = ("x86_64", "aarch64")
BUILD = ROOT / "build" / "packages"
_COMPLETION = {  # below /usr/local/share
    "bash": "bash-completion/completions/p2pboot",
    "zsh": "zsh/site-functions/_p2pboot",
    "fish": "fish/vendor_completions.d/p2pboot.fish",
}


def contents(wheels: Wheels, pip: Path) -> dict[str, File]:
    """The files of a bundle by their path.

    Args:
        wheels: what is installed.
        pip: pip's wheel.
    """
    target = wheels.target
    release = {
        "VERSION": __version__,
        "ARCHITECTURE": target.architecture,
        "PYTHON_VERSION": target.dotted,
        "GLIBC": wheels.glibc,
    }
    return {
        "install": File((ROOT / "packaging" / "bundle" / "install").read_bytes(), executable=True),
        "release": File("".join(f"{name}={value}\n" for name, value in release.items()).encode()),
        "requirements.txt": File(wheels.requirements().encode()),
        f"tools/{pip.name}": File(pip.read_bytes()),
        **{f"wheels/{file.name}": File(file.read_bytes()) for file in wheels.files},
        **{f"systemd/{name}": file for name, file in systemd_files().items()},
        **{f"share/{name}": file for name, file in shared_files(completion=_COMPLETION).items()},
    }


def write_bundle(target: Target, build: Path, directory: Path) -> Path:
    """Make the bundle for a target.

    Args:
        target: the machines that it is for.
        build: see `scripts.packages.wheels.collect`.
        directory: where it is put.

    Returns:
        The archive.
    """
    name = f"p2pboot-{__version__}-linux-{target.architecture}-python{target.dotted}"
    packed = archive(contents(collect(target, build), pip_wheel(build)), name, source_date())
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{name}.tar.gz"
    file.write_bytes(packed)
    return file


def write_sums(directory: Path) -> Path:
    """Write SHA256SUMS with all packages of a directory, in the form that `sha256sum --check` reads."""
    packages = sorted([*directory.glob("*.tar.gz"), *directory.glob("*.deb"), *directory.glob("*.whl")])
    sums = directory / "SHA256SUMS"
    sums.write_text(
        "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in packages)
    )
    return sums


def say_what_was_made(target: Target, file: Path) -> None:
    """A line about a package; also whether anybody has run it."""
    run = platform.machine() == target.architecture
    seen = (
        ""
        if run
        else f"; every ELF file in it is for {target.architecture}, and it was not run on this machine"
    )
    print(f"{file}  {file.stat().st_size / 1e6:.1f} MB{seen}")


def argument_parser(documentation: str | None) -> argparse.ArgumentParser:
    """What the makers of packages take: a directory, and for which architectures."""
    parser = argparse.ArgumentParser(description=(documentation or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where the packages are put")
    parser.add_argument("--architecture", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    return parser


def main(directory: Path, build: Path, architectures: Iterable[str]) -> None:
    """Make the bundles for some architectures."""
    for architecture in architectures:
        target = Target(architecture)
        say_what_was_made(target, write_bundle(target, build, directory))
    write_sums(directory)


if __name__ == "__main__":
    given = argument_parser(__doc__).parse_args()
    try:
        main(given.directory, BUILD, given.architecture)
    except WheelError as error:
        sys.exit(f"bundle: error: {error}")
