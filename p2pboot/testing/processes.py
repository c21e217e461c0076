"""The program in processes of its own, started as a user starts it; what is started here is ended here.

Every process that runs on writes its stderr to a file, so that no pipe fills up; what a node prints first is its
address. Little is imported: a process that measures itself, or others, stays small. Linux counts the memory of whoever
starts a process towards the peak of the child.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import NotFoundError, P2PBootError, machine_error
from p2pboot.testing.waiting import HANG_S, wait_until

PYTHON: Final = (sys.executable, "-m", "p2pboot")
ANY_PORT: Final = "127.0.0.1:0"
LOOPBACK: Final = "/ip4/127.0.0.1/tcp/0"
_PAIR: Final = ("--channel", "stable", "--arch", "x86_64")
_ROOT: Final = str(Path(__file__).parents[2])  # so that a checkout that is not installed works as well
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended.

    Args:
        status: the exit status; negative for the signal that ended it.
        stdout: what it printed.
        stderr: what it said besides.
        wall_s: from its start to its end.
        cpu_s: processor time, user and system.
        user_s: of it the user's.
        peak_bytes: memory at the most.
    """

    status: int
    stdout: str
    stderr: str
    wall_s: float
    cpu_s: float
    user_s: float
    peak_bytes: int

    @property
    def document(self) -> Any:
        """The one JSON document that it printed."""
        return json.loads(self.stdout)

    @property
    def last_line(self) -> str:
        """What it said last: of stderr, else of stdout."""
        return _last_line(self.stderr.strip() or self.stdout)


class Node:
    """A process that runs until it is ended, such as `serve` and `mirror`; what it printed first is its address."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, state: Path, log: Path) -> None:
        self.process = process
        self.address = address
        self.state = state
        self.log = log

    @property
    def peer_id(self) -> str:
        """Which it has, as its address says."""
        return self.address.rpartition("/p2p/")[2]

    def status(self) -> dict[str, Any]:
        """Ask it on its control socket."""
        from p2pboot.node.control import request

        return request(self.state, {"op": "status"}, HANG_S)

    def heads(self) -> dict[tuple[str, str], int]:
        """(channel, arch) to manifest_version of what is wholly held."""
        return {(h["channel"], h["arch"]): h["manifest_version"] for h in self.status()["heads"]}

    def wait_for_head(
        self, version: int, channel: str = "stable", arch: str = "x86_64", *, within_s: float = HANG_S
    ) -> None:
        """Wait until it holds this manifest version, or a later one, wholly; TimeoutError when it does not."""
        what = f"{self.log}: manifest version {version}"
        wait_until(lambda: self.heads().get((channel, arch), 0) >= version, what, within_s=within_s)

    def stop(self, number: int = signal.SIGTERM, *, within_s: float = HANG_S) -> int:
        """End it with a signal; returns its exit status.

        Raises:
            P2PBootError: it did not end.
        """
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise P2PBootError("a node did not end when told to", remedy=f"its log is {self.log}") from None

    def freeze(self) -> None:
        """Stop it without ending it: it keeps its connections and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self.process.send_signal(signal.SIGCONT)

    def cpu_s(self) -> float:
        """Seconds of processor time so far, in steps of a hundredth."""
        return sum(self._times())

    def user_s(self) -> float:
        """Of it the user's."""
        return self._times()[0]

    def _times(self) -> tuple[float, float]:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) / _TICKS_PER_S, int(fields[12]) / _TICKS_PER_S

    def memory_kib(self) -> int:
        """Memory at present."""
        return _status_kib(self.process.pid, "VmRSS:")

    def peak_memory_kib(self) -> int:
        """Memory at the most so far."""
        return _status_kib(self.process.pid, "VmHWM:")


