"""The wheels of p2pboot and of all that it needs, for one architecture and one Python, looked through.

What pip downloads it compares with the hashes of requirements/run.txt. The two packages that exist as source only are
pure Python and built here, as p2pboot itself is. Every ELF file in the wheels is read: one for another processor, or
one that wants a library which the system need not have, fails the build. So wheels for a machine that is not at hand
are at least the right ones.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.utils import parse_sdist_filename, parse_wheel_filename

from p2pboot import RELEASE_DATE
from p2pboot.core.dataclass import dataclass
from scripts.packages.elf import MAGIC, read_elf

ROOT = Path(__file__).parents[2]
PURE_SOURCES = ("varint", "python-baseconv")  # requirements/README.md; scripts/bootstrap says them too
NEWEST_GLIBC = 36  # of Debian 12; a wheel for a newer one would not load there
LIBRARIES = {  # what a wheel may want of the system, by the Debian package that has it
    **dict.fromkeys(
        (
            *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"),
            *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
        ),
        "libc6",
    ),
    "libgcc_s.so.1": "libgcc-s1",
    "libstdc++.so.6": "libstdc++6",
}
_DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
_OLDER_TAGS = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}


class WheelError(Exception):
    """Wheels that cannot be packed, with the reason in one line."""


@dataclass(frozen=True, slots=True)
class Target:
    """The machines that something is made for.

    Args:
        architecture: as the kernel calls it: "x86_64" or "aarch64".
        python: the version of CPython, for example (3, 11).
    """

    architecture: str
    python: tuple[int, int] = sys.version_info[:2]

    def __post_init__(self) -> None:
        if self.architecture not in _DEBIAN:
            raise ValueError(f"architecture {self.architecture!r} is none of {', '.join(_DEBIAN)}")

    @property
    def debian(self) -> str:
        """What Debian calls the architecture."""
        return _DEBIAN[self.architecture]

    @property
    def dotted(self) -> str:
        """The version of Python: "3.11"."""
        return ".".join(map(str, self.python))

    def pip_options(self) -> Iterator[str]:
        """What has pip take the files for these machines and not for this one."""
        yield from ("--implementation", "cp", "--python-version", self.dotted)
        for abi in (f"cp{self.python[0]}{self.python[1]}", "abi3", "none"):
            yield from ("--abi", abi)
        tags = [f"manylinux_2_{minor}" for minor in range(NEWEST_GLIBC, 4, -1)]
        for tag in (*tags, *_OLDER_TAGS):
            yield from ("--platform", f"{tag}_{self.architecture}")


@dataclass(frozen=True, slots=True)
class Wheels:
    """All wheels for a target, p2pboot's own among them.

    Args:
        target: the machines that they are for.
        files: by name.
        glibc: the oldest minor version of glibc 2 with which all of them load.
        packages: Debian's packages with the libraries that they want, sorted.
    """

    target: Target
    files: tuple[Path, ...]
    glibc: int
    packages: tuple[str, ...]

    def requirements(self) -> str:
        """A requirements file for `pip install --require-hashes`: each wheel's package, version and hash."""
        lines = []
        for file in self.files:
            name, version, _, _ = parse_wheel_filename(file.name)
            lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n")
        return "".join(lines)


def source_date() -> int:
    """Unix seconds that everything made has as its date: SOURCE_DATE_EPOCH, or the day of the release."""
    return int(os.environ.get("SOURCE_DATE_EPOCH", RELEASE_DATE))


def collect(target: Target, build: Path) -> Wheels:
    """Download, build and look through the wheels for a target.

    Args:
        target: the machines that they are for.
        build: a directory for what is made; downloads stay there for the next time.

    Raises:
        WheelError: a package has no wheel for the target, or one that is not what it should be.
    """
    lock = (ROOT / "requirements" / "run.txt").read_bytes()
    name = f"{target.architecture}-{target.dotted}-{hashlib.sha256(lock).hexdigest()[:12]}"
    downloaded = build / "wheels" / name
    if not downloaded.is_dir():
        unfinished = downloaded.with_name(f"{name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _download(target, unfinished)
        unfinished.rename(downloaded)
    own = build / "own"
    shutil.rmtree(own, ignore_errors=True)
    _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(own.absolute()))
    return look_through(target, [*downloaded.glob("*.whl"), *own.glob("*.whl")])


