"""The main job, shown: a publisher, a mirror that heard of it, machines that boot from the mirror, and a whole rack.

Real processes on loopback, started with the commands that a user would type. Whatever they leave stays in one
directory to be looked at; no process stays.
"""

from __future__ import annotations

import filecmp
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from p2pboot.demo.inputs import DemoInputs, prepare_inputs
from p2pboot.demo.processes import END_S, processes_in
from p2pboot.demo.story import Story
from p2pboot.errors import NotFoundError, P2PBootError
from p2pboot.testing.processes import LOOPBACK, PYTHON, Node, Processes

CHANNEL: Final = "stable"
MIRRORED_S: Final = 60.0
_RACK: Final = 6
_RACK_UPLINK: Final = "10MB"
_AS_MUCH: Final = ("--quota", "unlimited")  # for a mirror: the demo runs where the disk is nearly full, too
_LOOPBACK: Final = ("--listen", LOOPBACK, "--no-mdns")


def run_demo(directory: Path, *, cache: Path, story: Story) -> None:
    """Show the main job.

    Args:
        directory: empty or new; keys, artifacts, states and fetched files end up there.
        cache: for packages that are downloaded.
        story: where it is told.

    Raises:
        P2PBootError: a step did not go as it should; names what to look at.
    """
    story.step("Something to boot")
    with processes_in(directory) as processes:
        inputs = prepare_inputs(directory / "images", cache=cache, note=story.tell)
        _Demo(directory, inputs, processes, story).run()
    story.tell("")
    story.tell(f"That was p2pboot, in {story.elapsed_s():.0f} s; all processes have ended.")
    story.tell(f"The files are in {directory}: rack-1/ and rack-2/ are what two machines would boot,")
    story.tell("publisher.log and mirror.log are what the two nodes said.")


