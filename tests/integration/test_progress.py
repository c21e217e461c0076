"""What a person sees of a real fetch whose only peer stops in the middle, goes on, or whose terminal goes away."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pboot.testing.processes import PYTHON, Mesh, Node
from p2pboot.testing.waiting import HANG_S, wait_until
from tests.integration.images import write_artifacts
from tests.terminals import terminal_with

WAITS = re.compile(r"waiting for 1 peer, no byte for \d+ s|waiting for a peer, \d+ s")


@contextmanager
def slow_publisher(mesh: Mesh, tmp_path: Path) -> Iterator[tuple[Node, list[str]]]:
    """A publisher that gives little at a time, and the command that fetches from it."""
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=24 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--max-upload", "2MB/s")
    yield publisher, [*PYTHON, *mesh.fetch_arguments(trust, mesh.directory / "out", publisher.address)]


def has_begun(mesh: Mesh) -> bool:
    """Whether pieces are on the disk."""
    partials = (mesh.directory / "out/.p2pboot/partial").glob("*")
    return any(path.stat().st_blocks > 2048 for path in partials)


def test_a_log_says_that_the_only_peer_is_silent_and_the_fetch_goes_on(mesh: Mesh, tmp_path: Path) -> None:
    with slow_publisher(mesh, tmp_path) as (publisher, command):
        log = mesh.directory / "fetch.log"
        fetch = mesh.start(command, log)
        wait_until(lambda: has_begun(mesh), "the fetch is under way")
        publisher.freeze()
        wait_until(lambda: WAITS.search(log.read_text()) is not None, "the fetch says that it waits")
        publisher.thaw()
        out, _ = fetch.communicate(timeout=HANG_S)
        assert fetch.returncode == 0, log.read_text()
        document = json.loads(out)
        assert document["sources"]["publisher"] == document["downloaded_bytes"] > 24 << 20
        waiting = [line for line in log.read_text().splitlines() if WAITS.search(line)]
        assert not [line for line in waiting if " left" in line]


def test_a_narrow_terminal_says_so_too_and_may_be_resized_and_closed(mesh: Mesh, tmp_path: Path) -> None:
    out = mesh.directory / "out.json"
    with (
        slow_publisher(mesh, tmp_path) as (publisher, command),
        terminal_with(command, mesh.directory, out=out, columns=60, is_its_own=False) as terminal,
    ):
        terminal.wait_for(r"fetching \d+ % of [\d.]+ MB, [\d.]+ [kM]B/s")
        wait_until(lambda: has_begun(mesh), "the fetch is under way")
        publisher.freeze()
        terminal.wait_for(WAITS.pattern)
        terminal.resize(40)
        terminal.wait_for(rf"[\n\r](?:{WAITS.pattern})", "that alone, where there is no room for more")
        terminal.close()
        publisher.thaw()
        assert terminal.wait() == 0
        assert json.loads(out.read_text())["ok"] is True


def test_a_mirror_shows_a_bar_where_it_has_a_terminal_and_logs_where_not(mesh: Mesh, tmp_path: Path) -> None:
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=24 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--max-upload", "4MB/s")
    logged = mesh.mirror(trust, "--bootstrap", publisher.address, name="logged")
    watched = [
        *(*PYTHON, "mirror", "--trust", trust, "--channel", "stable", "--arch", "x86_64", "--no-mdns"),
        *("--key", "watched.toml", "--state", "watched", "--listen", "/ip4/127.0.0.1/tcp/0"),
        *("--bootstrap", publisher.address, "--admin", "off"),
    ]
    with terminal_with(watched, mesh.directory, columns=100) as terminal:
        terminal.wait_for(r"/ip4/127\.0\.0\.1/tcp/\d+/p2p/")
        terminal.wait_for(r"stable/x86_64: fetching \d+ % of [\d.]+ MB, [\d.]+ [kM]B/s")
        terminal.wait_for(r"stable/x86_64: holding manifest_version 1")
        terminal.type("\x03")
        assert terminal.wait() == 0
    logged.wait_for_head(1)
    line = re.search(r"INFO +stable/x86_64: fetching \d+ % of [\d.]+ MB.*", logged.log.read_text())
    assert line is not None, logged.log.read_text()
