"""Keys and manifests: what the commands write, checked by another implementation of the formats."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.acceptance.conftest import Key, make_key
from tests.acceptance.program import Program, assert_clear, snapshot, write_image

WHERE = ("--channel", "stable", "--arch", "aarch64")


def phase_verify(raw: bytes, public: bytes) -> dict[str, Any]:
    """The rule of Phase's tool: decode `signed.data`, hash it, check Ed25519, look for the required fields."""
    document = json.loads(raw)
    data = base64.b64decode(document["signed"]["data"], validate=True)
    signatures = {entry["keyid"]: entry["sig"] for entry in document["signatures"]}
    signature = base64.b64decode(signatures[f"ed25519:{public.hex()}"], validate=True)
    Ed25519PublicKey.from_public_bytes(public).verify(signature, hashlib.sha256(data).digest())
    for field in ("version", "manifest_version", "channel", "arch", "created_at", "expires_at", "artifacts"):
        assert field in document
    for name in ("kernel", "initramfs"):
        assert document["artifacts"][name]["hash"].startswith("sha256:")
    return dict(json.loads(data))


def canonical(value: object) -> bytes:
    """RFC 8785 for what a manifest holds: no floats, and only member names of ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def check_manifest(raw: bytes, keyids: list[str], files: dict[str, bytes], *, channel: str, arch: str) -> Any:
    """Everything that the format says of a complete manifest, written from the format's description only."""
    document = json.loads(raw)
    assert canonical(document) == raw
    data = base64.b64decode(document["signed"]["data"], validate=True)
    inner = {name: value for name, value in document.items() if name not in ("signed", "signatures")}
    assert canonical(inner) == data
    assert document["signers"] == sorted(keyids)
    assert [entry["keyid"] for entry in document["signatures"]] == sorted(keyids)
    for keyid in keyids:
        assert phase_verify(raw, bytes.fromhex(keyid.removeprefix("ed25519:"))) == inner
    assert (document["spec"], document["channel"], document["arch"]) == ("p2pboot-manifest/1", channel, arch)
    found = {key: value for key, value in document["artifacts"].items() if key != "dtbs"}
    found |= {f"dtbs/{key}": value for key, value in document["artifacts"].get("dtbs", {}).items()}
    assert found.keys() == files.keys()
    for key, content in files.items():
        check_artifact(found[key], content, f"/{channel}/{arch}/{key}")
    return document


def check_artifact(artifact: dict[str, Any], content: bytes, path: str) -> None:
    digest = hashlib.sha256(content).digest()
    assert artifact["hash"] == f"sha256:{digest.hex()}"
    assert artifact["size"] == len(content)
    assert artifact["path"] == path
    cid = base64.b32encode(b"\x01\x55\x12\x20" + digest).decode().lower().rstrip("=")
    assert artifact["cid"] == f"b{cid}"
    length = artifact["pieces"]["length"]
    pieces = [content[start : start + length] for start in range(0, len(content), length)]
    table = b"".join(blake3(piece).digest() for piece in pieces)
    assert artifact["pieces"]["hash"] == f"blake3:{blake3(table).hexdigest()}"


def image_files(image: Path) -> dict[str, bytes]:
    names = {"kernel": "vmlinuz-6.1", "initramfs": "initrd.img", "rootfs": "rootfs.squashfs"}
    files = {key: (image / name).read_bytes() for key, name in names.items() if (image / name).exists()}
    return files | {f"dtbs/{path.stem}": path.read_bytes() for path in image.glob("*.dtb")}


def test_manifest_is_what_the_format_says(program: Program, alice: Key, tmp_path: Path) -> None:
    image = write_image(tmp_path / "image", rootfs=2_500_001, dtbs=("bcm2711-rpi-4-b",))
    before = snapshot(image)
    output = tmp_path / "manifest.json"
    args = ("manifest", "build", image, *WHERE, "--key", alice.path, "--state", tmp_path / "state")
    program.ok(*args, "--url", "http://192.0.2.7:8080", "--cmdline", "quiet", "--detached", "-o", output)
    raw = output.read_bytes()
    document = check_manifest(raw, [alice.keyid], image_files(image), channel="stable", arch="arm64")
    assert document["manifest_version"] == 1
    assert document["provider"]["peer_id"] == alice.peer_id
    assert document["provider"]["name"]
    assert document["cmdline"] == "quiet"
    assert document["version"] == time.strftime("%Y.%m.%d", time.gmtime())
    created, expires = (
        time.strptime(document[name], "%Y-%m-%dT%H:%M:%SZ") for name in ("created_at", "expires_at")
    )
    assert time.mktime(expires) - time.mktime(created) == 30 * 86_400
    kernel = document["artifacts"]["kernel"]
    assert kernel["urls"] == [f"http://192.0.2.7:8080/blobs/{kernel['hash'].removeprefix('sha256:')}"]
    signature = base64.b64decode(Path(f"{output}.sig").read_text().strip(), validate=True)
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(alice.keyid[8:])).verify(signature, raw)
    assert snapshot(image) == before


