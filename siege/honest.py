"""Honest use of the node: fetches, gossip and HTTP, and how long each took."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from p2pboot.testing.processes import PYTHON, environment
from siege.room import Room

HTTP_EVERY_S = 0.4
HTTP_PATIENCE_S = 10.0
GOSSIP_EVERY_S = 1.5
FETCH_PATIENCE_S = 30.0
"""On a quiet machine; on a busy one eight times what a fetch takes there when nobody attacks."""
_SPIN_EVERY_S = 0.5
_SPIN_S = 0.005


@dataclass(frozen=True)
class Sample:
    """One honest job.

    Args:
        at: when it began, seconds since the epoch.
        took_s: how long it took; None if it failed.
        why: it failed.
    """

    at: float
    took_s: float | None
    why: str = ""


class Honest:
    """What honest peers met so far; written by threads, read by whoever asks."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.http: list[Sample] = []
        self.gossip: list[Sample] = []
        self.fetch_patience_s = FETCH_PATIENCE_S
        self.spins: list[Sample] = []
        """How long a moment's work took that has nothing to do with the node: what the machine's being busy costs."""
        self._ending = threading.Event()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Ask over HTTP and publish by gossip, all the time."""
        room = self._room
        files = [str(path) for path in (room.target_file, room.manifest_file, room.key_file)]
        mesh = [] if room.swarm_key_file is None else [str(room.swarm_key_file)]
        command = [sys.executable, "-m", "siege.gossiper", *files, str(GOSSIP_EVERY_S), *mesh]
        log = (room.directory / "gossiper.log").open("wb")
        with (
            log,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment()
            ) as gossiper,
        ):
            threads = [
                threading.Thread(target=self._hear, args=(gossiper,)),
                threading.Thread(target=self._get),
                threading.Thread(target=self._spin),
            ]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self._ending.set()
                assert gossiper.stdin is not None
                gossiper.stdin.close()
                try:
                    gossiper.wait(10)
                except subprocess.TimeoutExpired:
                    gossiper.kill()
                for thread in threads:
                    thread.join()

    def _hear(self, gossiper: subprocess.Popen[bytes]) -> None:
        assert gossiper.stdout is not None
        for line in gossiper.stdout:
            said = json.loads(line)
            took_s = None if said["ms"] is None else said["ms"] / 1000
            self.gossip.append(Sample(said["sent"], took_s, "" if took_s else "never came"))

    def _get(self) -> None:
        while not self._ending.wait(HTTP_EVERY_S):
            self.http.append(self.get_once())

    def _spin(self) -> None:
        while not self._ending.wait(_SPIN_EVERY_S):
            at, began, end = time.time(), time.perf_counter(), time.thread_time() + _SPIN_S
            while time.thread_time() < end:
                pass
            self.spins.append(Sample(at, time.perf_counter() - began))

    def get_once(self) -> Sample:
        """Take the kernel over HTTP, on a connection of its own."""
        target, at = self._room.target, time.time()
        connection = http.client.HTTPConnection(*target.http, timeout=HTTP_PATIENCE_S)
        try:
            connection.request("GET", target.path.removesuffix("rootfs") + "kernel")
            answer = connection.getresponse()
            while answer.read(1 << 20):
                if time.time() - at > HTTP_PATIENCE_S:
                    return Sample(at, None, "slow")
        except (OSError, http.client.HTTPException) as error:
            return Sample(at, None, type(error).__name__)
        finally:
            connection.close()
        if answer.status != 200:
            return Sample(at, None, str(answer.status))
        return Sample(at, time.time() - at)

    def fetch_once(self) -> Sample:
        """Fetch the image as a boot client does, as somebody new."""
        output, at = self._room.directory / "fetched", time.time()
        shutil.rmtree(output, ignore_errors=True)
        arguments = self._room.mesh.fetch_arguments(self._room.trust, output, self._room.node.address)
        arguments[-1] = str(self.fetch_patience_s / 2)
        command = [*PYTHON, *arguments, *self._room.swarm_key]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=self.fetch_patience_s, check=False, env=environment()
            )
        except subprocess.TimeoutExpired:
            return Sample(at, None, "slow")
        if done.returncode != 0:
            lines = done.stderr.decode().strip().splitlines() or ["nothing said"]
            return Sample(at, None, lines[-1])
        return Sample(at, time.time() - at)


def within(samples: Sequence[Sample], start: float, end: float) -> list[Sample]:
    """Those that began between two times."""
    return [sample for sample in samples if start <= sample.at < end]
