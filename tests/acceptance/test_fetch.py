"""What a boot client leaves behind, whatever the publishers do."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from p2pboot.testing.waiting import HANG_S
from tests.acceptance.conftest import Images, Key, make_key
from tests.acceptance.program import (
    AS_MUCH,
    LOOPBACK,
    Program,
    Running,
    assert_clear,
    assert_json_failure,
    wait_until,
    write_image,
)
from tests.mounts import run_with_mounts

PAIR = ("--channel", "stable", "--arch", "arm64")


def serve(program: Program, image: Path, key: Key, state: Path, *more: object) -> Running:
    args = ("--key", key.path, "--state", state, "--no-mdns", "--listen", LOOPBACK)
    node = program.start("serve", image, *PAIR, *args, *more)
    node.first_line()
    program.ok("publish", "--state", state)  # at once, without waiting for the directory to be quiet
    return node


def fetch_args(trust: Key, output: Path, *nodes: Running) -> list[object]:
    args: list[object] = [
        "fetch",
        *PAIR,
        "--trust",
        trust.keyid,
        "-o",
        output,
        "--no-mdns",
        "--timeout",
        HANG_S,
    ]
    for node in nodes:
        args += ["--bootstrap", node.first_line()]
    return args


def fetch(
    program: Program, trust: Key, output: Path, *nodes: Running, more: tuple[object, ...] = (), **how: Any
) -> Any:
    return program.ok(*fetch_args(trust, output, *nodes), *more, "--json", **how).document


def names(directory: Path) -> set[str]:
    """All files below a directory but the client's own."""
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(".p2pboot/")}


SMALL = {"manifest.json", "manifest.json.sig"}


def test_life_of_an_output_directory(program: Program, alice: Key, tmp_path: Path) -> None:
    """Exactly the set of the manifest; again; damaged; another version with fewer artifacts; not back."""
    image = write_image(tmp_path / "image", dtbs=("board",))
    (image / "cmdline").write_text("console=ttyS0 quiet\n")
    node = serve(program, image, alice, tmp_path / "state")
    output = tmp_path / "out"
    first = fetch(program, alice, output, node)
    assert names(output) == {"kernel", "initramfs", "rootfs", "cmdline", "dtbs/board.dtb"} | SMALL
    for key, source in (("kernel", "vmlinuz-6.1"), ("dtbs/board.dtb", "board.dtb")):
        assert (output / key).read_bytes() == (image / source).read_bytes()
    assert (output / "cmdline").read_text() == "console=ttyS0 quiet\n"
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in output.rglob("*") if path.name in names(output)
    }
    assert set(modes.values()) == {0o644}, modes
    assert output.stat().st_mode & 0o777 == 0o755
    assert (output / ".p2pboot").stat().st_mode & 0o077 == 0
    assert first["downloaded_bytes"] == 150_000 + 70_000 + 300_001 + 4_000
    verify = ("manifest", "verify", output / "manifest.json", "--trust", alice.keyid, "--json")
    assert program.ok(*verify).document["ok"] is True

    second = fetch(program, alice, output, node)
    assert (second["downloaded_bytes"], second["unchanged"]) == (0, True)

    (output / "kernel").unlink()
    (output / "kernel").write_bytes(b"x" * 150_000)
    (output / "initramfs").unlink()
    (output / "mine").write_text("not p2pboot's")
    fetch(program, alice, output, node)
    assert (output / "kernel").read_bytes() == (image / "vmlinuz-6.1").read_bytes()
    assert names(output) == {"kernel", "initramfs", "rootfs", "cmdline", "dtbs/board.dtb", "mine"} | SMALL

    for name in ("board.dtb", "cmdline", "rootfs.squashfs"):
        (image / name).unlink()
    (image / "vmlinuz-6.1").write_bytes(b"new kernel")
    said = program.ok("publish", image, "--state", tmp_path / "state", "--json").document
    assert [entry["manifest_version"] for entry in said["published"]] == [2]
    third = fetch(program, alice, output, node)
    assert names(output) == {"kernel", "initramfs", "mine"} | SMALL
    assert third["downloaded_bytes"] == len(b"new kernel")

    one = tmp_path / "one"
    fetch(program, alice, one, node, more=("--artifact", "kernel"))
    assert names(one) == {"kernel"} | SMALL
    args = fetch_args(alice, tmp_path / "none", node)
    program.refuses(2, "nonsense", args=(*args, "--artifact", "nonsense"))
    assert names(tmp_path / "none") == set()
    done = program.refuses(1, "3", args=(*fetch_args(alice, tmp_path / "min", node), "--min-version", "3"))
    assert names(tmp_path / "min") == set()
    assert done.stdout == b""


