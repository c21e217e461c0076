from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from p2pboot.core.identity import PublicKey
from p2pboot.core.manifest import Manifest, check_detached
from p2pboot.testing.manifests import ALICE, BOB
from tests.cli.conftest import NOW, Cli, key_file
from tests.publish.pe_files import pe_file

CHANNEL = ("--channel", "stable", "--arch", "aarch64")


@pytest.fixture
def images(tmp_path: Path, alice_file: Path) -> Path:
    """A flat artifacts directory, and ALICE's key as the node's."""
    directory = tmp_path / "images"
    directory.mkdir()
    (directory / "vmlinuz-6.1").write_bytes(b"kernel" * 1000)
    (directory / "initrd.img").write_bytes(b"initramfs" * 1000)
    (tmp_path / "keys").mkdir()
    key_file(tmp_path / "keys/node.toml", ALICE)
    return directory


def phase_verify(raw: bytes, trusted: bytes) -> None:
    """Phase's own rule, written down again without any of our code: what its tools do with a manifest."""
    from nacl.signing import VerifyKey

    document = json.loads(raw)
    for field in ("version", "manifest_version", "channel", "arch", "created_at", "expires_at", "artifacts"):
        assert field in document
    digest = hashlib.sha256(base64.b64decode(document["signed"]["data"])).digest()
    (signature,) = document["signatures"]
    VerifyKey(trusted).verify(digest, base64.b64decode(signature["sig"]))


def test_manifest_goes_to_standard_output_and_notes_do_not(cli: Cli, images: Path) -> None:
    done = cli("manifest", "build", images, *CHANNEL, "--version", "2025.11.26", "--name", "box")
    assert done.status == 0
    raw = done.stdout.encode()
    manifest = Manifest.parse(raw)
    assert (manifest.channel, manifest.arch, manifest.version) == ("stable", "arm64", "2025.11.26")
    assert manifest.manifest_version == 1
    assert manifest.provider_name == "box"
    assert manifest.provider_peer_id == ALICE.public.peer_id
    assert manifest.artifacts["kernel"].sha256 == hashlib.sha256(b"kernel" * 1000).hexdigest()
    assert manifest.expires_at - manifest.created_at == 30 * 86400
    phase_verify(raw, ALICE.public.raw)
    assert "counter starts at 1" in done.stderr
    assert "hashed" in done.stderr


def test_what_others_will_not_take_for_its_lifetime_is_built_with_a_warning(cli: Cli, images: Path) -> None:
    done = cli("manifest", "build", images, *CHANNEL, "--expires-in", "401d")
    assert done.status == 0
    assert "valid for 401 days" in done.stderr
    assert "valid for" not in cli("manifest", "build", images, *CHANNEL, "--expires-in", "400d").stderr


def test_every_option_reaches_the_manifest(cli: Cli, images: Path, tmp_path: Path) -> None:
    args = (
        "--cmdline",
        "console=ttyS0",
        "--expires-in",
        "12h",
        "--manifest-version",
        41,
        "--state",
        tmp_path / "s",
    )
    urls = ("--url", "http://192.0.2.7:8080/", "--url", "https://boot.example.net")
    done = cli("manifest", "build", images, *CHANNEL, *args, *urls)
    manifest = Manifest.parse(done.stdout.encode())
    assert manifest.cmdline == "console=ttyS0"
    assert manifest.expires_at - manifest.created_at == 12 * 3600
    assert manifest.manifest_version == 41
    kernel = manifest.artifacts["kernel"]
    assert kernel.urls == (
        f"http://192.0.2.7:8080/blobs/{kernel.sha256}",
        f"https://boot.example.net/blobs/{kernel.sha256}",
    )
    assert (tmp_path / "s/state.sqlite3").exists()
    assert "counter starts at 1" not in done.stderr


def test_unchanged_directory_gives_the_same_bytes_and_a_changed_one_the_next_number(
    cli: Cli, images: Path
) -> None:
    first = cli("manifest", "build", images, *CHANNEL, "-o", "m.json")
    again = cli("manifest", "build", images, *CHANNEL, "--json")
    assert (first.status, again.status) == (0, 0)
    assert again.document["unchanged"] is True
    assert again.document["manifest"] == json.loads(Path("m.json").read_bytes())
    (images / "rootfs.img").write_bytes(b"r")
    changed = cli("manifest", "build", images, *CHANNEL, "--json")
    assert changed.document["manifest"]["manifest_version"] == 2
    assert changed.document["unchanged"] is False


def test_a_date_behind_an_earlier_one_is_said_with_the_way_out(cli: Cli, images: Path) -> None:
    ahead = cli("manifest", "build", images, *CHANNEL, wall=lambda: NOW + 5 * 365 * 86_400)
    assert ahead.status == 0
    assert "clock" not in ahead.stderr
    done = cli("manifest", "build", images, *CHANNEL, wall=lambda: NOW)
    manifest = Manifest.parse(done.stdout.encode())
    assert (manifest.manifest_version, manifest.created_at) == (2, NOW)
    assert "version 1 is dated 20" in done.stderr
    assert "p2pboot state recover --state" in done.stderr


