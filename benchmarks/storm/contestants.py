"""Who takes part: p2pboot itself, and what it is compared with, each as holders that run and commands of clients."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from benchmarks import processes, torrent
from benchmarks.lab import Lab
from benchmarks.sample import ARCH, CHANNEL
from benchmarks.storm.rows import Row
from p2pboot.testing.processes import PYTHON, Mesh, Node, Processes

_PATIENCE_S: Final = "600"
_COUNTED: Final = "/p2pboot/"
ARTIFACT: Final = "rootfs"


class Contestant(Protocol):
    """One program, for one run.

    The holders' machines have the numbers from 1.
    """

    name: str

    def begin(self, row: Row) -> None:
        """Start the holders and wait until they serve."""

    def command(self, number: int) -> list[str]:
        """Return what a client on this machine runs; it prints a JSON document when it is done."""

    def file(self, number: int) -> Path:
        """Return where it leaves the image."""

    def nodes(self) -> Sequence[Node]:
        """Return the holders' processes."""

    def copies(self, row: Row) -> float | None:
        """Return how many times the image's size the holders sent as pieces; None where they do not count."""


class P2PBoot:
    """`p2pboot serve` and `p2pboot fetch`, as a user starts them."""

    name = "p2pboot"

    def __init__(self, lab: Lab, mesh: Mesh, image: Path) -> None:
        self._lab, self._mesh, self._image = lab, mesh, image
        self._nodes: list[Node] = []
        self._linger = "0"
        self._vouching = False
        self._mdns = "--no-mdns"
        self.poisoners: list[str] = []
        self._trust = mesh.new_key("1")
        self._zero = 0

    def begin(self, row: Row) -> None:
        artifacts = self._mesh.directory / "artifacts"
        publisher = processes.node_on(self._lab, self._mesh, 1, "serve", str(artifacts))
        publisher.wait_for_head(1)
        self._nodes.append(publisher)
        for number in range(2, row.holders + 1):
            mirror = self.mirror(number)
            mirror.wait_for_head(1)
            self._nodes.append(mirror)
        self._linger = row.linger or "0"
        self._vouching = row.vouching
        self._mdns = "--mdns" if row.mdns else "--no-mdns"
        self._zero = self._sent()

    def mirror(self, number: int) -> Node:
        """Start a mirror that knows the publisher."""
        pair = ("--channel", CHANNEL, "--arch", ARCH, "--quota", "unlimited")
        publisher = ("--trust", self._trust, "--bootstrap", self._nodes[0].address)
        return processes.node_on(self._lab, self._mesh, number, "mirror", *pair, *publisher)

    def command(self, number: int) -> list[str]:
        arguments = [*self._fetch(number), "--linger", self._linger]
        return [*self._lab.inside(number), *PYTHON, *arguments]

    def poison(self, number: int) -> list[str]:
        """Return what a client runs that plays along and gives wrong bytes, as long as it is let."""
        self._mesh.new_key(str(number))
        key = self._mesh.directory / str(number) / "node.toml"
        shown = processes.checked(self._mesh.run("key", "show", "--key", str(key), "--json"))
        self.poisoners.append(shown.document["peer_id"])
        fellows = self._mesh.directory / "vouching"
        fellows.mkdir(exist_ok=True)
        vouch = ("--vouch", str(fellows)) if self._vouching else ()
        arguments = [*vouch, *self._fetch(number), "--key", str(key), "--linger", "forever"]
        return [*self._lab.inside(number), PYTHON[0], "-m", "benchmarks.storm.poisoner", *arguments]

    def _fetch(self, number: int) -> list[str]:
        arguments = ["fetch", "--channel", CHANNEL, "--arch", ARCH, "--trust", self._trust, self._mdns]
        for node in self._nodes:
            arguments += ["--bootstrap", node.address]
        return [*arguments, "-o", str(self._output(number)), "--json", "--timeout", _PATIENCE_S, "-q"]

    def file(self, number: int) -> Path:
        return self._output(number) / ARTIFACT

    def nodes(self) -> Sequence[Node]:
        return self._nodes

    def copies(self, row: Row) -> float | None:
        return (self._sent() - self._zero) / row.size

    def _sent(self) -> int:
        """Bytes that the holders served so far: pieces, with little more (tables, headers of replies)."""
        alive = [node for node in self._nodes if node.process.poll() is None]
        return sum(
            count
            for node in alive
            for protocol, count in node.status()["bytes_sent"].items()
            if protocol.startswith(_COUNTED)
        )

    def _output(self, number: int) -> Path:
        return self._mesh.directory / f"out{number}"


