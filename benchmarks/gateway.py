"""How quickly the gateway delivers to curl, beside nginx with the same file, and what requests and crowds cost it.

Run it with `python -m benchmarks.gateway`. nginx (Debian: nginx-light) sends the file from the page cache and verifies
nothing; the gateway checks every piece. They take turns, and the ratio is taken within a round.
"""

from __future__ import annotations

import argparse
import os
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import mesh_in
from benchmarks.results import MB, MIB, Table, median, run_alone
from p2pboot.testing.artifacts import write_image
from p2pboot.testing.processes import Node

REQUESTS = 900  # on one connection, each for a head
CROWD, SLOW = 200, 50
CROWD_BYTES = 32 * MIB
SLOW_BYTES_PER_S = 16_000


@dataclass(frozen=True)
class Crowd:
    """200 clients at once, 50 of which read slowly; times of the quick ones, seconds."""

    first_s: float
    last_s: float
    mb_per_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Requests:
    """One client that asks again when it has the answer."""

    per_s: float
    cpu_ms: float


@dataclass(frozen=True)
class GatewayResult:
    """MB/s to one curl, by contestant and round; nginx's are missing where it is not installed."""

    gateway: tuple[float, ...]
    nginx: tuple[float, ...]
    cpu_s_per_gb: float
    peak_bytes: int
    requests: Requests
    crowd: Crowd

    def tables(self) -> Iterator[Table]:
        ratios = [ours / theirs for ours, theirs in zip(self.gateway, self.nginx, strict=False)]
        rows = [("gateway", f"{median(self.gateway):.0f}", f"{median(ratios):.2f}" if ratios else "–")]
        if ratios:
            rows.append(("nginx", f"{median(self.nginx):.0f}", "1.00"))
        yield Table(
            "One curl over loopback",
            ("server", "MB/s", "of nginx"),
            rows,
            (
                f"the gateway took {self.cpu_s_per_gb:.2f} CPU s/GB; peak {self.peak_bytes / MIB:.0f} MiB",
                *(() if ratios else ("nginx is not installed here (Debian: nginx-light)",)),
            ),
        )
        yield Table(
            "HEAD of an artifact, one request after the other",
            ("requests/s", "CPU ms each"),
            [(f"{self.requests.per_s:.0f}", f"{self.requests.cpu_ms:.2f}")],
        )
        crowd = self.crowd
        yield Table(
            f"{CROWD} clients at once, {SLOW} of them at {SLOW_BYTES_PER_S / 1000:.0f} kB/s",
            ("first done s", "last done s", "MB/s", "peak MiB"),
            [
                (
                    f"{crowd.first_s:.1f}",
                    f"{crowd.last_s:.1f}",
                    f"{crowd.mb_per_s:.0f}",
                    f"{crowd.peak_bytes / MIB:.0f}",
                )
            ],
            (f"each of the other {CROWD - SLOW} gets {CROWD_BYTES // MIB} MiB",),
        )

    def to_json(self) -> dict[str, Any]:
        return {"gateway": asdict(self)}


def measure(size: int, rounds: int) -> GatewayResult:
    with tempfile.TemporaryDirectory() as directory, _published(Path(directory), size) as (gateway, url):
        os.chmod(directory, 0o755)  # nginx's worker may be another user
        with _nginx(Path(directory)) as other:
            _curl(url)  # both warm
            ours, theirs = [], []
            cpu_before = gateway.cpu_s()
            for _ in range(rounds):
                ours.append(_curl(url))
                if other is not None:
                    theirs.append(_curl(other))
            cpu_s = gateway.cpu_s() - cpu_before
        peak = gateway.peak_memory_kib() * 1024
        requests = _requests(gateway, url)
        first_s, last_s = _crowd(url, min(CROWD_BYTES, size))
        moved = (CROWD - SLOW) * min(CROWD_BYTES, size)
        crowd = Crowd(first_s, last_s, moved / last_s / MB, gateway.peak_memory_kib() * 1024)
    return GatewayResult(tuple(ours), tuple(theirs), cpu_s / (rounds * size / 1e9), peak, requests, crowd)