def test_file_and_its_detached_signature_are_written(cli: Cli, images: Path, tmp_path: Path) -> None:
    done = cli("manifest", "build", images, *CHANNEL, "-o", "m.json", "--detached", "--quiet")
    assert done.status == 0
    assert done.stdout == ""
    assert done.stderr == ""
    raw = (tmp_path / "m.json").read_bytes()
    assert (
        check_detached(raw, (tmp_path / "m.json.sig").read_text(), [ALICE.public.keyid]) == ALICE.public.keyid
    )
    assert cli("manifest", "verify", "m.json", "--trust", ALICE.public.keyid).status == 0


def test_signing_key_signs_and_the_nodes_key_is_the_provider(cli: Cli, images: Path, bob_file: Path) -> None:
    done = cli("manifest", "build", images, *CHANNEL, "--signing-key", bob_file)
    manifest = Manifest.parse(done.stdout.encode())
    assert manifest.signers == (BOB.public.keyid,)
    assert manifest.provider_peer_id == ALICE.public.peer_id


def test_unsigned_then_signed_on_other_machines(
    cli: Cli, images: Path, alice_file: Path, bob_file: Path, tmp_path: Path
) -> None:
    signers = ("--signer", ALICE.public.keyid, PublicKey(BOB.public.raw).peer_id)
    built = cli("manifest", "build", images, *CHANNEL, "--unsigned", *signers, "-o", "m.json")
    assert built.status == 0
    assert "still to sign" in built.stderr
    trust = ("--trust", ALICE.public.keyid, BOB.public.keyid, "--threshold", 2)
    assert cli("manifest", "verify", "m.json", *trust).status == 1
    for key in (bob_file, alice_file):
        assert cli("manifest", "sign", "m.json", "--key", key).status == 0
    assert cli("manifest", "verify", "m.json", *trust).status == 0


def test_layout_with_one_pair_needs_no_channel(cli: Cli, images: Path, tmp_path: Path) -> None:
    leaf = tmp_path / "tree/testing/x86_64"
    leaf.parent.mkdir(parents=True)
    images.rename(leaf)
    manifest = Manifest.parse(cli("manifest", "build", tmp_path / "tree").stdout.encode())
    assert (manifest.channel, manifest.arch) == ("testing", "x86_64")


BAD_DIRECTORIES = {
    "missing": (lambda d: os.rename(d, d.with_name("gone")), "there is no directory"),
    "a file": (lambda d: d.rename(d.with_name("gone")) and d.write_text("x"), "is not a directory"),
    "no kernel": (lambda d: (d / "vmlinuz-6.1").unlink(), "no kernel"),
    "no initramfs": (lambda d: (d / "initrd.img").unlink(), "no initramfs"),
    "two kernels": (lambda d: (d / "bzImage").write_bytes(b"x"), "two files for kernel"),
    "empty artifact": (lambda d: (d / "rootfs.img").write_bytes(b""), "is empty"),
    "link outside": (lambda d: (d / "rootfs.img").symlink_to("/etc/hostname"), "outside"),
    "fifo": (lambda d: os.mkfifo(d / "rootfs.img"), "is a FIFO"),
    "too many artifacts": (
        lambda d: [(d / f"module-{number}").write_bytes(b"x") for number in range(200)],
        "202 artifacts",
    ),
    "half an upload only": (
        lambda d: (d / "initrd.img").rename(d / "initrd.img.filepart"),
        "initrd.img.filepart",
    ),
    "kernel and UKI": (
        lambda d: (d / "linux.efi").write_bytes(pe_file(".linux", ".initrd")),
        "unified kernel image",
    ),
    "bad artifacts.toml": (lambda d: (d / "artifacts.toml").write_text("kernel = vmlinuz"), "artifacts.toml"),
}


@pytest.mark.parametrize(("spoil", "said"), BAD_DIRECTORIES.values(), ids=list(BAD_DIRECTORIES))
def test_directory_that_can_not_be_published_is_named_with_a_remedy(
    cli: Cli, images: Path, tmp_path: Path, spoil: object, said: str
) -> None:
    spoil(images)  # type: ignore[operator]
    done = cli("manifest", "build", images, *CHANNEL, "-o", "m.json", "--detached", "--quiet")
    assert done.status == 2
    assert said in done.error_line
    assert "; " in done.error_line
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("m.json*"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--channel", "stable"), "--arch"),
        ((*CHANNEL, "--detached"), "-o"),
        ((*CHANNEL, "-o", "absent/m.json"), "there is no directory absent"),
        ((*CHANNEL, "-o", "images"), "is a directory"),
        ((*CHANNEL, "--unsigned"), "--signer"),
        ((*CHANNEL, "--unsigned", "--signer", "xyz"), "--signer"),
        ((*CHANNEL, "--signer", ALICE.public.keyid), "--unsigned"),
        ((*CHANNEL, "--unsigned", "--signer", ALICE.public.keyid, "--detached", "-o", "m"), "--detached"),
        ((*CHANNEL, "--url", "ftp://x"), "--url"),
        ((*CHANNEL, "--expires-in", "never"), "--expires-in"),
        ((*CHANNEL, "--manifest-version", "0"), "--manifest-version"),
        ((*CHANNEL, "--version", "x\ny"), "--version"),
        ((*CHANNEL, "--cmdline", "x" * 5000), "--cmdline"),
        ((*CHANNEL, "--key", "absent.toml"), "absent.toml"),
        ((*CHANNEL, "--signing-key", "absent.toml"), "absent.toml"),
    ],
)
def test_wrong_usage_is_found_before_anything_is_hashed(
    cli: Cli, images: Path, args: tuple[str, ...], said: str
) -> None:
    done = cli("manifest", "build", images, *args)
    assert done.status == 2
    assert said in done.error_line
    assert "hashed" not in done.stderr
    assert done.stdout == ""


