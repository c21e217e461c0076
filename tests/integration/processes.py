"""Starts the program as a user does, in processes of its own, and ends exactly what it started.

Every process writes its stderr to a file, so that no pipe fills up; what a node prints first is its address.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.waiting import HANG_S
from tests.waiting import wait_until as wait_until  # noqa: PLC0414 - tests import it from here

PYTHON = (sys.executable, "-m", "p2pboot")
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


class Node:
    """A running `serve` or `mirror`."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, state: Path, log: Path) -> None:
        self.process = process
        self.address = address
        self.state = state
        self.log = log

    @property
    def peer_id(self) -> str:
        return self.address.rpartition("/p2p/")[2]

    def status(self) -> dict[str, Any]:
        from p2pboot.node.control import request

        return request(self.state, {"op": "status"}, HANG_S)

    def heads(self) -> dict[tuple[str, str], int]:
        """(channel, arch) to manifest_version of what is wholly held."""
        return {(h["channel"], h["arch"]): h["manifest_version"] for h in self.status()["heads"]}

    def wait_for_head(self, version: int, channel: str = "stable", arch: str = "x86_64") -> None:
        wait_until(lambda: self.heads().get((channel, arch), 0) >= version, f"{self.log}: head {version}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(HANG_S)

    def peak_memory_kib(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        raise AssertionError("no VmHWM")

    def memory_kib(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")


class Mesh:
    """The processes of one test, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: list[subprocess.Popen[bytes]] = []

    def serve(self, artifacts: Path, *arguments: str, name: str = "publisher") -> Node:
        return self._node(name, "serve", str(artifacts), *arguments)

    def mirror(self, trust: str, *arguments: str, name: str = "mirror") -> Node:
        return self._node(
            name, "mirror", "--trust", trust, "--channel", "stable", "--arch", "x86_64", *arguments
        )

    def _node(self, name: str, command: str, *arguments: str) -> Node:
        home = self.directory / name
        home.mkdir(exist_ok=True)
        state = home / "state"
        process = self.start(
            [
                *PYTHON,
                command,
                *arguments,
                "--key",
                str(home / "node.toml"),
                "--state",
                str(state),
                "--no-mdns",
            ]
            + ([] if "--listen" in arguments else ["--listen", LOOPBACK]),
            home / "log",
        )
        return Node(process, first_line(process, home / "log"), state, home / "log")

    def start(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self.directory,
                env=environment(),
            )
        self._started.append(process)
        return process

    def run(self, *arguments: str, timeout_s: float = HANG_S) -> Finished:
        """A command of the program, to its end."""
        done = subprocess.run(
            [*PYTHON, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.directory,
            env=environment(),
            timeout=timeout_s,
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    def keyid(self, name: str) -> str:
        """The key id of a node of this mesh."""
        done = self.run("key", "show", "--key", str(self.directory / name / "node.toml"), "--json")
        return str(done.document["keyid"])

    def new_key(self, name: str) -> str:
        """Make a node's key before the node runs, so that others can trust it from their start."""
        (self.directory / name).mkdir(exist_ok=True)
        done = self.run("key", "generate", "--key", str(self.directory / name / "node.toml"))
        assert done.status == 0, done.stderr
        return self.keyid(name)

    def fetch_arguments(self, trust: str, output: Path, *peers: str) -> list[str]:
        arguments = [
            "fetch",
            "--channel",
            "stable",
            "--arch",
            "x86_64",
            "--trust",
            trust,
            "-o",
            str(output),
            "--json",
        ]
        for peer in peers:
            arguments += ["--bootstrap", peer]
        return [*arguments, "--no-mdns", "--timeout", str(HANG_S)]

    def fetch(self, trust: str, output: Path, *peers: str) -> Finished:
        return self.run(*self.fetch_arguments(trust, output, *peers))

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(HANG_S)
            if process.stdout is not None:
                process.stdout.close()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}


def first_line(process: subprocess.Popen[bytes], log: Path) -> str:
    """What the process prints first; its log when it ends or hangs before that."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], HANG_S)
    line = process.stdout.readline().decode().strip() if ready else ""
    if not line:
        raise AssertionError(f"no first line: {log.read_text()}")
    return line


@contextmanager
def mesh_in(directory: Path) -> Iterator[Mesh]:
    mesh = Mesh(directory)
    try:
        yield mesh
    finally:
        mesh.end()


def write_artifacts(directory: Path, *, rootfs_bytes: int = 3 << 20, seed: int = 1) -> Path:
    """An artifacts directory `<directory>/stable/x86_64` with reproducible, incompressible content."""
    import hashlib

    leaf = directory / "stable" / "x86_64"
    leaf.mkdir(parents=True, exist_ok=True)
    sizes = {"vmlinuz-6.1": 700_001, "initrd.img": 1 << 20, "rootfs.squashfs": rootfs_bytes}
    for name, size in sizes.items():
        with (leaf / name).open("wb") as file:
            left, block = size, 0
            while left:
                chunk = hashlib.shake_256(f"{seed}/{name}/{block}".encode()).digest(min(left, 1 << 20))
                file.write(chunk)
                left, block = left - len(chunk), block + 1
    return directory


FINAL_NAMES = {"kernel": "vmlinuz-6.1", "initramfs": "initrd.img", "rootfs": "rootfs.squashfs"}


def assert_same_bytes(output: Path, artifacts: Path) -> None:
    """Every artifact is under its final name, byte for byte."""
    leaf = artifacts / "stable" / "x86_64"
    for final, source in FINAL_NAMES.items():
        assert (output / final).read_bytes() == (leaf / source).read_bytes(), final
