"""What a person sees of a real fetch whose only peer stops in the middle, goes on, or whose terminal goes away."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pboot.testing.processes import PYTHON, Mesh, Node, environment
from p2pboot.testing.waiting import HANG_S, wait_until
from tests.integration.images import write_artifacts

WAITS = re.compile(r"no byte for \d+ s from 1 peer|waiting for a peer, \d+ s")

WAITS_ONLY = re.compile(rf"[\n\r](?:{WAITS.pattern})")


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


class Terminal:
    """A pseudo terminal, of which the test has the other end."""

    def __init__(self, columns: int) -> None:
        self.ours, self.theirs = pty.openpty()
        self.shown = ""
        self.resize(columns)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def start(self, command: list[str], directory: Path, out: Path) -> subprocess.Popen[bytes]:
        with out.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env={**environment(), "TERM": "xterm-256color"},
                stdin=self.theirs,
                stdout=file,
                stderr=self.theirs,
                start_new_session=True,
            )
        os.set_blocking(self.ours, False)
        return process

    def says(self, pattern: re.Pattern[str]) -> bool:
        """Whether that was shown since it was asked last."""
        try:
            self.shown += os.read(self.ours, 1 << 16).decode(errors="replace")
        except BlockingIOError:
            return False
        if (found := pattern.search(self.shown)) is None:
            return False
        self.shown = self.shown[found.end() :]
        return True

    def close(self) -> None:
        os.close(self.theirs)
        os.close(self.ours)


def test_a_narrow_terminal_says_so_too_and_may_be_resized_and_closed(mesh: Mesh, tmp_path: Path) -> None:
    with slow_publisher(mesh, tmp_path) as (publisher, command):
        terminal, out = Terminal(60), mesh.directory / "out.json"
        fetch = terminal.start(command, mesh.directory, out)
        try:
            wait_until(
                lambda: terminal.says(re.compile(r"fetching \d+ % of [\d.]+ MB, [\d.]+ [kM]B/s")), "a rate"
            )
            wait_until(lambda: has_begun(mesh), "the fetch is under way")
            publisher.freeze()
            wait_until(lambda: terminal.says(WAITS), "it says that it waits")
            terminal.resize(40)
            wait_until(
                lambda: terminal.says(WAITS_ONLY), "it says that alone where there is no room for more"
            )
            terminal.close()
            publisher.thaw()
            assert fetch.wait(HANG_S) == 0
        finally:
            fetch.kill()
            fetch.wait()
        assert json.loads(out.read_text())["ok"] is True
