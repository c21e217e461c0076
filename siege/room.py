"""The node under attack, and what honest peers need to use it: on loopback, in a directory of its own.

::

    publisher ────► node under attack ────► fetch, curl    honest, from 127.0.0.1
    publisher ────►       gossip      ────► third node     two peers that know only the node, from 127.0.0.2
    attackers ────►                                        each attack from 127.0.<its own>.x

The node is a mirror: its root names the honest publisher, and a second one who is trusted and means no good. The key
that says what is fresh is stolen.
"""

from __future__ import annotations

import os
import secrets
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest
from p2pboot.core.trustdocs.root import Root
from p2pboot.store.keyfiles import load_key
from p2pboot.testing.artifacts import write_image
from p2pboot.testing.processes import LOOPBACK, PYTHON, Mesh, Node
from p2pboot.transport.addresses import parse_address
from siege import trustdocs
from siege.target import ARCH, CHANNEL, LAN, MIB, OPEN, PRIVATE, SECOND_CHANNEL, Target

_GRACE_S = 5.0
_PATIENCE_S = 120.0
_ANYWHERE = "/ip4/0.0.0.0/tcp/0"


@dataclass(frozen=True)
class Room:
    """What a siege happens in.

    Args:
        directory: of all its files.
        mesh: owns the honest processes.
        node: the one under attack.
        target: how it is reached.
        target_file: says so to other processes.
        trust: key id of the honest publisher.
        manifest_file: what that one published.
        key_file: its key.
        swarm_key_file: of the mesh; None in the network of all.
    """

    directory: Path
    mesh: Mesh
    node: Node
    target: Target
    target_file: Path
    trust: str
    manifest_file: Path
    key_file: Path
    swarm_key_file: Path | None

    @property
    def swarm_key(self) -> tuple[str, ...]:
        """The option by which a process gets into the mesh."""
        return _option(self.swarm_key_file)

    @property
    def state_bytes(self) -> int:
        """What the node's state takes on the disk."""
        return sum(path.stat().st_blocks * 512 for path in _files(self.node.state))


def _option(swarm_key_file: Path | None) -> tuple[str, ...]:
    return () if swarm_key_file is None else ("--swarm-key", str(swarm_key_file))


def _files(directory: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            if path.exists():
                yield path


@contextmanager
def room_in(directory: Path, rootfs_bytes: int, kind: str = OPEN) -> Iterator[Room]:
    """Have a node under attack that holds an image.

    Args:
        directory: empty.
        rootfs_bytes: of its largest artifact.
        kind: `OPEN`, `PRIVATE`, or, on a machine of a network of its own, `LAN`.
    """
    mesh = Mesh(directory, patience_s=_PATIENCE_S, grace_s=_GRACE_S)
    try:
        swarm_key_file = None
        if kind == PRIVATE:
            swarm_key_file = directory / "swarm.key"
            mesh.run("key", "swarm", str(swarm_key_file))
        yield _furnish(mesh, directory, rootfs_bytes, swarm_key_file, on_lan=kind == LAN)
    finally:
        mesh.end()


def _furnish(
    mesh: Mesh, directory: Path, rootfs_bytes: int, swarm_key_file: Path | None, *, on_lan: bool
) -> Room:
    swarm_key = _option(swarm_key_file)
    sizes = {"vmlinuz": 4 * MIB, "initrd.img": MIB + 1, "rootfs.img": rootfs_bytes}
    leaf = write_image(directory / "images" / CHANNEL / ARCH, sizes)
    for path in leaf.iterdir():
        os.utime(path, (1, 1))  # it is not being written any more
    trust, second = mesh.new_key("publisher"), mesh.new_key("second")
    publisher = mesh.serve(directory / "images", *swarm_key)
    vouching, root_key = (SecretKey(secrets.token_bytes(32)) for _ in range(2))
    root = trustdocs.root([root_key], {CHANNEL: trust, SECOND_CHANNEL: second}, vouching)
    discovery = ("--listen", _ANYWHERE) if on_lan else ("--listen", LOOPBACK, "--no-mdns")
    options = ("--bootstrap", publisher.address, *swarm_key, *discovery)
    node = _mirror(mesh, directory / "node", root, options)
    node.wait_for_head(1, within_s=_PATIENCE_S)
    taken = mesh.run(*mesh.fetch_arguments(trust, directory / "first", node.address), *swarm_key)
    if taken.status != 0:
        raise SystemExit(f"an honest fetch fails before any attack: {taken.last_line}")
    publisher.stop()
    manifest_file = directory / "first" / "manifest.json"
    manifest = Manifest.parse(manifest_file.read_bytes())
    address, http = parse_address(node.address), urllib.parse.urlsplit(node.status()["http"][0])
    rootfs = manifest.artifacts["rootfs"]
    target = Target(
        host=address.host,
        port=address.port,
        peer_id=node.peer_id,
        http=(str(http.hostname), int(http.port or 80)),
        path=f"{http.path}/rootfs",
        sha256=rootfs.sha256,
        size=rootfs.size,
        table=rootfs.table_digest,
        piece_length=rootfs.piece_length,
        second_seed=load_key(directory / "second" / "node.toml").seed.hex(),
        fleet=Root.parse(root).digest,
        vouching_seed=vouching.seed.hex(),
        head_version=manifest.manifest_version,
        head_digest=manifest.digest,
    )
    target_file = directory / "target.json"
    target.write(target_file)
    key_file = directory / "publisher" / "node.toml"
    return Room(directory, mesh, node, target, target_file, trust, manifest_file, key_file, swarm_key_file)


def _mirror(mesh: Mesh, home: Path, root: bytes, options: Sequence[str]) -> Node:
    home.mkdir()
    root_file = home / "root.json"
    root_file.write_bytes(root)
    command = [*PYTHON, "mirror", "--root", str(root_file), *options, "--http", "127.0.0.1:0"]
    places = ["--key", str(home / "node.toml"), "--state", str(home / "state")]
    return mesh.node([*command, *places], state=home / "state", log=home / "log")