def test_rebuilding_gives_the_same_bytes_until_something_changes(
    program: Program, alice: Key, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "image")
    args = ("manifest", "build", image, *WHERE, "--key", alice.path, "--state", tmp_path / "state")
    first = program.ok(*args)
    assert "starts at 1" in first.stderr
    again = program.ok(*args)
    assert again.stdout == first.stdout
    assert "starts at 1" not in again.stderr
    write_image(image, seed="2")
    second = program.ok(*args).stdout
    assert json.loads(second)["manifest_version"] == 2
    assert json.loads(program.ok(*args, "--version", "2.0").stdout)["manifest_version"] == 3
    assert json.loads(program.ok(*args, "--manifest-version", "10").stdout)["manifest_version"] == 10
    program.refuses(2, "10", args=(*args, "--manifest-version", "9", "--cmdline", "other"))
    (image / "rootfs.squashfs").unlink()
    done = program.ok(*args, "--json").document
    assert done["manifest"]["manifest_version"] == 11
    assert done["unchanged"] is False
    other = program.ok("manifest", "build", image, "--channel", "beta", "--arch", "arm64", *args[7:])
    assert json.loads(other.stdout)["manifest_version"] == 1


def test_midnight_is_no_reason_for_a_new_version(program: Program, alice: Key, tmp_path: Path) -> None:
    """A version that was left open is the day's; on another day the stored manifest is still in force."""
    image = write_image(tmp_path / "image")
    args = ("manifest", "build", image, *WHERE, "--key", alice.path, "--state", tmp_path / "state")
    today = program.ok(*args).stdout
    fake = tmp_path / "sitecustomize.py"
    fake.write_text("import time\n_now = time.time\ntime.time = lambda: _now() + 86_400\n")
    import os
    import sys

    from tests.acceptance.program import ROOT

    done = subprocess.run(
        [sys.executable, "-c", f"exec(open({str(fake)!r}).read())\nfrom p2pboot.cli.main import main\nmain()"]
        + [str(arg) for arg in args],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert done.stdout == today


def test_several_signers_on_several_machines(program: Program, alice: Key, bob: Key, tmp_path: Path) -> None:
    image = write_image(tmp_path / "image")
    path = tmp_path / "m.json"
    signers = ("--unsigned", "--signer", bob.keyid, alice.keyid)
    done = program.ok("manifest", "build", image, *WHERE, *signers, "--state", tmp_path / "s", "-o", path)
    assert alice.keyid in done.stderr
    assert bob.keyid in done.stderr
    verify = ("manifest", "verify", path, "--trust", alice.keyid, bob.keyid, "--threshold", "2")
    program.refuses(1, args=verify)
    unsigned = path.read_bytes()
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    for file, order in ((one, (alice, bob)), (other, (bob, alice))):
        file.write_bytes(unsigned)
        program.ok("manifest", "sign", file, "--key", order[0].path)
        path.write_bytes(file.read_bytes())
        assert_clear(program.run(*verify))
        program.ok("manifest", "sign", file, "--key", order[1].path)
        program.ok("manifest", "sign", file, "--key", order[1].path)  # once more changes nothing
    assert one.read_bytes() == other.read_bytes()
    check_manifest(
        one.read_bytes(), [alice.keyid, bob.keyid], image_files(image), channel="stable", arch="arm64"
    )
    path.write_bytes(one.read_bytes())
    program.ok(*verify)
    stranger = make_key(program, tmp_path / "stranger.toml")
    program.refuses(1, alice.keyid, args=("manifest", "verify", path, "--trust", stranger.keyid))
    done = program.run("manifest", "sign", path, "--key", stranger.path)
    assert done.status in (1, 2)
    assert_clear(done, stranger.keyid)
    assert path.read_bytes() == one.read_bytes()


def test_signing_what_was_tampered_with_is_refused(
    program: Program, alice: Key, bob: Key, tmp_path: Path
) -> None:
    path = tmp_path / "m.json"
    signers = ("--unsigned", "--signer", alice.keyid, "--signer", bob.keyid)
    image = write_image(tmp_path / "image")
    program.ok("manifest", "build", image, *WHERE, *signers, "--state", tmp_path / "s", "-o", path)
    program.ok("manifest", "sign", path, "--key", alice.path)
    raw = path.read_bytes().replace(b'"manifest_version":1', b'"manifest_version":2')
    path.write_bytes(raw)
    program.refuses(1, args=("manifest", "sign", path, "--key", bob.path))
    assert path.read_bytes() == raw


def test_separate_signing_key_and_peer_id(program: Program, alice: Key, bob: Key, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    image = write_image(tmp_path / "image")
    keys = ("--key", alice.path, "--signing-key", bob.path)
    program.ok("manifest", "build", image, *WHERE, *keys, "--state", tmp_path / "s", "-o", path)
    document = json.loads(path.read_bytes())
    assert document["signers"] == [bob.keyid]
    assert document["provider"]["peer_id"] == alice.peer_id
    checks = program.ok("manifest", "verify", path, "--trust", bob.keyid, "--json").document["checks"]
    assert {"name": "provider", "outcome": "noted"}.items() <= next(
        check for check in checks if check["name"] == "provider"
    ).items()


def test_builds_at_once_agree_on_the_numbers(program: Program, alice: Key, tmp_path: Path) -> None:
    images = [write_image(tmp_path / f"image-{seed}", seed=str(seed)) for seed in range(4)]
    args = (*WHERE, "--key", alice.path, "--state", tmp_path / "state")
    running = [program.start("manifest", "build", image, *args) for image in images]
    documents = [json.loads(one.wait().stdout) for one in running]
    assert sorted(document["manifest_version"] for document in documents) == [1, 2, 3, 4]


# -- keys ----------------------------------------------------------------------------------------------------------


def _libp2p(seed: bytes, public: bytes) -> bytes:
    return bytes.fromhex("08011240") + seed + public


def _pkcs8(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_every_format_of_one_key_gives_one_identity(program: Program, tmp_path: Path) -> None:
    pem = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True
    ).stdout
    loaded = serialization.load_pem_private_key(pem, None)
    assert isinstance(loaded, Ed25519PrivateKey)
    seed, public = loaded.private_bytes_raw(), loaded.public_key().public_bytes_raw()
    openssh = loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    forms = {"raw": seed, "pem": pem, "openssh": openssh, "libp2p": _libp2p(seed, public)}
    said = []
    for name, form in forms.items():
        (tmp_path / name).write_bytes(form)
        target = tmp_path / f"{name}.toml"
        done = program.ok("key", "import", tmp_path / name, "--key", target, "--json")
        assert seed.hex() not in done.stdout.decode() + done.stderr
        assert target.stat().st_mode & 0o777 == 0o600
        said.append((done.document["peer_id"], done.document["keyid"]))
        assert (
            program.ok("key", "export", "--public", "--key", target).stdout.strip() == public.hex().encode()
        )
        assert program.ok("key", "export", "--raw", "--key", target).stdout == public
    assert said == [(said[0][0], f"ed25519:{public.hex()}")] * len(forms)
    standard_input = program.ok(
        "key", "import", "-", "--key", tmp_path / "in.toml", "--json", stdin=str(tmp_path / "raw")
    )
    assert standard_input.document["peer_id"] == said[0][0]
    multihash = b"\x00\x24\x08\x01\x12\x20" + public
    assert base58(multihash) == said[0][0]


def base58(data: bytes) -> str:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, text = int.from_bytes(data), ""
    while number:
        number, rest = divmod(number, 58)
        text = alphabet[rest] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed (openssh-client)")
def test_key_made_by_ssh_keygen(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    blob = base64.b64decode((tmp_path / "id.pub").read_text().split()[1])
    done = program.ok("key", "import", path, "--key", tmp_path / "n.toml", "--json")
    assert done.document["public_key"] == blob[-32:].hex()
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "password", "-f", str(path)], check=True)
    args = ("key", "import", path, "--key", tmp_path / "p.toml")
    program.refuses(2, str(path), "passphrase", "ssh-keygen -p", args=args)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(tmp_path / "rsa")], check=True
    )
    program.refuses(
        2, str(tmp_path / "rsa"), args=("key", "import", tmp_path / "rsa", "--key", tmp_path / "r")
    )


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_import_of_a_wrong_length(program: Program, tmp_path: Path, length: int) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(b"\xee" * length)
    program.refuses(2, str(path), args=("key", "import", path, "--key", tmp_path / "n.toml"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["identity.key"]


def test_generating_at_once_ends_with_one_key(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys" / "node.toml"
    running = [program.start("key", "generate", "--key", path, "--json") for _ in range(6)]
    ended = [one.wait() for one in running]
    assert sorted(done.status for done in ended) == [0, 2, 2, 2, 2, 2]
    made = next(done for done in ended if done.status == 0).document
    assert program.ok("key", "show", "--key", path, "--json").document == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["node.toml"]
    shown = program.ok("key", "show", "--key", path).stdout.decode()
    secret = path.read_text().split('secret_key = "')[1][:64]
    assert secret not in shown
    assert made["peer_id"] in shown
    assert made["keyid"] in shown
    assert str(path) in shown