def test_used_up_number_is_refused(cli: Cli, images: Path) -> None:
    assert cli("manifest", "build", images, *CHANNEL, "--manifest-version", 5).status == 0
    (images / "rootfs.img").write_bytes(b"r")
    done = cli("manifest", "build", images, *CHANNEL, "--manifest-version", 5)
    assert done.status == 2
    assert "manifest_version 5 is used up" in done.error_line


def test_state_directory_that_is_a_file_is_the_machines_fault(cli: Cli, images: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("x")
    done = cli("manifest", "build", images, *CHANNEL, "--state", tmp_path / "state")
    assert done.status == 4
    assert str(tmp_path / "state") in done.error_line


def test_several_pairs_must_be_chosen_from(cli: Cli, images: Path, tmp_path: Path) -> None:
    for pair in ("stable/x86_64", "testing/arm64"):
        leaf = tmp_path / "tree" / pair
        leaf.mkdir(parents=True)
        for file in images.iterdir():
            (leaf / file.name).write_bytes(file.read_bytes())
    done = cli("manifest", "build", tmp_path / "tree")
    assert done.status == 2
    assert "stable/x86_64, testing/arm64" in done.error_line


def test_what_is_ignored_is_listed_for_people_and_counted_for_scripts(cli: Cli, images: Path) -> None:
    for name in ("rootfs.squashfs.filepart", "SHA256SUMS", "README.md", "vmlinuz-6.0.bak"):
        (images / name).write_bytes(b"x")
    (images / "@eaDir").mkdir()
    done = cli("manifest", "build", images, *CHANNEL, "--json")
    assert done.status == 0
    document = json.loads(done.stdout)
    assert set(document["manifest"]["artifacts"]) == {"kernel", "initramfs"}
    assert document["ignored"] == {"backup": 1, "companion": 2, "system": 1, "unfinished": 1}
    assert "rootfs" not in done.stdout
    assert "ignored (unfinished): rootfs.squashfs.filepart\n" in done.stderr
    assert "ignored (companion): README.md, SHA256SUMS\n" in done.stderr
    assert "ignored (system): @eaDir\n" in done.stderr


def test_nothing_is_said_of_ignored_files_where_there_are_none(cli: Cli, images: Path) -> None:
    assert "ignored" not in cli("manifest", "build", images, *CHANNEL).stderr


def test_addresses_that_found_no_room_are_named(cli: Cli, images: Path) -> None:
    for number in range(60):
        (images / f"module-{number}").write_bytes(b"x")
    urls = [part for number in range(16) for part in ("--url", f"http://192.0.2.{number}:8080")]
    done = cli("manifest", "build", images, *CHANNEL, *urls, "--json")
    assert done.status == 0
    document = json.loads(done.stdout)
    kept = [url.partition("/blobs/")[0] for url in document["manifest"]["artifacts"]["kernel"]["urls"]]
    given = urls[1::2]
    assert kept + document["urls_left_out"] == given
    assert 0 < len(kept) < len(given)
    assert given[-1] in done.stderr


def test_a_fault_beside_the_only_pair_is_a_warning(cli: Cli, images: Path, tmp_path: Path) -> None:
    leaf = tmp_path / "tree/testing/x64"
    leaf.parent.mkdir(parents=True)
    images.rename(leaf)
    (tmp_path / "tree/testing/mips").mkdir()
    done = cli("manifest", "build", tmp_path / "tree")
    assert done.status == 0
    assert Manifest.parse(done.stdout.encode()).arch == "x86_64"
    assert "architecture 'mips' is not known" in done.stderr


def test_a_pair_that_can_not_be_built_does_not_keep_the_named_one(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    leaf = tmp_path / "tree/stable/amd64"
    leaf.parent.mkdir(parents=True)
    images.rename(leaf)
    (tmp_path / "tree/testing/amd64").mkdir(parents=True)
    (tmp_path / "tree/testing/amd64/vmlinuz").write_bytes(b"half")
    assert "holds stable/x86_64, testing/x86_64" in cli("manifest", "build", tmp_path / "tree").error_line
    assert cli("manifest", "build", tmp_path / "tree", "--channel", "stable", "--arch", "AMD64").status == 0
    assert "no initramfs" in cli("manifest", "build", tmp_path / "tree", "--channel", "testing").error_line
