"""Machines that are network namespaces, on switches, behind links of a given rate: made here, and removed.

Every machine has a cable to a switch; racks are switches of their own with a network of their own, joined to the rest
by one uplink. `tbf` caps a cable in both directions, with a queue of so many milliseconds. Takes root, iproute2 and the
kernel's tbf; `missing` says what is not there. The names have this process's id in them, so that what a killed run left
is found and removed by the next.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

_PREFIX: Final = "p2plab"
_HUB: Final = "hub"
_HUB_END: Final = 254
_ROUTER: Final = 253
# A burst of the kernel's segmentation is one packet to tbf, which drops what is longer than its bucket.
_GSO: Final = "gso_max_size 3000"
_BURST: Final = "16kb"
_INTERRUPTIONS: Final = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Link:
    """What one cable carries.

    Args:
        down_mbit: towards the machine, in Mbit/s.
        up_mbit: from it.
        queue_ms: what waits before it is dropped.
    """

    down_mbit: float
    up_mbit: float
    queue_ms: int = 50


@dataclass(frozen=True)
class Moved:
    """What went over a cable so far, in bytes with all headers, as its machine sees it."""

    sent: int = 0
    received: int = 0

    def since(self, before: Moved) -> Moved:
        """What of it went since then."""
        return Moved(self.sent - before.sent, self.received - before.received)


class Lab:
    """The machines, by their numbers from 1 to 200; racks by theirs from 1, 0 is where no rack is."""

    def __init__(self) -> None:
        self._name = f"{_PREFIX}{os.getpid()}"
        self._made: list[str] = []
        self._racks: dict[int, int] = {}
        self._watcher: subprocess.Popen[bytes] | None = None

    @contextmanager
    def open(self) -> Iterator[Lab]:
        """Make the switch; afterwards everything is gone, also when this process is asked to end.

        Raises:
            subprocess.CalledProcessError: this machine can not.
        """
        _remove(_left_behind())
        with _interruptions_raised():
            try:
                self._add(_HUB)
                self._add_switch(_HUB, 0)
                self._watcher = subprocess.Popen([*self._inside(_HUB), "sleep", "infinity"])
                yield self
            finally:
                if self._watcher is not None:
                    self._watcher.kill()
                    self._watcher.wait()
                _remove(self._made)

    def rack(self, number: int, link: Link) -> None:
        """Add a rack; its uplink carries so much."""
        space, device, at = _rack(number), f"rack{number}", f"{_network(0)}.{_ROUTER - number}"
        self._add(space)
        self._add_switch(space, number)
        self._plug(space, "uplink", _HUB, device)
        self._ip(space, f"addr add {at}/24 dev uplink")
        self._ip(space, f"route add default via {_gateway(0)}")
        self._ip(_HUB, f"route add {_network(number)}.0/24 via {at}")
        self._cap((space, "uplink"), (_HUB, device), link)

    def machine(self, number: int, link: Link | None = None, *, rack: int = 0) -> None:
        """Add one, on the first switch or in a rack that was added before; without a link nothing caps its cable."""
        space = _machine(number)
        self._racks[number] = rack
        self._add(space)
        self._plug(space, "net0", _switch(rack), f"to{number}")
        self._ip(space, f"addr add {self.address(number)}/24 dev net0")
        self._ip(space, f"route add default via {_gateway(rack)}")
        if link is not None:
            self.cap(number, link)

    def cap(self, number: int, link: Link) -> None:
        """Have a machine's cable carry so much from now on."""
        self._cap((_machine(number), "net0"), (_switch(self._racks[number]), f"to{number}"), link)

    def cut(self, number: int) -> None:
        """Pull a machine's cable out."""
        self._ip(_machine(number), "link set net0 down")

    def address(self, number: int) -> str:
        """Which a machine has."""
        return f"{_network(self._racks[number])}.{number}"

    def inside(self, number: int) -> list[str]:
        """What a command line begins with to run on a machine."""
        return self._inside(_machine(number))

    def moved(self) -> dict[str, Moved]:
        """What went over the cables so far: of machines by number as text, of racks as `rack1`.

        A machine in a rack is not among them: only what hangs on the first switch is looked at, at once.
        """
        assert self._watcher is not None
        text = Path(f"/proc/{self._watcher.pid}/net/dev").read_text()
        return {name.removeprefix("to"): moved for name, moved in read_devices(text).items()}

    def _plug(self, space: str, device: str, switch: str, other: str) -> None:
        """Lay a cable from a namespace to a switch; `other` is its end there."""
        self._ip(space, f"link add {device} type veth peer name {other} netns {self._full(switch)}")
        self._ip(space, f"link set {device} {_GSO} up")
        self._ip(switch, f"link set {other} {_GSO} master switch up")

    def _cap(self, machine: tuple[str, str], switch: tuple[str, str], link: Link) -> None:
        for (space, device), rate in ((machine, link.up_mbit), (switch, link.down_mbit)):
            limits = ("rate", f"{rate * 1000:.0f}kbit", "burst", _BURST, "latency", f"{link.queue_ms}ms")
            _run(*self._inside(space), "tc", "qdisc", "replace", "dev", device, "root", "tbf", *limits)

    def _add(self, space: str) -> None:
        _run("ip", "netns", "add", self._full(space))
        self._made.append(self._full(space))
        self._ip(space, "link set lo up")

    def _add_switch(self, space: str, rack: int) -> None:
        """Have a namespace be a switch, and the router of its network."""
        self._ip(space, "link add switch type bridge")
        self._ip(space, f"link set switch {_GSO} up")
        self._ip(space, f"addr add {_gateway(rack)}/24 dev switch")
        _run(*self._inside(space), "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def _inside(self, space: str) -> list[str]:
        return ["ip", "netns", "exec", self._full(space)]

    def _full(self, space: str) -> str:
        return f"{self._name}{space}"

    def _ip(self, space: str, command: str) -> None:
        _run("ip", "-n", self._full(space), *command.split())


def read_devices(text: str) -> dict[str, Moved]:
    """Read `/proc/net/dev` of a switch: what each device took in was sent by the machine at its other end."""
    rows = (line.partition(":") for line in text.splitlines() if ":" in line)
    fields = ((name.strip(), rest.split()) for name, _, rest in rows)
    return {name: Moved(sent=int(values[0]), received=int(values[8])) for name, values in fields}


def missing() -> str:
    """Say why this machine can have no lab; empty where it can."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc"))):
        return "making network namespaces takes root and iproute2"
    try:
        with Lab().open() as lab:
            lab.machine(1, Link(10, 10))
    except subprocess.CalledProcessError as error:
        return f"`{' '.join(error.cmd)}` fails: {error.stderr.decode().strip()}"
    return ""


def _machine(number: int) -> str:
    return f"m{number}"


def _rack(number: int) -> str:
    return f"rack{number}"


def _switch(rack: int) -> str:
    return _rack(rack) if rack else _HUB


def _network(rack: int) -> str:
    return f"10.73.{rack}"


def _gateway(rack: int) -> str:
    return f"{_network(rack)}.{_HUB_END}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _remove(names: Iterable[str]) -> None:
    """Remove namespaces and end who is left in them; what can not be removed stays, and the others go."""
    for name in names:
        inside = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True)
        for pid in map(int, inside.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _left_behind() -> Sequence[str]:
    """The namespaces of labs whose process is gone."""
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    found = re.findall(rf"^({_PREFIX}(\d+)\D\S*)", listed, re.MULTILINE)
    return [name for name, pid in found if not Path(f"/proc/{pid}").exists()]


@contextmanager
def _interruptions_raised() -> Iterator[None]:
    """Have signals that ask for an end raise, so that what was made is removed."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in _INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
