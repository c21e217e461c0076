"""Takes the pictures of the status page in `docs/images/`, of a little mesh that runs on this machine meanwhile.

`make screenshots` runs it; it needs Chromium. A publisher and two mirrors hold a release; the second mirror, which is
shown, has booted three machines, is fetching the next release, and has little room for the one after it. What a
terminal shows of the same moment is printed.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from p2pboot.testing.artifacts import write_image
from p2pboot.testing.processes import PYTHON, Mesh, Node, environment, mesh_in
from p2pboot.testing.waiting import wait_until
from tests.browser import Browser, browsing

IMAGES = Path(__file__).parents[1] / "docs" / "images"
_MB = 1_000_000
_MACHINES = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
_CONFIG = """\
[provider]
name = "{name}"
[[trust]]
name = "release team"
keys = ["{key}"]
channels = ["stable"]
archs = ["x86_64"]
"""


def main() -> None:
    """Take them all."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="p2pboot-") as place, mesh_in(Path(place)) as mesh:
        images = mesh.directory / "images"
        _write(images, seed=1, rootfs_bytes=12 * _MB)
        key = mesh.new_key("images")
        publisher = mesh.serve(
            images, "--name", "images.example.net", "--version", "2026.11.1", name="images"
        )
        publisher.wait_for_head(1)
        first = _mirror(mesh, "rack-1", key, publisher)
        first.wait_for_head(1)
        limited = ("--http", "127.0.0.1:0", "--max-download", "3MB/s")
        mirror = _mirror(mesh, "rack-2", key, publisher, first, more=limited)
        mirror.wait_for_head(1)
        for machine in _MACHINES:
            _boot(mirror, machine)
        _write(images, seed=2, rootfs_bytes=80 * _MB)
        with browsing() as browser:
            _take(browser, mirror)


def _write(images: Path, *, seed: int, rootfs_bytes: int) -> None:
    sizes = {"vmlinuz-6.1": 8 * _MB, "initrd.img": 6 * _MB, "rootfs.squashfs": rootfs_bytes}
    write_image(images / "stable" / "x86_64", sizes, seed=seed)


def _mirror(mesh: Mesh, name: str, key: str, *known: Node, more: tuple[str, ...] = ()) -> Node:
    home = mesh.directory / name
    home.mkdir()
    config = home / "p2pboot.toml"
    config.write_text(_CONFIG.format(name=name, key=key))
    bootstrap = [word for node in known for word in ("--bootstrap", node.address)]
    places = ("--key", str(home / "node.toml"), "--state", str(home / "state"), "--admin", "127.0.0.1:0")
    network = ("--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--quota", "200MB")
    command = [*PYTHON, "mirror", "--config", str(config), *places, *network, *bootstrap, *more]
    return mesh.node(command, state=home / "state", log=home / "log")


def _boot(mirror: Node, machine: str) -> None:
    """Take from an address of its own what a machine boots from."""
    base = urlsplit(mirror.status()["http"][0])
    line = http.client.HTTPConnection(str(base.hostname), base.port, source_address=(machine, 0))
    for name in ("kernel", "initramfs"):
        line.request("GET", f"/stable/x86_64/{name}")
        line.getresponse().read()
    line.close()


def _take(browser: Browser, mirror: Node) -> None:
    """All of them while the rootfs of the next release is on its way."""
    url = mirror.status()["admin"]
    pages = {
        "status-light": (browser.page(width=1000), 1600),
        "status-dark": (browser.page(width=1000, dark=True), 1600),
        "status-phone": (browser.page(width=360, height=740), 1100),
    }
    for page, _ in pages.values():
        page.open(url)
        page.wait_for(
            "document.querySelector('#problems .problems') && document.querySelector('#fetching .pieces path')",
            within_s=45,
        )
    wait_until(lambda: _fetched(mirror) > 0.4, "the next release")
    for name, (page, height) in pages.items():
        page.screenshot(IMAGES / f"{name}.png", height=height)
        print(f"docs/images/{name}.png: {(IMAGES / f'{name}.png').stat().st_size} bytes", file=sys.stderr)
    shown = [*PYTHON, "status", "--state", str(mirror.state)]
    subprocess.run(shown, env={**environment(), "COLUMNS": "100"}, check=True)  # noqa: S603 - our own program


def _fetched(mirror: Node) -> float:
    return max((one["bytes_done"] / one["bytes_total"] for one in mirror.status()["fetching"]), default=0.0)


if __name__ == "__main__":
    main()