class Processes:
    """The processes of one directory.

    Args:
        directory: where they run.
        patience_s: how long a command may take, and a node to come up.
        grace_s: how long one that has to end may take about it before it is killed.
    """

    def __init__(self, directory: Path, *, patience_s: float = HANG_S, grace_s: float = 0.0) -> None:
        self.directory = directory
        self._patience_s, self._grace_s = patience_s, grace_s
        self._started: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str) -> Finished:
        """Run a command of the program to its end; raises as `complete`."""
        return self.complete([*PYTHON, *arguments])

    def complete(self, command: Sequence[str]) -> Finished:
        """Run any command to its end.

        Raises:
            NotFoundError: it did not end in time, and was killed.
            MachineError: it can not be started.
        """
        with tempfile.TemporaryFile() as errors:
            began = time.monotonic()
            process = self._popen(command, errors.fileno())
            assert process.stdout is not None  # noqa: S101 - `_popen` asked for a pipe
            late = threading.Event()

            def give_up() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(self._patience_s, give_up)
            timer.start()
            try:
                with process.stdout:
                    printed = process.stdout.read()
                user_s, system_s, peak_kib = self._reap(process)
                wall_s = time.monotonic() - began
            finally:
                timer.cancel()
            errors.seek(0)
            said = errors.read().decode()
        if late.is_set():
            raise NotFoundError(f"`{_shown(command)}` does not end: {_last_line(said)}")
        cpu_s, peak_bytes = user_s + system_s, peak_kib * 1024
        return Finished(process.returncode, printed.decode(), said, wall_s, cpu_s, user_s, peak_bytes)

    def start(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start any command; its stderr goes to the end of `log`.

        Raises:
            MachineError: it can not be started.
        """
        with log.open("ab") as errors:
            return self._popen(command, errors.fileno())

    def node(self, command: Sequence[str], *, state: Path, log: Path) -> Node:
        """Start a command that runs on, and wait for its first line.

        Raises:
            P2PBootError: it ended, or said nothing in time; names its log.
            MachineError: it can not be started.
        """
        process = self.start(command, log)
        return Node(process, first_line(process, log, within_s=self._patience_s), state, log)

    def _popen(self, command: Sequence[str], errors: int) -> subprocess.Popen[bytes]:
        try:
            process = self._launch(command, errors)
        except OSError as error:
            raise machine_error(error, f"start {_shown(command)}") from error
        self._started.append(process)
        return process

    def _launch(self, command: Sequence[str], errors: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - what the callers say is what is wanted
            command,
            cwd=self.directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )

    def _reap(self, process: subprocess.Popen[bytes]) -> tuple[float, float, int]:
        """Wait for its end, and return what it took: seconds of the user and of the system, and KiB at the most."""
        # Not `wait`, which does not say that.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime, usage.ru_stime, usage.ru_maxrss

    def end(self) -> None:
        """End all that still run: asked first, if there is time for it, then killed."""
        left = [process for process in self._started if process.poll() is None]
        for process in left:
            process.send_signal(signal.SIGCONT)  # a frozen one would not see the next
            process.send_signal(signal.SIGTERM if self._grace_s else signal.SIGKILL)
        deadline = time.monotonic() + self._grace_s
        for process in left:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in self._started:
            if process.stdout is not None:
                process.stdout.close()


class Mesh(Processes):
    """Nodes that know each other by name: `<name>/node.toml` is the key, `<name>/state`, `<name>/log`."""

    def serve(self, artifacts: Path, *arguments: str, name: str = "publisher", admin: str = ANY_PORT) -> Node:
        """Start a publisher of an artifacts directory; `admin` is where it is watched, "" where nobody says it."""
        return self._named(name, "serve", str(artifacts), *arguments, admin=admin)

    def mirror(self, trust: str, *arguments: str, name: str = "mirror") -> Node:
        """Start a mirror of stable/x86_64, which takes what it needs even where the disk is nearly full."""
        return self._named(name, "mirror", "--trust", trust, *_PAIR, "--quota", "unlimited", *arguments)

    def _named(self, name: str, *arguments: str, admin: str = ANY_PORT) -> Node:
        home = self.directory / name
        home.mkdir(exist_ok=True)
        places = ("--key", str(home / "node.toml"), "--state", str(home / "state"), "--no-mdns")
        watched = ("--admin", admin) if admin and "--admin" not in arguments else ()
        listen = () if "--listen" in arguments else ("--listen", LOOPBACK)
        command = [*PYTHON, *arguments, *places, *listen, *watched]
        return self.node(command, state=home / "state", log=home / "log")

    def new_key(self, name: str) -> str:
        """Make a node's key before the node runs, so that others can trust it from their start; its key id."""
        (self.directory / name).mkdir(exist_ok=True)
        done = self.run("key", "generate", "--key", str(self.directory / name / "node.toml"), "--json")
        if done.status != 0:
            raise P2PBootError(f"no key for {name}: {done.last_line}")
        return str(done.document["keyid"])

    def keyid(self, name: str) -> str:
        """Return the key id of a node of this mesh."""
        done = self.run("key", "show", "--key", str(self.directory / name / "node.toml"), "--json")
        return str(done.document["keyid"])

    def fetch_arguments(self, trust: str, output: Path, *peers: str) -> list[str]:
        """Return the arguments of a fetch of stable/x86_64; the last is its time limit in seconds."""
        arguments = ["fetch", *_PAIR, "--trust", trust, "-o", str(output), "--json"]
        for peer in peers:
            arguments += ["--bootstrap", peer]
        return [*arguments, "--no-mdns", "--timeout", str(HANG_S)]

    def fetch(self, trust: str, output: Path, *peers: str) -> Finished:
        """Fetch stable/x86_64 from these addresses."""
        return self.run(*self.fetch_arguments(trust, output, *peers))


@contextmanager
def mesh_in(directory: Path) -> Iterator[Mesh]:
    """Make a mesh whose processes have all ended afterwards."""
    mesh = Mesh(directory)
    try:
        yield mesh
    finally:
        mesh.end()


def environment() -> dict[str, str]:
    """Return what a process needs to find this p2pboot, and to print each line at once."""
    path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def first_line(process: subprocess.Popen[bytes], log: Path, *, within_s: float = HANG_S) -> str:
    """Read what a process prints first.

    Raises:
        P2PBootError: it ended, or said nothing in time; names its log and what stands last in it.
    """
    assert process.stdout is not None  # noqa: S101 - `Processes` asks for a pipe
    ready, _, _ = select.select([process.stdout], [], [], within_s)
    line = process.stdout.readline().decode().strip() if ready else ""
    if not line:
        said = _last_line(log.read_text())
        raise P2PBootError(
            f"`{_shown(process.args)}` did not come up: {said}",  # type: ignore[arg-type]
            remedy=f"its log is {log}",
        )
    return line


def own_peak_bytes() -> int:
    """Return what memory this process has had at the most."""
    return _status_kib("self", "VmHWM:") * 1024


def _status_kib(pid: int | str, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def _last_line(text: str) -> str:
    return (text.strip() or "it said nothing").splitlines()[-1]


def _shown(command: Sequence[str]) -> str:
    program = len(PYTHON)
    return " ".join(
        ("p2pboot", *command[program : program + 1]) if tuple(command[:program]) == PYTHON else command
    )