def serve_signed_by(program: Program, signer: Key, image: Path, directory: Path, version: str) -> Running:
    """A node with a key of its own that serves what another key signs, from a number on."""
    directory.mkdir()
    node = make_key(program, directory / "node.toml")
    state = directory / "state"
    build = (
        "manifest",
        "build",
        image,
        *PAIR,
        "--key",
        node.path,
        "--signing-key",
        signer.path,
        "--state",
        state,
    )
    program.ok(*build, "--manifest-version", version, "-o", directory / "m.json")
    return serve(program, image, node, state, "--signing-key", signer.path)


def test_older_version_is_refused_by_who_saw_a_newer_one(
    program: Program, alice: Key, images: Images, tmp_path: Path
) -> None:
    newer = serve_signed_by(program, alice, images.one, tmp_path / "newer", "5")
    older = serve_signed_by(program, alice, images.two, tmp_path / "older", "3")
    output = tmp_path / "out"
    document = fetch(program, alice, output, older, newer, hears_all=True)
    assert document["verdict"]["manifest"]["manifest_version"] == 5
    before = (output / "manifest.json").read_bytes()
    done = program.run(*fetch_args(alice, output, older), "--json")
    document = assert_json_failure(done, 1)
    assert document["reason"] == "rollback"
    assert (output / "manifest.json").read_bytes() == before
    assert "3" in document["error"]
    assert "5" in document["error"]


def test_publisher_that_signs_two_of_one_number(
    program: Program, alice: Key, images: Images, tmp_path: Path
) -> None:
    nodes = [
        serve_signed_by(program, alice, image, tmp_path / name, "2")
        for name, image in (("one", images.one), ("two", images.two))
    ]
    output = tmp_path / "out"
    done = program.run(*fetch_args(alice, output, *nodes), "--json", hears_all=True)
    document = assert_json_failure(done, 1)
    assert document["reason"] == "equivocation"
    digests = [
        program.ok("status", "--state", tmp_path / name / "state", "--json").document["heads"][0]["digest"]
        for name in ("one", "two")
    ]
    for digest in digests:
        assert digest in document["error"]
    assert names(output) == set()
    again = program.run(*fetch_args(alice, output, nodes[0]), "--json")  # the evidence is remembered
    assert again.status == 1


def test_two_servers_with_one_key_are_both_heard(
    program: Program, alice: Key, images: Images, tmp_path: Path
) -> None:
    """Whichever of them answers first: a client without memory sees what each of them offers."""
    one = serve(program, images.one, alice, tmp_path / "one")
    image = write_image(tmp_path / "image", seed="two")
    two = serve(program, image, alice, tmp_path / "two")
    digests = [
        program.ok("status", "--state", tmp_path / name, "--json").document["heads"][0]["digest"]
        for name in ("one", "two")
    ]
    for number, nodes in enumerate(((one, two), (two, one))):
        args = tuple(fetch_args(alice, tmp_path / f"refused{number}", *nodes))
        program.refuses(1, *digests, args=args, hears_all=True)
        assert names(tmp_path / f"refused{number}") == set()

    (image / "rootfs.squashfs").write_bytes(b"new rootfs")
    said = program.ok("publish", "--state", tmp_path / "two", "--json").document
    assert [entry["manifest_version"] for entry in said["published"]] == [2]
    for number, nodes in enumerate(((one, two), (two, one))):
        output = tmp_path / f"newer{number}"
        document = fetch(program, alice, output, *nodes, hears_all=True)
        assert document["verdict"]["manifest"]["manifest_version"] == 2
        assert (output / "rootfs").read_bytes() == b"new rootfs"
    addresses = [part for node in (one, two) for part in ("--bootstrap", node.first_line())]
    seen = str(program.ok("discover", *addresses, "--no-mdns", "--json").document)
    for name in ("one", "two"):
        said = program.ok("status", "--state", tmp_path / name, "--json").document
        assert said["heads"][0]["digest"] in seen


