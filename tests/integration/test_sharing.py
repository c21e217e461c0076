"""Who fetches gives to others: meanwhile, and afterwards for as long as was said."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

from p2pboot.core.identity import SecretKey
from p2pboot.testing.processes import PYTHON, Mesh
from tests.cli.conftest import key_file
from tests.integration.images import assert_same_bytes, write_artifacts

FIRST = SecretKey(b"f" * 32)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class First:
    """A fetch in a process of its own, whose address others are told."""

    def __init__(self, mesh: Mesh, trust: str, *arguments: str, publisher: str) -> None:
        home = mesh.directory / "first"
        home.mkdir()
        key_file(home / "key.toml", FIRST)
        listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
        self.address = f"{listen}/p2p/{FIRST.public.peer_id}"
        self.output = home / "out"
        command = [*PYTHON, *mesh.fetch_arguments(trust, self.output, publisher), *arguments]
        self.process = mesh.start(
            [*command, "--listen", listen, "--key", str(home / "key.toml")], home / "log"
        )

    def document(self) -> Any:
        """What it prints, as soon as that is whole."""
        assert self.process.stdout is not None
        printed = b""
        while not printed.endswith(b"\n}\n"):
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, "it ended before it had said everything"
            printed += more
        return json.loads(printed)


def received(document: Any, peer_id: str) -> int:
    return int(document["peers"].get(peer_id, {"received_bytes": 0})["received_bytes"])


def test_who_fetches_gives_what_it_has_and_stays_until_it_is_told_to_end(mesh: Mesh, tmp_path: Path) -> None:
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=4 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--max-upload", "3MB/s")
    first = First(mesh, trust, "--linger", "forever", publisher=publisher.address)
    assert first.document()["ok"]
    second = mesh.fetch(trust, mesh.directory / "second", publisher.address, first.address)
    assert second.status == 0, second.stderr
    assert_same_bytes(mesh.directory / "second", artifacts)
    assert received(second.document, FIRST.public.peer_id) > 0
    assert_same_bytes(first.output, artifacts)
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait() == 0
