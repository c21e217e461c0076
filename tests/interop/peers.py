"""Peers in other languages, as processes that print one JSON object a line; `make interop` builds them."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

_ROOT: Final = Path(__file__).parents[2]
_BUILT: Final = _ROOT / "build" / "interop"
_NEEDS: Final = {"go": ("go",), "js": ("node", "npm")}
_HANG_S: Final = 60.0


class Peer:
    """A running peer.

    Args:
        process: with pipes.
        name: for messages.
    """

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self._process, self._name = process, name
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.said: list[dict[str, Any]] = []
        """What was waited past."""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def wait_for(self, **wanted: object) -> dict[str, Any]:
        """Wait until it says something with all of these values, after what was waited for before; `...` is any."""
        while True:
            try:
                line = self._lines.get(timeout=_HANG_S)
            except queue.Empty:
                line = b""
            if not line:
                pytest.fail(f"{self._name} did not say {wanted}, but {self.said}")
            said = json.loads(line)
            self.said.append(said)
            if all(key in said and value in (said[key], ...) for key, value in wanted.items()):
                return said  # type: ignore[no-any-return]

    async def heard(self, **wanted: object) -> dict[str, Any]:
        """As `wait_for`, while tasks go on."""
        return await trio.to_thread.run_sync(partial(self.wait_for, **wanted))

    def tell(self, **what: object) -> None:
        """Send it a JSON object on a line of its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """End it and everything that belongs to it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def peer(language: str, name: str, *arguments: str, inside: Sequence[str] = (), log: Path) -> Iterator[Peer]:
    """Run a peer until the block ends.

    Args:
        language: ``go``, ``js``, or ``ours`` for a module beside this one.
        name: its directory there, or the module.
        arguments: of its command line.
        inside: what its command line begins with, where it is to run on a machine of a `tests.lan.Network`.
        log: where its standard error goes.
    """
    command = _command(language, name)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [*inside, *command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=_ROOT,
        )
    running = Peer(process, f"{language}'s {name}")
    try:
        yield running
    finally:
        running.end()


def _command(language: str, name: str) -> list[str]:
    if language == "ours":
        return [sys.executable, "-m", f"tests.interop.{name}"]
    missing = [tool for tool in _NEEDS[language] if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    program = _BUILT / language / name / ("main.js" if language == "js" else "")
    if not program.exists():
        pytest.skip(f"{language}'s {name} is not built: `make interop` does it")
    return ["node", str(program)] if language == "js" else [str(program)]
