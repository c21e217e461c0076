"""A machine of a test's own that systemd has booted: this one's files under an overlay, in namespaces, with the units.

It has processes, mounts, a network (loopback alone), a name and a tree of control groups of its own, and nothing of it
is left afterwards. It takes root, systemd and a kernel that lets containers be; where one of them is missing the test
is skipped and says why.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from p2pboot.testing.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]
UNITS: Final = ROOT / "packaging" / "systemd"
SYSTEMD: Final = Path("/usr/lib/systemd/systemd")
COMMAND_S: Final = 120.0  # no command of these tests waits for long
_PROGRAM: Final = Path("/opt/p2pboot-under-test")  # not below a home directory: the units see none
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
_MASKED: Final = (
    "dbus.service dbus.socket systemd-logind.service systemd-networkd.service systemd-resolved.service"
    " systemd-timesyncd.service systemd-udevd.service systemd-udev-trigger.service systemd-random-seed.service"
    " systemd-update-utmp.service systemd-tmpfiles-setup.service systemd-sysusers.service"
)

_OUTER: Final = """
set -e
mount -t tmpfs tmpfs {base}
mkdir {base}/groups {base}/upper {base}/work {base}/root
mount -t cgroup2 cgroup2 {base}/groups
mkdir -p {base}/groups/{name}
echo $$ > {base}/groups/{name}/cgroup.procs
exec unshare --mount --pid --fork --kill-child --ipc --uts --net --cgroup sh -c {inner}
"""
_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")  # it ends also where this process is killed
_PROBE: Final = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mount -t cgroup2 cgroup2 /mnt/work
mkdir /mnt/work/{name}
rmdir /mnt/work/{name}
"""
_INNER: Final = """
set -e
mount -t overlay overlay -o lowerdir=/,upperdir={base}/upper,workdir={base}/work {base}/root
cd {base}/root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for each in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs $each; done
chmod 1777 tmp
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mknod -m 666 dev/null c 1 3; mknod -m 666 dev/zero c 1 5; mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8; mknod -m 666 dev/urandom c 1 9; mknod -m 666 dev/tty c 5 0
rm -rf etc/systemd/system etc/p2pboot var/lib/p2pboot srv
mkdir -p etc/systemd/system srv usr/lib/sysusers.d usr/lib/tmpfiles.d
for each in {masked}; do ln -s /dev/null etc/systemd/system/$each; done
{install}
hostname p2pboot-test
mkdir .old
pivot_root . .old
umount -l /.old
mount --make-rshared / # as nspawn does: what systemd mounts for a unit reaches the others through this
exec env -i container=p2pboot-test PATH=/usr/sbin:/usr/bin:/sbin:/bin {systemd} --system --unit=basic.target
"""