class Nginx:
    """nginx and curl, as Debian has them: one server, and nobody helps it."""

    name = "nginx + curl"
    _PORT = 8080

    def __init__(self, lab: Lab, mesh: Processes, image: Path) -> None:
        self._lab, self._mesh, self._image = lab, mesh, image
        self._nodes: list[Node] = []

    def begin(self, row: Row) -> None:
        home = self._mesh.directory / "nginx"
        home.mkdir()
        at = f"{self._lab.address(1)}:{self._PORT}"
        paths = "".join(
            f"{kind}_temp_path {home}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (home / "conf").write_text(
            f"daemon off; master_process off; pid {home}/pid; error_log {home}/errors; user root;"
            f"events {{}} http {{ access_log off; sendfile on; {paths}"
            f"server {{ listen {at}; root {self._image.parent}; }} }}"
        )
        ready = (
            f"(until curl -sfo /dev/null -r 0-0 http://{at}/{self._image.name}; do sleep 0.1; done; echo up)"
        )
        command = [*self._lab.inside(1), "sh", "-c", f"{ready} & exec nginx -p {home} -c {home}/conf"]
        self._nodes.append(self._mesh.node(command, state=home, log=home / "log"))

    def command(self, number: int) -> list[str]:
        url = f"http://{self._lab.address(1)}:{self._PORT}/{self._image.name}"
        return [*self._lab.inside(number), "curl", "-sf", "-o", str(self.file(number)), "-w", "{}", url]

    def file(self, number: int) -> Path:
        return self._mesh.directory / f"curl{number}"

    def nodes(self) -> Sequence[Node]:
        return self._nodes

    def copies(self, row: Row) -> float | None:
        return None


class Torrent:
    """libtorrent, tuned as well as is known; clients go on serving until all are done."""

    name = "libtorrent"
    _PORT = 6881

    def __init__(self, lab: Lab, mesh: Processes, image: Path) -> None:
        self._lab, self._mesh, self._image = lab, mesh, image
        self._torrent = mesh.directory / "torrent"
        self._nodes: list[Node] = []
        self._peers: list[str] = []

    def begin(self, row: Row) -> None:
        command = ["seed", str(self._image), str(self._torrent), self._at(1)]
        log = self._mesh.directory / "seed"
        self._nodes.append(self._mesh.node(self._python(1, *command), state=log, log=log))
        clients = range(row.holders + 1, row.holders + row.clients + 1)
        self._peers = [self._at(number) for number in (1, *clients)]

    def command(self, number: int) -> list[str]:
        directory = self.file(number).parent
        directory.mkdir()
        return self._python(
            number, "join", self._at(number), str(self._torrent), str(directory), *self._peers
        )

    def file(self, number: int) -> Path:
        return self._mesh.directory / f"leech{number}" / self._image.name

    def nodes(self) -> Sequence[Node]:
        return self._nodes

    def copies(self, row: Row) -> float | None:
        return None

    def _at(self, number: int) -> str:
        return f"{self._lab.address(number)}:{self._PORT}"

    def _python(self, number: int, *arguments: str) -> list[str]:
        return [*self._lab.inside(number), PYTHON[0], "-m", "benchmarks.torrent", *arguments]


CONTESTANTS: Final = {each.name.partition(" ")[0]: each for each in (P2PBoot, Nginx, Torrent)}


def absent(name: str) -> str:
    """Say what a contestant lacks here; empty where it can take part."""
    if name == "nginx" and not all(map(shutil.which, ("nginx", "curl"))):
        return "Debian's nginx and curl are not installed"
    if name == "libtorrent" and not torrent.is_installed():
        return torrent.MISSING
    return ""
