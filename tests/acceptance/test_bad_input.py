"""Bad input of every kind, through the commands: one clear line, the right status, nothing half-written."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.acceptance.conftest import Key
from tests.acceptance.program import (
    LOOPBACK,
    Finished,
    Program,
    assert_clear,
    assert_json_failure,
    snapshot,
    write_image,
)
from tests.mounts import run_with_mounts


def build_args(directory: Path, key: Key, state: Path, *more: object) -> tuple[object, ...]:
    where = ("--channel", "stable", "--arch", "arm64")
    return ("manifest", "build", directory, *where, "--key", key.path, "--state", state, *more)


# -- the artifacts directory ---------------------------------------------------------------------------------------


def _no_kernel(image: Path) -> None:
    (image / "vmlinuz-6.1").unlink()


def _no_initramfs(image: Path) -> None:
    (image / "initrd.img").unlink()


def _two_kernels(image: Path) -> None:
    (image / "bzImage").write_bytes(b"x")


def _two_with_one_stem(image: Path) -> None:
    (image / "modules.img").write_bytes(b"x")
    (image / "modules.squashfs").write_bytes(b"x")


def _empty(image: Path) -> None:
    (image / "rootfs.squashfs").write_bytes(b"")


def _leaving_symlink(image: Path) -> None:
    outside = image.parent / "outside"
    outside.write_bytes(b"secret")
    (image / "initrd.img").unlink()
    (image / "initrd.img").symlink_to(outside)


def _dangling_symlink(image: Path) -> None:
    (image / "initrd.img").unlink()
    (image / "initrd.img").symlink_to("nothing")


def _fifo(image: Path) -> None:
    (image / "rootfs.squashfs").unlink()
    os.mkfifo(image / "rootfs.squashfs")


def _directory_for_file(image: Path) -> None:
    (image / "extra").mkdir()


def _bad_name(image: Path) -> None:
    (image / "Überraschung.bin").write_bytes(b"x")


def _many_artifacts(image: Path) -> None:
    for number in range(200):
        (image / f"module-{number:03}").write_bytes(b"module %d" % number)


def _half_an_upload(image: Path) -> None:
    (image / "initrd.img").rename(image / "initrd.img.filepart")


def _unknown_form(image: Path) -> None:
    (image / "rootfs.squashfs").rename(image / "rootfs.squashfs.half")


def _bad_choice(image: Path) -> None:
    (image / "artifacts.toml").write_text('kernel = "vmlinuz-9"\n')


def _wrong_dtbs(image: Path) -> None:
    (image / "dtbs").mkdir()
    (image / "dtbs" / "notes.txt").write_bytes(b"x")


BAD_DIRECTORIES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "no kernel": (_no_kernel, ("no kernel", "vmlinuz", "put the kernel")),
    "no initramfs": (_no_initramfs, ("no initramfs", "initrd")),
    "two kernels": (_two_kernels, ("bzImage", "vmlinuz-6.1", "keep one")),
    "two files of one stem": (_two_with_one_stem, ("modules.img", "modules.squashfs")),
    "empty artifact": (_empty, ("rootfs.squashfs", "empty")),
    "symlink that leaves": (_leaving_symlink, ("initrd.img", "outside")),
    "dangling symlink": (_dangling_symlink, ("initrd.img", "nothing")),
    "FIFO": (_fifo, ("rootfs.squashfs", "FIFO")),
    "directory": (_directory_for_file, ("extra", "directory")),
    "name that is none": (_bad_name, ("rename",)),
    "too many artifacts": (_many_artifacts, ("artifacts", "65536")),
    "half an upload": (_half_an_upload, ("no initramfs", "initrd.img.filepart", "unfinished")),
    "name that only begins like one": (_unknown_form, ("rootfs.squashfs.half", "artifacts.toml")),
    "choice of what is not there": (_bad_choice, ("artifacts.toml", "vmlinuz-9", "vmlinuz-6.1")),
    "no device tree in dtbs": (_wrong_dtbs, ("notes.txt", "device tree")),
}


@pytest.mark.parametrize("what", BAD_DIRECTORIES)
def test_directory_that_can_not_be_published(program: Program, alice: Key, tmp_path: Path, what: str) -> None:
    spoil, words = BAD_DIRECTORIES[what]
    image = write_image(tmp_path / "image")
    spoil(image)
    output = tmp_path / "manifest.json"
    output.write_bytes(b"the one before")
    args = build_args(image, alice, tmp_path / "state", "-o", output)
    done = program.run(*args, "--json")  # standard error has the same line with and without
    assert_json_failure(done, 2)
    assert_clear(done, *words)
    assert output.read_bytes() == b"the one before"
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".tmp", ".part")]


@pytest.mark.parametrize("command", ["build", "serve"])
def test_missing_directory(program: Program, alice: Key, tmp_path: Path, command: str) -> None:
    missing = tmp_path / "nowhere"
    where = ("--channel", "stable", "--arch", "arm64", "--key", alice.path, "--state", tmp_path / "state")
    args = ("manifest", "build") if command == "build" else ("serve", "--listen", LOOPBACK, "--no-mdns")
    program.refuses(2, str(missing), args=(*args, missing, *where))
    file = tmp_path / "file"
    file.write_bytes(b"x")
    program.refuses(2, str(file), args=(*args, file, *where))


@pytest.mark.parametrize("what", ["directory", "file", "state", "output"])
def test_no_permission(program: Program, alice: Key, tmp_path: Path, what: str) -> None:
    """What is locked is named, status 4; root gives up the rights that would let it pass."""
    image = write_image(tmp_path / "image")
    state, output = tmp_path / "state", tmp_path / "out"
    state.mkdir()
    output.mkdir()
    locked = {"directory": image, "file": image / "vmlinuz-6.1", "state": state, "output": output}[what]
    mode = locked.stat().st_mode
    locked.chmod(0o000)
    args = build_args(image, alice, state, "-o", output / "m.json")
    done = program.run(*args, "--json", permissions_apply=True)
    locked.chmod(mode)
    assert_json_failure(done, 4)
    assert_clear(done, str(locked), "ermission")
    assert list(output.iterdir()) == []
    program.ok(*args, permissions_apply=True)  # it was the lock, and nothing else


# -- key files -----------------------------------------------------------------------------------------------------

SEED = "01" * 32
PUBLIC = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
BAD_KEYS: dict[str, tuple[bytes, str]] = {
    "too short": (b'secret_key = "%s"' % (b"01" * 31), "secret_key"),
    "too long": (b'secret_key = "%s"' % (b"01" * 33), "secret_key"),
    "bad hex": (b'secret_key = "%s"' % (b"zz" * 32), "secret_key"),
    "a number": (b"secret_key = 1", "secret_key"),
    "public key of another": (
        b'secret_key = "%s"\npublic_key = "%s"' % (SEED.encode(), b"02" * 32),
        "public_key",
    ),
    "public key with bad hex": (b'secret_key = "%s"\npublic_key = "q"' % SEED.encode(), "public_key"),
    "no secret": (b'public_key = "%s"' % PUBLIC.encode(), "secret_key"),
    "no TOML": (b"\x00\xff" * 16, "key"),
    "empty": (b"", "secret_key"),
    "huge": (b"#" * 1_000_000, "large"),
}


@pytest.mark.parametrize("what", BAD_KEYS)
def test_key_file_that_is_none(program: Program, tmp_path: Path, what: str) -> None:
    raw, word = BAD_KEYS[what]
    path = tmp_path / "node.toml"
    path.write_bytes(raw)
    path.chmod(0o600)
    done = program.run("key", "show", "--key", path, "--json")
    assert_json_failure(done, 2)
    assert_clear(done, str(path), word)
    assert SEED not in done.stderr
    assert path.read_bytes() == raw


def test_key_file_that_is_missing_and_one_that_others_may_read(
    program: Program, alice: Key, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.toml"
    program.refuses(2, str(missing), "key generate", args=("key", "show", "--key", missing))
    program.refuses(
        2,
        str(missing),
        args=build_args(write_image(tmp_path / "i"), Key(missing, "", ""), tmp_path / "state"),
    )
    copy = tmp_path / "copy.toml"
    copy.write_bytes(alice.path.read_bytes())
    copy.chmod(0o644)
    done = program.ok("key", "show", "--key", copy)
    assert "warning" in done.stderr
    assert f"chmod 600 {copy}" in done.stderr
    assert copy.stat().st_mode & 0o777 == 0o644  # whose file it is decides
    program.refuses(2, str(copy), "exists", args=("key", "generate", "--key", copy))
    assert copy.read_bytes() == alice.path.read_bytes()


def test_serve_needs_the_key_file_it_was_given_to_be_one(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('secret_key = "12"')
    image = write_image(tmp_path / "image")
    args = ("serve", image, "--channel", "c", "--arch", "arm64", "--key", path, "--state", tmp_path / "s")
    program.refuses(2, str(path), args=(*args, "--no-mdns", "--listen", LOOPBACK))
    assert path.read_text() == 'secret_key = "12"'


# -- manifests -----------------------------------------------------------------------------------------------------


def sign_document(body: dict[str, Any], seed: bytes = bytes.fromhex(SEED)) -> bytes:
    """What another implementation makes of a manifest's body."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    keyid = f"ed25519:{key.public_key().public_bytes_raw().hex()}"
    data = rfc8785.dumps({**body, "signers": [keyid]})
    signature = key.sign(hashlib.sha256(data).digest())
    return rfc8785.dumps(
        {
            **body,
            "signers": [keyid],
            "signed": {"data": base64.b64encode(data).decode()},
            "signatures": [{"keyid": keyid, "sig": base64.b64encode(signature).decode()}],
        }
    )