class Machine:
    """A booted machine; made by `booted`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, *command: str, status: int = 0, text: str | None = None) -> str:
        """Run a command in it as root; what it printed.

        Args:
            command: found by its PATH.
            status: that it must end with.
            text: its standard input.
        """
        done = self._run(command, text)
        assert done.returncode == status, (
            f"{shlex.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}{self._said()}"
        )
        return done.stdout

    def _said(self) -> str:
        """What stands last in the journal."""
        return self._run(["journalctl", "--no-pager", "--lines=20"], None).stdout

    def refused(self, *command: str) -> str:
        """The same for one that must fail: what it said of that."""
        done = self._run(command, None)
        assert done.returncode != 0, f"{shlex.join(command)}: {done.stdout}"
        return done.stderr

    def _run(self, command: Sequence[str], text: str | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._inside(*command),
            input=text or "",
            capture_output=True,
            text=True,
            env=_ENVIRONMENT,
            timeout=COMMAND_S,
            check=False,
        )

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self._pid), "--all", *command]

    def write(self, path: str, content: str) -> None:
        """Write a file, and the directories that it is in."""
        self.run("mkdir", "-p", str(Path(path).parent))
        self.run("tee", path, text=content)

    def copy(self, source: Path, path: str) -> None:
        """Copy a directory of this machine's into it, readable by all."""
        packed = subprocess.run(["tar", "-C", str(source), "-c", "."], capture_output=True, check=True).stdout
        script = f"mkdir -p {path} && tar -C {path} --no-same-owner -x && chmod -R u=rwX,go=rX {path}"
        subprocess.run(self._inside("sh", "-c", script), input=packed, env=_ENVIRONMENT, check=True)

    def get(self, url: str) -> str:
        """What an HTTP server in it answers."""
        ask = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode(), end='')"
        network = ["nsenter", "--target", str(self._pid), "--net"]
        done = subprocess.run(
            [*network, sys.executable, "-c", ask, url],
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def wait_for(self, unit: str, name: str, *values: str) -> None:
        """Wait until a property of a unit has one of these values."""

        def is_so() -> bool:
            failed = self.shown(unit, "ActiveState") == "failed" and "failed" not in values
            assert not failed, f"{unit} failed\n{self.journal(unit)}"
            return self.shown(unit, name) in values

        wait_until(is_so, f"{unit} has {name}={' or '.join(values)}")

    def journal(self, unit: str) -> str:
        """What a unit said."""
        return self.run("journalctl", "--no-pager", "--output=short", "--unit", unit)

    def json(self, *command: str) -> Any:
        """The one JSON document that a command prints."""
        return json.loads(self.run(*command))


@contextmanager
def booted(directory: Path) -> Iterator[Machine]:
    """Boot one; it ends with the block, and with this process.

    Args:
        directory: empty; everything of the machine is on a tmpfs there.
    """
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    name = f"p2pboot-test-{os.getpid()}-{directory.name}"
    log = directory.parent / f"{directory.name}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [
                *_WITH_US,
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                _script(directory, name),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            yield Machine(_booted(process, log))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            _remove_groups(directory, name)


def _booted(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until systemd has started what belongs to a machine; its process id."""
    found = 0

    def is_up() -> bool:
        nonlocal found
        assert process.poll() is None, log.read_text()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if not children:
            return False
        found = int(children[0])
        done = subprocess.run(
            ["nsenter", "--target", children[0], "--all", "systemctl", "is-active", "basic.target"],
            capture_output=True,
            check=False,
        )
        return done.stdout == b"active\n"

    wait_until(is_up, f"systemd comes up, see {log}")
    return found


def _script(base: Path, name: str) -> str:
    places = {"base": shlex.quote(str(base)), "name": name}
    inner = _INNER.format(masked=_MASKED, install=_install(), systemd=SYSTEMD, **places)
    return _OUTER.format(inner=shlex.quote(inner), **places)


def _install() -> str:
    """The program and its units, where a package would put them; the sources and the libraries are this checkout's."""
    prefix = sys.base_prefix
    is_hidden = not prefix.startswith(("/usr", "/opt"))
    python = _PROGRAM / "python" if is_hidden else Path(prefix)
    parts = {
        "source/p2pboot": ROOT / "p2pboot",
        "source/packaging": ROOT / "packaging",
        "site": sysconfig.get_path("purelib"),
    }
    if is_hidden:
        parts["python"] = Path(prefix)
    binary = python / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = f"PYTHONHOME={python} LD_LIBRARY_PATH={python}/lib " if is_hidden else ""
    program = (
        f'#!/bin/sh\n{home}PYTHONPATH={_PROGRAM}/source:{_PROGRAM}/site exec {binary} -B -m p2pboot "$@"\n'
    )
    lines = []
    for inside, outside in parts.items():
        where = shlex.quote(f"{_PROGRAM}/{inside}".lstrip("/"))
        lines += [f"mkdir -p {where}", f"mount --bind {shlex.quote(str(outside))} {where}"]
    lines += [
        f"printf %s {shlex.quote(program)} > usr/bin/p2pboot",
        "chmod 755 usr/bin/p2pboot",
        f"cp {shlex.quote(str(UNITS))}/*.service {shlex.quote(str(UNITS))}/*.socket usr/lib/systemd/system/",
        f"cp {shlex.quote(str(UNITS / 'p2pboot.sysusers'))} usr/lib/sysusers.d/p2pboot.conf",
        f"cp {shlex.quote(str(UNITS / 'p2pboot.tmpfiles'))} usr/lib/tmpfiles.d/p2pboot.conf",
    ]
    return "\n".join(lines)


def _remove_groups(base: Path, name: str) -> None:
    """The kernel ends what is in a namespace when its first process is gone; the groups are then empty."""
    where = shlex.quote(str(base))
    script = (
        f"mount -t cgroup2 cgroup2 {where} && cd {where} && find {name} -depth -type d -exec rmdir {{}} +"
    )

    def removed() -> bool:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode == 0

    wait_until(removed, "the machine's control groups go")


@functools.cache
def missing() -> str | None:
    """Why no machine can be booted here; None where one can."""
    if os.geteuid() != 0:
        return "booting systemd takes root"
    if not SYSTEMD.exists() or shutil.which("systemctl") is None:
        return "systemd is not installed here"
    try:
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--ipc",
                "--uts",
                "--net",
                "--cgroup",
                "sh",
                "-c",
                _PROBE.format(name=f"p2pboot-probe-{os.getpid()}"),  # others may look at the same time
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "unshare is not installed here"
    return None if done.returncode == 0 else f"this machine lets no systemd boot: {done.stderr.strip()}"