def pip_wheel(build: Path) -> Path:
    """The wheel of pip itself, of the version in requirements/build.txt: it runs without being installed."""
    lock = (ROOT / "requirements" / "build.txt").read_text()
    found = re.search(r"^pip==(\S+)(?:[^\n]*\\\n)+[^\n]*\n", lock, re.MULTILINE)
    if found is None:
        raise WheelError("requirements/build.txt has no pip")
    directory = build / "pip"
    file = directory / f"pip-{found[1]}-py3-none-any.whl"
    if not file.exists():
        directory.mkdir(parents=True, exist_ok=True)
        wanted = directory / "requirements.txt"
        wanted.write_text(found[0])
        _pip("download", "--only-binary", ":all:", "--dest", str(directory), "--requirement", str(wanted))
    return file


def look_through(target: Target, files: Iterable[Path]) -> Wheels:
    """Check that wheels are for a target, and find out what they want of its system.

    Raises:
        WheelError: one is for another machine, or wants a library that no package is known for.
    """
    files = tuple(sorted(files, key=lambda file: file.name))
    libraries: set[str] = set()
    for file in files:
        libraries |= _wanted_libraries(target, file)
    unknown = libraries - LIBRARIES.keys()
    if unknown:
        raise WheelError(
            f"the wheels want {', '.join(sorted(unknown))}, and LIBRARIES does not say who has it"
        )
    packages = {LIBRARIES[name] for name in libraries}
    return Wheels(target, files, max(map(_glibc, files), default=0), tuple(sorted(packages)))


def _download(target: Target, directory: Path) -> None:
    _pip(
        *("download", "--require-hashes", "--no-build-isolation", "--dest", str(directory)),
        *("--only-binary", ":all:", "--no-binary", ",".join(PURE_SOURCES)),
        *("--requirement", "requirements/run.txt"),
        *target.pip_options(),
    )
    for source in directory.glob("*.tar.gz"):
        _pip("wheel", "--no-index", "--no-build-isolation", "--wheel-dir", str(directory), str(source))
        name, version = parse_sdist_filename(source.name)
        built = [
            file for file in directory.glob("*.whl") if parse_wheel_filename(file.name)[:2] == (name, version)
        ]
        if [file.name.endswith("-none-any.whl") for file in built] != [True]:
            raise WheelError(f"{source.name} is not pure Python: {built or 'no wheel was built'}")
        source.unlink()


def _wanted_libraries(target: Target, wheel: Path) -> set[str]:
    wanted: set[str] = set()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for name in names:
            with archive.open(name) as member:
                if member.read(len(MAGIC)) != MAGIC:
                    continue
            try:
                elf = read_elf(archive.read(name))
            except ValueError as error:
                raise WheelError(f"{wheel.name}: {name}: {error}") from None
            if elf.machine != target.architecture:
                raise WheelError(f"{wheel.name}: {name} is for {elf.machine}, not for {target.architecture}")
            wanted.update(elf.needed)
    return wanted - {Path(name).name for name in names}


def _glibc(wheel: Path) -> int:
    """The oldest minor version of glibc with which a wheel loads, 0 for one that is pure Python."""
    versions = []
    for tag in parse_wheel_filename(wheel.name)[3]:
        kind = tag.platform.partition("_")[0]
        found = re.match(r"manylinux_2_(\d+)_", tag.platform)
        versions.append(int(found[1]) if found else _OLDER_TAGS.get(kind, 0))
    return min(versions)


def _pip(command: str, *arguments: str) -> None:
    _run(sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-input", *arguments)


def _run(*command: str) -> None:
    environment = {
        **os.environ,
        "SOURCE_DATE_EPOCH": str(source_date()),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    done = subprocess.run(  # noqa: S603 - commands of this module
        command,
        cwd=ROOT,
        umask=0o022,  # modes get into wheels that are built
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise WheelError(
            f"{' '.join(command[1:5])} … failed with status {done.returncode}; its reason is above"
        )