class _Demo:
    """The steps; each one's results are what the next one needs."""

    def __init__(self, directory: Path, inputs: DemoInputs, processes: Processes, story: Story) -> None:
        self._directory = directory
        self._pair = ("--channel", CHANNEL, "--arch", inputs.arch)
        self._inputs = inputs
        self._processes = processes
        self._story = story

    def run(self) -> None:
        publisher, keyid = self._publish()
        mirror = self._mirror(publisher, keyid)
        self._boot(mirror, keyid)
        self._update(mirror)
        self._lose_publisher(publisher, mirror, keyid)
        self._repair(mirror, keyid)
        self._attack(keyid)
        self._boot_rack()

    def _publish(self) -> tuple[Node, str]:
        story = self._story
        story.step("A publisher signs it and serves it")
        self._run("key", "generate", "--key", "publisher.toml")
        keyid = str(self._json("key", "show", "--key", "publisher.toml")["keyid"])
        serve = ("serve", "images", *self._pair, "--key", "publisher.toml", "--state", "publisher")
        node = self._node("publisher", *serve)
        head = self._wait_for(node, 1)
        story.good(f"it serves at {node.address}")
        story.good(f"version {head['version']}, manifest version 1, sha256:{head['digest'][:16]}…")
        return node, keyid

    def _mirror(self, publisher: Node, keyid: str) -> Node:
        story = self._story
        story.step("A mirror that trusts the publisher's key takes it over")
        mirror = ("mirror", "--trust", keyid, *self._pair, "--bootstrap", publisher.address)
        node = self._node("mirror", *mirror, *_AS_MUCH, "--key", "mirror.toml", "--state", "mirror")
        began = time.monotonic()
        self._wait_for(node, 1)
        story.good(
            f"it holds everything after {time.monotonic() - began:.1f} s, and serves it on at {node.address}"
        )
        return node

    def _boot(self, mirror: Node, keyid: str) -> None:
        self._story.step(
            "A machine that knows only the mirror fetches, and verifies against the publisher's key"
        )
        self._fetch(mirror, keyid, "rack-1")
        files = sorted(
            path.name for path in (self._directory / "rack-1").iterdir() if not path.name.startswith(".")
        )
        self._story.good(f"rack-1/ is ready for kexec: {', '.join(files)}")

    def _update(self, mirror: Node) -> None:
        story = self._story
        story.step("The publisher adds a signed kernel command line, and the mirror hears of it by gossip")
        shutil.copy(self._directory / "rack-1" / "manifest.json", self._directory / "old-manifest.json")
        (self._directory / "images" / "cmdline").write_text("console=ttyS0 quiet\n")
        self._run("publish", "--state", "publisher")
        began = time.monotonic()
        head = self._wait_for(mirror, 2)
        took_s = time.monotonic() - began
        story.good(f"{took_s:.1f} s later the mirror has manifest version {head['manifest_version']}")

    def _lose_publisher(self, publisher: Node, mirror: Node, keyid: str) -> None:
        story = self._story
        story.step("The publisher goes away, and nobody misses it")
        if publisher.stop(within_s=END_S) != 0:
            raise P2PBootError("the publisher did not end in order", remedy=f"see {publisher.log}")
        story.good("it ended in order")
        self._fetch(mirror, keyid, "rack-2")
        for source, name in ((self._inputs.kernel, "kernel"), (self._inputs.rootfs, "rootfs")):
            if not filecmp.cmp(source, self._directory / "rack-2" / name, shallow=False):
                raise P2PBootError(f"rack-2/{name} is not what the publisher has in {source}")
        story.good("rack-2/ has all of it from the mirror, byte for byte what the publisher has")

    def _repair(self, mirror: Node, keyid: str) -> None:
        story = self._story
        story.step("A bit flips on the first machine's disk")
        kernel = self._directory / "rack-1" / "kernel"
        whole = kernel.read_bytes()
        with kernel.open("r+b") as file:
            file.seek(len(whole) // 2)
            file.write(bytes([whole[len(whole) // 2] ^ 1]))
        self._fetch(mirror, keyid, "rack-1")
        if kernel.read_bytes() != whole:
            raise P2PBootError(f"{kernel} was not repaired")
        story.good("the same fetch noticed it, repaired the kernel, and brought the new command line along")

    def _attack(self, keyid: str) -> None:
        story = self._story
        story.step("Somebody tries to be clever")
        manifest = (self._directory / "rack-1" / "manifest.json").read_text()
        forged = manifest.replace("console=ttyS0", "init=/bin/sh ", 1)
        (self._directory / "forged-manifest.json").write_text(forged)
        story.tell("with a manifest whose kernel command line was changed:")
        self._refused("manifest", "verify", "forged-manifest.json", "--trust", keyid)
        story.tell("with yesterday's manifest, rightly signed, to a machine that has seen a newer one:")
        state = ("--state", "rack-1/.p2pboot")
        self._refused("manifest", "verify", "old-manifest.json", "--trust", keyid, *state)
        stranger = self._stranger()
        story.tell("to a machine that trusts somebody else:")
        self._refused("manifest", "verify", "rack-1/manifest.json", "--trust", stranger)

    def _boot_rack(self) -> None:
        story = self._story
        story.step(f"{_RACK} machines boot in the same second, from one publisher behind a slow link")
        keyid = str(self._json("key", "generate", "--key", "rack.toml")["keyid"])
        serve = ("serve", "images", *self._pair, "--key", "rack.toml", "--state", "rack")
        publisher = self._node("rack", *serve, "--max-upload", _RACK_UPLINK)
        self._wait_for(publisher, 1)
        image = sum(
            path.stat().st_size for path in (self._inputs.kernel, self._inputs.initramfs, self._inputs.rootfs)
        )
        before = _sent(publisher)
        began = time.monotonic()
        story.command(self._fetching(publisher, keyid, "machine-N"))
        with story.waiting("running"), ThreadPoolExecutor(_RACK) as pool:
            outputs = [f"machine-{number}" for number in range(1, _RACK + 1)]
            done = list(
                pool.map(lambda name: self._processes.run(*self._fetching(publisher, keyid, name)), outputs)
            )
        took_s = time.monotonic() - began
        for one in done:
            if one.status != 0:
                raise P2PBootError(f"a machine of the rack did not boot: {one.last_line}")
        for name in outputs:
            if not filecmp.cmp(self._inputs.rootfs, self._directory / name / "rootfs", shallow=False):
                raise P2PBootError(f"{name}/rootfs is not what the publisher has")
            shutil.rmtree(self._directory / name)
        copies = (_sent(publisher) - before) / image
        story.good(f"all of them have {_RACK} times {image / 1e6:.0f} MB, verified, after {took_s:.0f} s")
        story.good(
            f"and the publisher sent {copies:.2f} copies: what one machine gets, it passes on to the others"
        )

    def _stranger(self) -> str:
        return str(self._json("key", "generate", "--key", "stranger.toml")["keyid"])

    # What the steps are made of

    def _node(self, name: str, *arguments: str) -> Node:
        """Start a node with the state `name`."""
        self._story.command([*arguments, *_LOOPBACK])
        with self._story.waiting("starting"):
            return self._processes.node(
                [*PYTHON, *arguments, *_LOOPBACK],
                state=self._directory / name,
                log=self._directory / f"{name}.log",
            )

    def _fetch(self, mirror: Node, keyid: str, output: str) -> None:
        self._run(*self._fetching(mirror, keyid, output))

    def _fetching(self, node: Node, keyid: str, output: str) -> tuple[str, ...]:
        asked = ("--trust", keyid, "--bootstrap", node.address, "--no-mdns")
        return ("fetch", *self._pair, *asked, "-o", output)

    def _run(self, *arguments: str) -> None:
        """A command that must succeed, with what it prints."""
        self._story.command(arguments)
        with self._story.waiting("running"):
            done = self._processes.run(*arguments)
        if done.status != 0:
            raise P2PBootError(f"`p2pboot {arguments[0]}` failed: {done.last_line}")
        self._story.output(done.stdout)

    def _json(self, *arguments: str) -> Any:
        done = self._processes.run(*arguments, "--json")
        if done.status != 0:
            raise P2PBootError(f"`p2pboot {arguments[0]}` failed: {done.last_line}")
        return done.document

    def _refused(self, *arguments: str) -> None:
        """A command that must refuse."""
        self._story.command(arguments)
        done = self._processes.run(*arguments)
        if done.status != 1:
            raise P2PBootError(f"`p2pboot {arguments[0]}` did not refuse: {done.last_line}")
        self._story.output(done.last_line)
        self._story.good("refused, with exit status 1")

    def _wait_for(self, node: Node, version: int) -> dict[str, Any]:
        """Wait until a node holds a manifest version wholly; returns its entry of the status."""
        try:
            with self._story.waiting("waiting for the artifacts"):
                node.wait_for_head(version, CHANNEL, self._inputs.arch, within_s=MIRRORED_S)
        except TimeoutError:
            raise NotFoundError(
                f"the {node.state.name} did not have manifest version {version} within {MIRRORED_S:.0f} s",
                remedy=f"see {node.log}",
            ) from None
        return dict(node.status()["heads"][0])


def _sent(node: Node) -> int:
    """Bytes that a node has served so far."""
    return sum(node.status()["bytes_sent"].values())
