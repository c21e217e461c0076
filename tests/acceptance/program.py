"""The program as its users see it: arguments, exit status, outputs, files, signals. Knows none of its internals."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pboot.testing.waiting import wait_until as wait_until  # noqa: PLC0414 - tests import it from here
from tests.forking import Zygote

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
NETWORKED = ("serve", "mirror", "fetch", "discover")
AS_MUCH = ("--quota", "unlimited")  # for a mirror: tests run where the disk is nearly full, too
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    args: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.stdout)

    @property
    def complaint(self) -> str:
        """The one line that says what is wrong."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("p2pboot: error: ")]
        assert len(lines) == 1, self
        return lines[0]


class Running:
    """A command that runs; its outputs go to files."""

    def __init__(self, zygote: Zygote, args: tuple[str, ...], pid: int, stdout: Path, stderr: Path) -> None:
        self._zygote = zygote
        self._args = args
        self._status: int | None = None
        self.pid = pid
        self.out = stdout
        self.err = stderr

    def signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._zygote.ask(wait=self.pid, block=False)["status"]
        return self._status

    def wait(self) -> Finished:
        try:
            wait_until(lambda: self.poll() is not None, f"{self._args} ends", every_s=0.01)
        except TimeoutError as error:
            self.signal(signal.SIGKILL)
            raise AssertionError(f"{error}: {self.err.read_text()}") from None
        assert self._status is not None
        return Finished(self._args, self._status, self.out.read_bytes(), self.err.read_text())

    def first_line(self) -> str:
        """What it printed first; for a node the address to dial."""
        wait_until(
            lambda: b"\n" in self.out.read_bytes() or self.poll() is not None, "a first line", every_s=0.01
        )
        text = self.out.read_text()
        assert "\n" in text, self.err.read_text()
        return text.splitlines()[0]

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.err.read_text() or self.poll() is not None, text)
        assert text in self.err.read_text(), self.err.read_text()


class Program:
    """Runs commands, each in a process of its own, forked from one that has everything imported."""

    def __init__(self, directory: Path, networked: Zygote) -> None:
        self._directory = directory
        self._count = 0
        self._offline = Zygote(directory, network=False)
        self._networked = networked
        self._running: list[Running] = []

    def start(self, *args: object, cwd: Path | None = None, **how: Any) -> Running:
        """Start a command.

        `how`: permissions_apply (also to root), fsize (bytes), stdin (a path), env, clock_s (ahead of now), hears_all
        (after the first answer it waits for those of all others, and not only for two seconds).
        """
        self._count += 1
        stdout, stderr = (self._directory / f"{self._count}.{name}" for name in ("out", "err"))
        for path in (stdout, stderr):
            path.touch()
            path.chmod(0o666)
        texts = tuple(map(str, args))
        # Without root's rights, root may not be able to read what is not imported yet in another's checkout.
        networked = next(iter(texts), "") in NETWORKED or "permissions_apply" in how
        zygote = self._networked if networked else self._offline
        pid = zygote.ask(
            args=texts, cwd=str(cwd or self._directory), stdout=str(stdout), stderr=str(stderr), **how
        )["pid"]
        running = Running(zygote, texts, pid, stdout, stderr)
        self._running.append(running)
        return running

    def run(self, *args: object, **how: Any) -> Finished:
        """Run a command to its end."""
        return self.start(*args, **how).wait()

    def ok(self, *args: object, **how: Any) -> Finished:
        """Run a command that has to succeed."""
        done = self.run(*args, **how)
        assert done.status == 0, done
        return done

    def refuses(self, status: int, *words: str, args: tuple[object, ...], **how: Any) -> Finished:
        """Run a command that has to fail: with this status, and one clear line that has these words in it."""
        done = self.run(*args, **how)
        assert done.status == status, done
        assert_clear(done, *words)
        return done

    def end_all(self) -> None:
        """Kill what still runs: a test that failed, or nodes that nobody ended."""
        for running in self._running:
            running.signal(signal.SIGKILL)
            running.wait()
        self._running.clear()

    def close(self) -> None:
        self.end_all()
        self._offline.close()


def assert_clear(done: Finished, *words: str) -> None:
    """One line for a person: naming the thing and the remedy, nothing of Python's."""
    assert "Traceback" not in done.stderr, done
    assert "internal error" not in done.stderr, done
    line = done.complaint
    assert len(line) < 700, done
    assert "; " in line or " - " in line, f"no remedy: {line}"
    for word in words:
        assert word in line, f"{word!r} is not in: {line}"


def assert_json_failure(done: Finished, status: int) -> Any:
    """Exactly one JSON document on standard output, which says the same as status and stderr."""
    document = done.document
    assert document["ok"] is False
    assert document["exit_status"] == done.status == status, done
    assert document["reason"]
    assert document["error"] in done.complaint, done
    assert document["remedy"], done
    return document


@contextmanager
def program_in(directory: Path, networked: Zygote) -> Iterator[Program]:
    program = Program(directory, networked)
    try:
        yield program
    finally:
        program.close()


def content(seed: str, size: int) -> bytes:
    return hashlib.shake_256(seed.encode()).digest(size)


def write_image(
    directory: Path, seed: str = "1", *, rootfs: int = 300_001, dtbs: tuple[str, ...] = ()
) -> Path:
    """A flat artifacts directory, old enough to be taken as settled."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {"vmlinuz-6.1": 150_000, "initrd.img": 70_000, "rootfs.squashfs": rootfs}
    files |= {f"{name}.dtb": 4_000 for name in dtbs}
    for name, size in files.items():
        if size:
            (directory / name).write_bytes(content(f"{seed}/{name}", size))
    return directory


def snapshot(directory: Path) -> dict[str, bytes]:
    """Every file below a directory and its content: what must not have changed."""
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()
    }
