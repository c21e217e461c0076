"""Local networks for tests: machines in network namespaces, on switches in another one; they take root and iproute2."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

_numbers = count()
_PREFIX = "p2pi"
_SWITCHES = "hub"


class Network:
    """Switches and machines; made by `network`."""

    def __init__(self) -> None:
        self._name = f"{_PREFIX}{os.getpid()}n{next(_numbers)}"
        self._made: list[str] = []
        self._cables = count()

    def add(self, machine: str) -> None:
        """Make a namespace, with loopback up."""
        _run("ip", "netns", "add", self._full(machine))
        self._made.append(machine)
        self.ip(machine, "link set lo up")

    def add_switch(self, switch: str) -> None:
        """Make a switch, on which cables end."""
        self.ip(_SWITCHES, f"link add {switch} type bridge mcast_snooping 0")
        self.ip(_SWITCHES, f"link set {switch} up")

    def plug(self, machine: str, switch: str = "lan", device: str = "eth0") -> None:
        """Lay a cable from a machine to a switch. The machine's end is `device`, and up; it has a link-local address.

        Duplicate addresses are not looked for, which would take a second or two.
        """
        end = f"to{next(self._cables)}"
        self.ip(machine, f"link add {device} type veth peer name {end} netns {self._full(_SWITCHES)}")
        self.run(machine, f"echo 0 >/proc/sys/net/ipv6/conf/{device}/accept_dad")
        self.ip(_SWITCHES, f"link set {end} master {switch} up")
        self.ip(machine, f"link set {device} up")

    def unplug(self, machine: str, device: str = "eth0") -> None:
        """Remove a cable, and with it the machine's interface."""
        self.ip(machine, f"link del {device}")

    def ip(self, machine: str, command: str) -> None:
        """Run an `ip` command on a machine."""
        _run("ip", "-n", self._full(machine), *command.split())

    def run(self, machine: str, script: str) -> None:
        """Run a shell script there."""
        _run(*self.inside(machine), "sh", "-c", script)

    def inside(self, machine: str) -> list[str]:
        """What a command line begins with to run there; it sees its own /sys."""
        return ["ip", "netns", "exec", self._full(machine)]

    def remove(self) -> None:
        """Remove everything."""
        for machine in reversed(self._made):
            subprocess.run(["ip", "netns", "del", self._full(machine)], check=False, capture_output=True)

    def _full(self, machine: str) -> str:
        return f"{self._name}{machine}"


@contextmanager
def network(machines: Sequence[str], switches: Sequence[str] = ("lan",)) -> Iterator[Network]:
    """Make machines and switches; the cables are the test's to lay."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making network namespaces takes root and iproute2")
    _remove_left_behind()
    made = Network()
    try:
        try:
            made.add(_SWITCHES)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        for switch in switches:
            made.add_switch(switch)
        for machine in machines:
            made.add(machine)
        yield made
    finally:
        made.remove()


def _remove_left_behind() -> None:
    """Remove what tests have made that were killed."""
    listed = subprocess.run(["ip", "netns", "list"], check=False, capture_output=True, text=True).stdout
    for name, pid in re.findall(rf"^({_PREFIX}(\d+)n\S+)", listed, re.MULTILINE):
        if not Path(f"/proc/{pid}").exists():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