def good_body(**changes: Any) -> dict[str, Any]:
    def artifact(name: str) -> dict[str, Any]:
        digest = hashlib.sha256(name.encode())
        cid = base64.b32encode(b"\x01\x55\x12\x20" + digest.digest()).decode().lower().rstrip("=")
        return {
            "hash": f"sha256:{digest.hexdigest()}",
            "size": len(name),
            "path": f"/stable/arm64/{name}",
            "urls": [],
            "pieces": {"length": 1 << 20, "hash": "blake3:" + "0" * 64},
            "cid": f"b{cid}",
        }

    def at(offset_s: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + offset_s))

    return {
        "spec": "p2pboot-manifest/1",
        "version": "1",
        "manifest_version": 7,
        "channel": "stable",
        "arch": "arm64",
        "created_at": at(-60),
        "expires_at": at(86_400),
        "artifacts": {"kernel": artifact("kernel"), "initramfs": artifact("initramfs")},
        "provider": {"peer_id": "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5", "name": "n"},
        **changes,
    }


def at(offset_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + offset_s))


def _swapped(raw: bytes) -> bytes:
    document = json.loads(raw)
    return json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode()


GOOD = sign_document(good_body())
TRUST = f"ed25519:{PUBLIC}"
BAD_MANIFESTS: dict[str, tuple[bytes, str, tuple[str, ...]]] = {
    "empty": (b"", "malformed", ()),
    "truncated": (GOOD[:-100], "malformed", ()),
    "re-ordered": (_swapped(GOOD), "malformed", ()),
    "duplicate keys": (GOOD.replace(b'{"arch":', b'{"arch":"arm64","arch":', 1), "malformed", ()),
    "trailing bytes": (GOOD + b"{}", "malformed", ()),
    "trailing newline": (GOOD + b"\n", "malformed", ()),
    "white space": (GOOD.replace(b",", b", "), "malformed", ()),
    "changed field": (GOOD.replace(b'"manifest_version":7', b'"manifest_version":8'), "malformed", ()),
    "changed signature": (
        GOOD.replace(b'"sig":"', b'"sig":"AAAA', 1).replace(b'AAAA"', b'"', 1),
        "",
        (),
    ),
    "too large": (b" " * 70_000, "malformed", ()),
    "deep": (b"[" * 60_000, "malformed", ()),
    "expired": (
        sign_document(good_body(created_at="2025-01-01T00:00:00Z", expires_at="2025-02-01T00:00:00Z")),
        "expired",
        (),
    ),
    "not yet valid": (sign_document(good_body(created_at=at(40_000))), "not_yet_valid", ()),
    "wrong channel": (GOOD, "channel", ("--channel", "testing")),
    "wrong arch": (GOOD, "arch", ("--arch", "x86_64")),
    "unknown signer": (sign_document(good_body(), b"\x02" * 32), "untrusted", ()),
    "below the minimum": (GOOD, "min_version", ("--min-version", "8")),
    "no kernel": (sign_document(good_body(artifacts={})), "malformed", ()),
    "a float": (GOOD.replace(b'"size":6', b'"size":6.0'), "malformed", ()),
}