@contextmanager
def _published(directory: Path, size: int) -> Iterator[tuple[Node, str]]:
    sizes = {"vmlinuz": MIB, "initrd.img": MIB + 1, "rootfs.img": size}
    leaf = write_image(directory / "images" / "stable" / "x86_64", sizes)
    for path in leaf.iterdir():
        os.utime(path, (1, 1))  # it is not being written any more
    with mesh_in(directory) as mesh:
        node = mesh.serve(directory / "images", "--http", "127.0.0.1:0", "--quiet")
        node.wait_for_head(1)
        yield node, f"{node.status()['http'][0]}/rootfs"


@contextmanager
def _nginx(directory: Path) -> Iterator[str | None]:
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log stderr crit;"
        "events { worker_connections 1024; }"
        f"http {{ sendfile on; access_log off; client_body_temp_path {directory}; server {{"
        f" listen 127.0.0.1:{port}; root {directory}/images/stable/x86_64; }} }}"
    )
    process = subprocess.Popen([binary, "-c", str(configuration), "-e", "stderr"], stderr=subprocess.DEVNULL)
    try:
        while not _answers(port):
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/rootfs.img"
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _curl(url: str) -> float:
    """MB/s of one download."""
    command = [
        "curl",
        "--silent",
        "--fail",
        "--noproxy",
        "*",
        "-o",
        "/dev/null",
        "-w",
        "%{speed_download}",
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout) / MB


def _requests(gateway: Node, url: str) -> Requests:
    address, path = _parts(url)
    asked = f"HEAD /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    cpu_before, started = gateway.cpu_s(), time.monotonic()
    with socket.create_connection(address) as client:
        for _ in range(REQUESTS):
            client.sendall(asked)
            received = b""
            while not received.endswith(b"\r\n\r\n"):
                received += client.recv(65536)
    took_s, cpu_s = time.monotonic() - started, gateway.cpu_s() - cpu_before
    return Requests(REQUESTS / took_s, 1000 * cpu_s / REQUESTS)


def _parts(url: str) -> tuple[tuple[str, int], str]:
    """Address and path; of the URLs that a server on 127.0.0.1 has."""
    host, _, path = url.removeprefix("http://").partition("/")
    return (host.rpartition(":")[0], int(host.rpartition(":")[2])), path


def _crowd(url: str, size: int) -> tuple[float, float]:
    """Seconds until the first and the last of the quick clients had everything."""
    address, path = _parts(url)
    asked = (
        f"GET /{path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-{size - 1}\r\nConnection: close\r\n\r\n".encode()
    )
    selector, slow, received = selectors.DefaultSelector(), [], {}
    started = time.monotonic()
    for number in range(CROWD):
        client = socket.socket()
        if number < SLOW:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        client.connect(address)
        client.sendall(asked)
        if number < SLOW:
            slow.append(client)
        else:
            selector.register(client, selectors.EVENT_READ)
            received[client.fileno()] = 0
    buffer, done, turn = bytearray(MIB), [], started
    while selector.get_map():
        for key, _ in selector.select(1):
            count = key.fileobj.recv_into(buffer)  # type: ignore[union-attr]
            received[key.fd] += count
            if count == 0:
                if received[key.fd] < size:
                    raise SystemExit("a client was cut off")
                done.append(time.monotonic() - started)
                selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
        if time.monotonic() - turn > 0.25:
            turn = time.monotonic()
            for client in slow:
                client.recv(SLOW_BYTES_PER_S // 4)
    for client in slow:
        client.close()
    return done[0], done[-1]


def measure_as_told(arguments: argparse.Namespace) -> GatewayResult:
    return measure(128 * MIB, 2) if arguments.quick else measure(512 * MIB, 5)


if __name__ == "__main__":
    run_alone("Measure what the HTTP gateway delivers, beside nginx.", measure_as_told)