def test_expired_manifest_is_refused(program: Program, alice: Key, images: Images, tmp_path: Path) -> None:
    node = serve(program, images.one, alice, tmp_path / "s", "--expires-in", "1h")
    args = (*fetch_args(alice, tmp_path / "out", node), "--json")
    document = assert_json_failure(program.run(*args, clock_s=7_200), 1)
    assert document["reason"] == "expired"
    assert names(tmp_path / "out") == set()
    assert program.ok(*args).document["ok"] is True


def test_two_fetches_at_once_into_one_directory(
    program: Program, alice: Key, images: Images, tmp_path: Path
) -> None:
    image = images.large
    node = serve(program, image, alice, tmp_path / "state")
    output = tmp_path / "out"
    ended = [one.wait() for one in [program.start(*fetch_args(alice, output, node)) for _ in range(3)]]
    assert 0 in {done.status for done in ended}
    for done in ended:
        assert done.status in (0, 4), done
        if done.status:
            assert_clear(done, str(output))
    assert names(output) == {"kernel", "initramfs", "rootfs"} | SMALL
    assert (output / "rootfs").read_bytes() == (image / "rootfs.squashfs").read_bytes()


def test_timeout_is_honoured(program: Program, alice: Key, tmp_path: Path) -> None:
    with socket.socket() as mute:  # accepts, and says nothing
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"/ip4/127.0.0.1/tcp/{mute.getsockname()[1]}"
        args = ("fetch", *PAIR, "--trust", alice.keyid, "--no-mdns", "--bootstrap", address, "--json")
        patient = program.start(*args, "-o", tmp_path / "patient", "--timeout", HANG_S)
        done = program.run(*args, "-o", tmp_path / "out", "--timeout", "1")
        assert_json_failure(done, 3)
        assert patient.poll() is None
        discovered = program.run("discover", "--bootstrap", address, "--no-mdns", "--timeout", "1", "--json")
        assert_json_failure(discovered, 3)
    nobody = ("--trust", alice.keyid, "-o", tmp_path / "out", "--no-mdns")
    program.refuses(3, "--bootstrap", args=("fetch", *PAIR, *nobody))


def test_fetch_that_is_ended_goes_on_later(
    program: Program, alice: Key, images: Images, tmp_path: Path
) -> None:
    image = images.large
    node = serve(program, image, alice, tmp_path / "state", "--max-upload", "3MB/s")
    output = tmp_path / "out"
    running = program.start(*fetch_args(alice, output, node))

    def sent() -> int:
        said = program.ok("status", "--state", tmp_path / "state", "--json").document
        return sum(said["bytes_sent"].values())

    wait_until(lambda: sent() > 5_000_000 or running.poll() is not None, "half of it")
    running.signal(signal.SIGTERM)
    done = running.wait()
    assert done.status == 130, done
    assert "Traceback" not in done.stderr
    assert names(output) == set()
    node.signal(signal.SIGKILL)
    node.wait()
    fast = serve(program, image, alice, tmp_path / "state")
    rest = fetch(program, alice, output, fast)
    assert rest["resumed_bytes"] > 0
    assert rest["resumed_bytes"] + rest["downloaded_bytes"] >= 8 << 20
    assert (output / "rootfs").read_bytes() == (image / "rootfs.squashfs").read_bytes()


def test_manifest_of_two_signers_is_served_and_fetched(
    program: Program, alice: Key, bob: Key, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "image")
    path = image / "manifest.json"
    signers = ("--unsigned", "--signer", bob.keyid, alice.keyid)
    program.ok(
        "manifest", "build", image, *PAIR, *signers, "--state", tmp_path / "b", "-o", tmp_path / "m.json"
    )
    for key in (alice, bob):
        program.ok("manifest", "sign", tmp_path / "m.json", "--key", key.path, "--detached")
    for name in ("m.json", "m.json.sig"):
        (image / name.replace("m.json", "manifest.json")).write_bytes((tmp_path / name).read_bytes())
    program.ok("key", "generate", "--key", tmp_path / "serving.toml")
    node = serve(program, image, Key(tmp_path / "serving.toml", "", ""), tmp_path / "state")
    output = tmp_path / "out"
    more = ("--trust", bob.keyid, "--threshold", "2")
    document = fetch(program, alice, output, node, more=more)
    assert document["ok"] is True
    assert (output / "manifest.json").read_bytes() == path.read_bytes()
    assert (output / "manifest.json.sig").read_bytes().strip() == (
        tmp_path / "m.json.sig"
    ).read_bytes().strip()
    assert names(output) == {"kernel", "initramfs", "rootfs"} | SMALL