@pytest.mark.parametrize("what", BAD_MANIFESTS)
def test_manifest_that_is_refused(program: Program, tmp_path: Path, what: str) -> None:
    raw, reason, more = BAD_MANIFESTS[what]
    path = tmp_path / "m.json"
    path.write_bytes(raw)
    args = ("manifest", "verify", path, "--trust", TRUST, *more, "--state", tmp_path / "state")
    done = program.run(*args, "--json")
    assert_clear(done)
    document = assert_json_failure(done, 1)
    assert reason in ("", document["reason"])
    assert [check["outcome"] for check in document["checks"]].count("failed") >= 1
    good = tmp_path / "good.json"
    good.write_bytes(GOOD)  # what was refused left nothing in the memory
    program.ok("manifest", "verify", good, "--trust", TRUST, "--state", tmp_path / "state")


def test_lower_version_and_second_one_of_the_same_are_refused_with_state(
    program: Program, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    path = tmp_path / "m.json"

    def verify(raw: bytes) -> Finished:
        path.write_bytes(raw)
        return program.run("manifest", "verify", path, "--trust", TRUST, "--state", state, "--json")

    assert verify(GOOD).document["ok"] is True
    assert verify(GOOD).document["ok"] is True
    older = assert_json_failure(verify(sign_document(good_body(manifest_version=6))), 1)
    assert older["reason"] == "rollback"
    assert "7" in older["error"]
    twin = verify(sign_document(good_body(version="other")))
    assert assert_json_failure(twin, 1)["reason"] == "equivocation"
    assert verify(GOOD).document["ok"] is True
    assert verify(sign_document(good_body(manifest_version=8))).document["ok"] is True
    assert verify(GOOD).document["reason"] == "rollback"


def test_verdict_says_why_to_people_and_every_check_to_programs(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(GOOD)
    shown = program.ok("manifest", "verify", path, "--trust", TRUST)
    assert b"accepted" in shown.stdout
    document = program.ok("manifest", "verify", path, "--trust", TRUST, "--json").document
    assert document["ok"] is True
    assert {check["name"] for check in document["checks"]} >= {"structure", "signatures", "trust", "expiry"}
    (tmp_path / "m.json.sig").write_text("AAAA")
    done = program.run("manifest", "verify", path, "--trust", TRUST, "--json")
    assert assert_json_failure(done, 1)["reason"] == "detached"


@pytest.mark.parametrize("command", ["verify", "show", "sign"])
def test_manifest_file_that_is_missing(program: Program, alice: Key, tmp_path: Path, command: str) -> None:
    more: tuple[object, ...] = {"verify": ("--trust", TRUST), "show": (), "sign": ("--key", alice.path)}[
        command
    ]
    path = tmp_path / "m.json"
    program.refuses(2, str(path), args=("manifest", command, path, *more))
    program.refuses(2, str(tmp_path), args=("manifest", command, tmp_path, *more))


# -- trust, addresses, configuration -------------------------------------------------------------------------------

NO_TRUST: dict[str, tuple[object, ...]] = {
    "verify": ("manifest", "verify", "m.json"),
    "mirror": ("mirror", "--channel", "c", "--arch", "arm64", "--no-mdns", "--listen", LOOPBACK),
    "fetch": ("fetch", "--channel", "c", "--arch", "arm64", "-o", "out", "--bootstrap", LOOPBACK[:-1] + "9"),
}


@pytest.mark.parametrize("command", NO_TRUST)
def test_no_trust_is_wrong_usage(program: Program, tmp_path: Path, command: str) -> None:
    (tmp_path / "m.json").write_bytes(GOOD)
    done = program.refuses(2, "trust", "--trust", args=NO_TRUST[command], cwd=tmp_path)
    assert done.stdout == b""
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_bad_key_ids_and_thresholds(program: Program, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(GOOD)
    for trust in ("ed25519:12", "nonsense", "12D3KooWxyz"):
        program.refuses(2, "--trust", args=("manifest", "verify", "m.json", "--trust", trust), cwd=tmp_path)
    nobody = "ed25519:" + "0" * 64  # a key id, though not one that anything could be signed with
    program.refuses(1, "trust", args=("manifest", "verify", "m.json", "--trust", nobody), cwd=tmp_path)
    for threshold in ("0", "2", "-1"):
        args = ("manifest", "verify", "m.json", "--trust", TRUST, "--threshold", threshold)
        program.refuses(2, "threshold", args=args, cwd=tmp_path)


@pytest.mark.parametrize(
    "address", ["nonsense", "/ip4/300.1.1.1/tcp/1", "/ip4/127.0.0.1", "/ip4/1.2.3.4/tcp/x", ""]
)
def test_multiaddr_that_can_not_be_parsed(program: Program, alice: Key, tmp_path: Path, address: str) -> None:
    image = write_image(tmp_path / "image")
    serve = (
        "serve",
        image,
        "--channel",
        "c",
        "--arch",
        "arm64",
        "--key",
        alice.path,
        "--state",
        tmp_path / "s",
    )
    program.refuses(2, "--listen", address, args=(*serve, "--no-mdns", "--listen", address))
    fetch = ("fetch", "--channel", "c", "--arch", "arm64", "--trust", TRUST, "-o", tmp_path / "out")
    done = program.run(*fetch, "--bootstrap", address, "--no-mdns", "--json")
    assert "--bootstrap" in assert_json_failure(done, 2)["error"]
    assert not (tmp_path / "out").exists()
    discover = program.run("discover", "--bootstrap", address, "--no-mdns", "--json")
    assert_json_failure(discover, 2)


def test_port_in_use(program: Program, alice: Key, tmp_path: Path) -> None:
    image = write_image(tmp_path / "image")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        args = ("serve", image, "--channel", "c", "--arch", "arm64", "--key", alice.path)
        done = program.refuses(
            4,
            str(port),
            args=(*args, "--state", tmp_path / "s", "--no-mdns", "--listen", f"/ip4/127.0.0.1/tcp/{port}"),
        )
        assert done.stdout == b""


def test_wrong_usage(program: Program, tmp_path: Path) -> None:
    cases: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("manifest", ("manifst", "build")),
        ("fetch", ("fech",)),
        ("--channel", ("fetch", "--trust", TRUST, "-o", "out")),
        ("--output", ("fetch", "--channel", "c", "--arch", "arm64", "--trust", TRUST)),
        ("--nonsense", ("serve", ".", "--nonsense")),
        ("arch", ("fetch", "--channel", "c", "--arch", "sparc", "--trust", TRUST, "-o", "out")),
        ("channel", ("fetch", "--channel", "Big!", "--arch", "arm64", "--trust", TRUST, "-o", "out")),
        ("timeout", ("fetch", "--channel", "c", "--arch", "arm64", "-o", "out", "--timeout", "-1")),
        ("DIR", ("serve",)),
    )
    for word, args in cases:
        program.refuses(2, word, args=args, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


BAD_CONFIGS = {
    '[network]\nbootstrp = ["/ip4/127.0.0.1/tcp/1"]': ("bootstrp", "bootstrap"),
    "[netwrok]\nmdns = true": ("netwrok", "network"),
    f'[[trust]]\nkeys = ["{TRUST}"]\ntreshold = 1': ("treshold", "threshold"),
    "[network]\nmdns = 1": ("network.mdns", "true or false"),
    '[network]\nmdns = "yes"': ("network.mdns", "true or false"),
    '[network]\nlisten = "/ip4/127.0.0.1/tcp/1"': ("network.listen", "list"),
    "[network]\nlisten = [1]": ("network.listen",),
    '[network]\nlisten = ["nonsense"]': ("network.listen", "nonsense"),
    '[network]\nmax_upload = "fast"': ("network.max_upload", "fast"),
    "[network]\nmax_upload = 1.5": ("network.max_upload",),
    "[provider]\nname = 1": ("provider.name", "string"),
    "[provider]\nexpires_in = 2020-01-01": ("provider.expires_in",),
    '[provider]\nexpires_in = "soon"': ("provider.expires_in", "soon"),
    '[provider]\narch = "sparc"': ("provider.arch", "sparc"),
    "[store]\nquota = true": ("store.quota",),
    "[identity]\nkey_path = []": ("identity.key_path",),
    "trust = 1": ("trust",),
    "[[trust]]\nthreshold = 1": ("keys",),
    f'[[trust]]\nkeys = ["{TRUST}"]\nthreshold = 2': ("threshold",),
    '[[trust]]\nkeys = ["nonsense"]': ("keys", "nonsense"),
    "network = 1": ("network",),
    "[network\n": ("TOML",),
    "\x00": ("TOML",),
}


@pytest.mark.parametrize("text", BAD_CONFIGS)
def test_configuration_file_that_is_wrong(program: Program, tmp_path: Path, text: str) -> None:
    path = tmp_path / "p2pboot.toml"
    path.write_text(text)
    done = program.run("config", "show", "--config", path, "--json")
    document = assert_json_failure(done, 2)
    assert str(path) in document["error"]
    for word in BAD_CONFIGS[text]:
        assert word in done.complaint, done


# -- a full disk ---------------------------------------------------------------------------------------------------


def test_full_disk(program: Program, alice: Key, tmp_path: Path) -> None:
    """On a file system of 64 KiB that is nearly full: the message says so, and what was there is still there."""
    image = write_image(tmp_path / "image")
    manifest = program.ok(*build_args(image, alice, tmp_path / "good")).stdout
    small = tmp_path / "small"
    small.mkdir()
    script = f"""
        set -e
        mount -t tmpfs -o size=64k tmpfs {small}
        echo before > {small}/manifest.json
        head -c 61000 /dev/zero > {small}/filler || true
        p() {{ {sys.executable} -m p2pboot "$@" || echo "status $?"; }}
        build="manifest build {image} --channel c --arch arm64 --key {alice.path}"
        p $build --state {tmp_path}/s -o {small}/manifest.json
        p $build --state {small}/state -o {tmp_path}/out.json
        p key generate --key {small}/new/node.toml
        cat {small}/manifest.json
        find {small} -name '*.tmp' -o -name '.*.tmp' -o -name node.toml
    """
    if len(manifest) < 3_000:
        raise AssertionError("the manifest fits into what is left: the test tests nothing")
    done = run_with_mounts(script)
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("p2pboot: error")]
    assert len(errors) >= 2, done
    assert all("full" in line.lower() or "No space left" in line for line in errors), errors
    statuses = [line for line in done.stdout.splitlines() if line.startswith("status")]
    assert statuses == ["status 4"] * len(errors)
    assert "before" in done.stdout
    assert ".tmp" not in done.stdout
    assert not (tmp_path / "out.json").exists()


def test_limit_on_file_size_is_like_a_full_disk(program: Program, alice: Key, tmp_path: Path) -> None:
    image = write_image(tmp_path / "image")
    output = tmp_path / "manifest.json"
    output.write_bytes(b"before")
    program.ok(*build_args(image, alice, tmp_path / "state"))
    before = snapshot(tmp_path / "image")
    args = ("manifest", "sign", output, "--key", alice.path)
    output.write_bytes(
        program.ok(*build_args(image, alice, tmp_path / "s2", "--unsigned", "--signer", alice.keyid)).stdout
    )
    unsigned = output.read_bytes()
    done = program.run(*args, fsize=1_000)
    assert done.status == 4, done
    assert_clear(done, str(output))
    assert output.read_bytes() == unsigned
    assert snapshot(image) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "manifest.json", "s2", "state"]


def test_no_command_is_help_and_an_empty_path_is_an_error(program: Program, tmp_path: Path) -> None:
    for command in ((), ("key",), ("manifest",)):
        done = program.run(*command)
        assert (done.status, done.stdout) == (2, b"")
        assert done.stderr.startswith("Usage:")
        assert "error:" not in done.stderr
    program.refuses(2, "--key", args=("key", "generate", "--key", ""), cwd=tmp_path)
    program.refuses(2, args=("key", "generate", "--key", "."), cwd=tmp_path)
    fetch = ("fetch", "--channel", "c", "--arch", "arm64", "--trust", TRUST, "-o", "", "--no-mdns")
    program.refuses(2, "output", args=fetch, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
