"""Gets a real kernel and a static busybox from Debian's packages, without installing them or being root.

apt does all the networking, with the sources, proxies and keys that the machine has, and checks the packages
against its signed lists. Where the machine has no lists (a fresh container), a private copy is made for
the moment. What was extracted stays in the cache: the second time needs neither apt nor a network.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from p2pboot.core.dataclass import dataclass

KERNEL = re.compile(r"(?:\./)?boot/(vmlinuz-[A-Za-z0-9.+~-]{1,80})")
BUSYBOX = re.compile(r"(?:\./)?(?:usr/)?bin/(busybox)")
MAX_MEMBER = 64 << 20  # bytes, four times what Debian's cloud kernel has
_PACKAGE = re.compile(r"^\s+Depends: (linux-image-[a-z0-9.+-]{1,80})$", re.MULTILINE)


class Unobtainable(Exception):
    """Debian's packages can not be had here; the text says why."""


@dataclass(frozen=True, slots=True)
class DebianFiles:
    """What was extracted: `kernel` keeps its name `vmlinuz-<release>`."""

    kernel: Path
    busybox: Path


def debian_files(cache: Path, arch: str, *, timeout_s: float) -> DebianFiles:
    """A kernel and a busybox for `arch`, from the cache or from Debian.

    Args:
        cache: directory to keep them in; made when missing.
        arch: Debian's name, "amd64" or "arm64".
        timeout_s: how long apt may take in all.

    Raises:
        Unobtainable: no apt, no such package, no network, too slow, or no room in the cache.
    """
    home = cache / f"debian-{arch}"
    try:
        held = _held(home)
        if held is None:
            home.mkdir(parents=True, exist_ok=True)
            _download(home, arch, time.monotonic() + timeout_s)
            held = _held(home)
    except (OSError, tarfile.TarError) as error:
        raise Unobtainable(f"{type(error).__name__}: {error}") from error
    if held is None:
        raise Unobtainable("the packages hold neither kernel nor busybox where they are expected")
    return held


def extract(package: Path, member: re.Pattern[str], directory: Path) -> None:
    """Take the first regular file whose path matches out of a .deb; it is named by the pattern's group.

    The file gets its name only when it is whole. Nothing happens when no member matches.

    Raises:
        Unobtainable: the package can not be read, or the member is larger than `MAX_MEMBER`.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None  # noqa: S101  # for the type checker: stdout=PIPE
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for info in archive:
                    found = member.fullmatch(info.name)
                    content = archive.extractfile(info) if found and info.isreg() else None
                    if found is None or content is None:
                        continue
                    if info.size > MAX_MEMBER:
                        raise Unobtainable(f"{info.name} has {info.size} bytes")
                    _keep(content, directory / found[1])
                    return
        finally:
            process.kill()  # the rest of the package is of no interest


def _held(home: Path) -> DebianFiles | None:
    kernels = sorted(home.glob("vmlinuz-*"))
    busybox = home / "busybox"
    return DebianFiles(kernels[-1], busybox) if kernels and busybox.exists() else None


def _download(home: Path, arch: str, deadline: float) -> None:
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unobtainable(f"{tool} is not there: no Debian")
    with tempfile.TemporaryDirectory(dir=home, prefix="download-") as name:
        directory = Path(name)
        options: tuple[str, ...] = ()
        kernel = _kernel_package(arch, options, deadline)
        if kernel is None:
            options = _private_lists(directory / "apt")
            _run(["apt-get", *options, "--quiet", "update"], directory, deadline)
            kernel = _kernel_package(arch, options, deadline)
        if kernel is None:
            raise Unobtainable(f"this system's package sources have no linux-image-cloud-{arch}")
        packages = [f"{kernel}:{arch}", f"busybox-static:{arch}"]
        _run(["apt-get", *options, "--quiet", "download", *packages], directory, deadline)
        for package in directory.glob("*.deb"):
            extract(package, KERNEL if package.name.startswith("linux-image-") else BUSYBOX, home)


def _kernel_package(arch: str, options: tuple[str, ...], deadline: float) -> str | None:
    """The package that the metapackage stands for now: its name has the kernel's version in it."""
    try:
        shown = _run(["apt-cache", *options, "depends", f"linux-image-cloud-{arch}"], Path("/"), deadline)
    except Unobtainable:
        return None  # apt-cache fails when it does not know the package
    found = _PACKAGE.search(shown)
    return found[1] if found else None


def _private_lists(state: Path) -> tuple[str, ...]:
    """Options that let an ordinary user run `apt-get update` without touching the system's own state."""
    for directory in ("lists/partial", "cache/archives/partial"):
        (state / directory).mkdir(parents=True)
    settings = {
        "APT::Sandbox::User": "root",  # root's apt would download as a user who may not write here
        "Dir::State": state,
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": state / "cache",
        "Acquire::Languages": "none",
    }
    return tuple(f"-o{name}={value}" for name, value in settings.items())


def _run(command: list[str], directory: Path, deadline: float) -> str:
    """Run a tool of apt's, in a session of its own: at the deadline its download helpers end with it.

    Raises:
        Unobtainable: it failed, or was not done at the deadline (monotonic seconds).
    """
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    name = " ".join([command[0], *(word for word in command[1:] if not word.startswith("-"))])
    try:
        shown, complaints = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except BaseException as error:  # Ctrl-C too: apt must not go on in the background
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Unobtainable(f"`{name}` took too long") from None
        raise
    if process.returncode != 0:
        raise Unobtainable(f"`{name}` failed: {_first_error(complaints)}")
    return shown


def _first_error(complaints: str) -> str:
    errors = [line.removeprefix("E: ") for line in complaints.splitlines() if line.startswith("E: ")]
    return errors[0] if errors else "it gave no reason"


def _keep(content: IO[bytes], path: Path) -> None:
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(content, file)
        Path(part).rename(path)
    finally:
        Path(part).unlink(missing_ok=True)