def test_output_directory_that_can_not_be_used(
    program: Program, alice: Key, images: Images, tmp_path: Path
) -> None:
    node = serve(program, images.one, alice, tmp_path / "state")
    blocked = tmp_path / "file"
    blocked.write_bytes(b"x")
    done = program.run(*fetch_args(alice, blocked, node))
    assert done.status in (2, 4), done
    assert_clear(done, str(blocked))
    full = tmp_path / "full"
    limited = program.run(*fetch_args(alice, full, node), fsize=100_000)
    assert limited.status == 4, limited
    assert_clear(limited)
    assert "kernel" not in names(full)
    fetch(program, alice, full, node)
    os.truncate(full / "kernel", 0)
    fetch(program, alice, full, node)
    assert (full / "kernel").stat().st_size == 150_000


def test_holes_stay_holes_on_another_file_system(program: Program, alice: Key, tmp_path: Path) -> None:
    """Images of which most is free space, to where only their content fits: from the publisher, and a mirror."""
    image = write_image(tmp_path / "image", rootfs=3 << 20)
    os.truncate(image / "rootfs.squashfs", 300 << 20)
    (image / "empty.img").write_bytes(bytes(5 << 20))
    publisher = serve(program, image, alice, tmp_path / "publisher")
    where = ("--key", tmp_path / "m.toml", "--state", tmp_path / "mirror", "--no-mdns", "--listen", LOOPBACK)
    follow = ("--trust", alice.keyid, "--bootstrap", publisher.first_line())
    mirror = program.start("mirror", *PAIR, *follow, *where, *AS_MUCH)
    mirror.first_line()
    blobs = tmp_path / "mirror" / "blobs"
    held = ("status", "--state", tmp_path / "mirror", "--json")
    wait_until(lambda: bool(program.ok(*held).document["heads"]), "the mirror has it")
    (rootfs,) = [path for path in blobs.rglob("*") if path.stat().st_size == 300 << 20]
    assert rootfs.stat().st_blocks * 512 <= 3 << 20
    for name, node in (("from the publisher", publisher), ("from the mirror", mirror)):
        output, said = tmp_path / name, tmp_path / f"{name}.json"
        output.mkdir()
        more = ("--state", tmp_path / f"{name}.state", "--json")
        command = [sys.executable, "-m", "p2pboot", *fetch_args(alice, output / "boot", node), *more]
        script = f"""
            set -e
            mount -t tmpfs -o size=8m tmpfs '{output}'
            {shlex.join(map(str, command))} > '{said}'
            cmp '{output}/boot/rootfs' {image}/rootfs.squashfs
            cmp '{output}/boot/empty' {image}/empty.img
        """
        done = run_with_mounts(script)
        assert done.returncode == 0, done
        assert json.loads(said.read_text())["downloaded_bytes"] < 4 << 20


def test_fetch_onto_a_full_disk(program: Program, alice: Key, images: Images, tmp_path: Path) -> None:
    """The client that comes again when there is room finds nothing in its way."""
    node = serve(program, images.large, alice, tmp_path / "state")
    output = tmp_path / "out"
    output.mkdir()
    command = [sys.executable, "-m", "p2pboot", *map(str, fetch_args(alice, output / "boot", node))]
    script = f"""
        mount -t tmpfs -o size=4m tmpfs {output} || exit 99
        {shlex.join(command)}
        echo "status $?"
        ls {output}/boot
        mount -o remount,size=40m {output}
        {shlex.join(command)} > /dev/null
        echo "status $?"
        cmp {output}/boot/rootfs {images.large}/rootfs.squashfs && echo same
    """
    done = run_with_mounts(script)
    errors = [line for line in done.stderr.splitlines() if line.startswith("p2pboot: error")]
    assert len(errors) == 1, done
    assert "disk full" in errors[0]
    assert "free some space" in errors[0]
    assert done.stdout.splitlines() == ["status 4", "status 0", "same"], done
