from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pboot.testing.manifests import ALICE, BOB
from tests.cli.conftest import Cli
from tests.permissions import permissions_applied


def test_generate_makes_a_private_file_and_prints_ids_but_no_secret(cli: Cli, tmp_path: Path) -> None:
    done = cli("key", "generate")
    path = tmp_path / "keys/node.toml"
    assert done.status == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text().split('secret_key = "')[1][:64]
    shown = cli("key", "show")
    as_json = cli("key", "show", "--json")
    assert shown.stdout == done.stdout
    assert "12D3KooW" in shown.stdout
    assert "keys/node.toml" in shown.stdout
    assert as_json.document["keyid"] in shown.stdout
    assert not any(secret in text for text in (done.stdout, done.stderr, shown.stdout, as_json.stdout))


def test_generate_never_overwrites(cli: Cli, alice_file: Path) -> None:
    before = alice_file.read_bytes()
    done = cli("key", "generate", "--key", alice_file)
    assert done.status == 2
    assert "already exists" in done.error_line
    assert alice_file.read_bytes() == before


def test_a_swarm_key_is_made_once_and_only_its_fingerprint_is_shown(cli: Cli, tmp_path: Path) -> None:
    done = cli("key", "swarm", "mesh/swarm.key")
    path = tmp_path / "mesh/swarm.key"
    header, encoding, secret = path.read_text().splitlines()
    assert (header, encoding, len(secret)) == ("/key/swarm/psk/1.0.0/", "/base16/", 64)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown, as_json = cli("key", "swarm", path, "--show"), cli("key", "swarm", path, "--show", "--json")
    assert shown.stdout.splitlines()[0] == done.stdout.splitlines()[0]
    assert as_json.document["fingerprint"] in done.stdout
    assert not any(secret in text for text in (done.stdout, done.stderr, shown.stdout, as_json.stdout))
    again = cli("key", "swarm", path)
    assert again.status == 2
    assert "already exists" in again.error_line
    assert path.read_text().splitlines()[2] == secret


def test_a_swarm_key_that_is_none_is_refused_before_anything_starts(cli: Cli, alice_file: Path) -> None:
    fetch = ("fetch", "--channel", "c", "--arch", "x86_64", "--trust", ALICE.public.keyid, "-o", "out")
    for path, words in ((alice_file, "is not a swarm key"), ("nowhere", "there is no swarm key nowhere")):
        done = cli(*fetch, "--bootstrap", "/ip4/127.0.0.1/tcp/9", "--swarm-key", path)
        assert done.status == 2
        assert words in done.error_line
        assert "p2pboot key swarm" in done.error_line


def test_config_show_names_the_file_of_the_swarm_key_and_not_the_key(cli: Cli) -> None:
    cli("key", "swarm", "swarm.key")
    secret = Path("swarm.key").read_text().splitlines()[2]
    for arguments in ((), ("--json",)):
        shown = cli("config", "show", "--swarm-key", "swarm.key", *arguments).stdout
        assert "swarm.key" in shown
        assert secret not in shown


def test_import_takes_plasmds_raw_key_and_keeps_its_peer_id(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "identity.key").write_bytes(ALICE.seed)
    done = cli("key", "import", "identity.key", "--json")
    assert done.status == 0
    assert done.document == {
        "peer_id": ALICE.public.peer_id,
        "keyid": ALICE.public.keyid,
        "public_key": ALICE.public.hex,
        "path": "keys/node.toml",
    }
    assert cli("key", "import", "identity.key").status == 2, "it must not overwrite"


@pytest.mark.parametrize(
    ("line", "kept"), [("version = 1", "version = 1\n"), ("version = 0", "version = 0\n"), ("", None)]
)
def test_import_of_a_key_file_keeps_its_version(
    cli: Cli, tmp_path: Path, line: str, kept: str | None
) -> None:
    text = f'\ufeff{line}\r\nsecret_key = "{ALICE.seed.hex()}"'
    (tmp_path / "theirs.toml").write_bytes(text.encode())
    done = cli("key", "import", "theirs.toml", "--key", "keys/timetoke_snapshot.toml")
    assert done.status == 0, done.stderr
    written = (tmp_path / "keys/timetoke_snapshot.toml").read_text()
    assert (kept in written) if kept else ("version" not in written)


def test_import_reads_standard_input(cli: Cli, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.from_private_bytes(BOB.seed)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    done = cli("key", "import", "-", "--key", tmp_path / "bob.toml", stdin=pem)
    assert done.status == 0
    assert BOB.public.peer_id in done.stdout


def test_import_opens_an_encrypted_key_with_a_password_file(cli: Cli, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.from_private_bytes(BOB.seed)
    encryption = serialization.BestAvailableEncryption(b"open sesame")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (tmp_path / "bob.pem").write_bytes(pem)
    (tmp_path / "password").write_text("open sesame\n")
    assert cli("key", "import", "bob.pem").status == 2
    done = cli("key", "import", "bob.pem", "--password-file", "password")
    assert done.status == 0
    assert BOB.public.peer_id in done.stdout


def test_export_gives_bare_hex_or_raw_bytes(cli: Cli, alice_file: Path, tmp_path: Path) -> None:
    assert cli("key", "export", "--public", "--key", alice_file).stdout == ALICE.public.hex + "\n"
    assert cli("key", "export", "--key", alice_file, "--hex").stdout == ALICE.public.hex + "\n"
    done = cli("key", "export", "--public", "--raw", "--key", alice_file, "-o", "public.key")
    assert done.status == 0
    assert done.stdout == ""
    assert (tmp_path / "public.key").read_bytes() == ALICE.public.raw


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f'secret_key = "{"ab" * 31}"', "62 characters instead of 64"),
        (f'secret_key = "{"zz" * 32}"', "not hexadecimal"),
        (f'secret_key = "{"01" * 32}"\npublic_key = "{"02" * 32}"', "public_key does not belong"),
        ("not toml", "not a TOML key file"),
        ("", "has no secret_key"),
    ],
)
def test_bad_key_file_is_named_with_a_remedy(cli: Cli, tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    path.chmod(0o600)
    done = cli("key", "show", "--key", path)
    assert done.status == 2
    assert str(path) in done.error_line
    assert said in done.error_line
    assert "; " in done.error_line
    assert done.stdout == ""


def test_import_of_a_wrong_length_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "short.key").write_bytes(b"\xff" * 31)
    done = cli("key", "import", "short.key")
    assert done.status == 2
    assert "31 bytes" in done.error_line
    assert not (tmp_path / "keys").exists()


def test_missing_files_are_wrong_usage(cli: Cli) -> None:
    for args in (("key", "show"), ("key", "import", "absent.key"), ("key", "export", "--key", "absent")):
        done = cli(*args)
        assert done.status == 2, args
        assert "there is no" in done.error_line


def test_readable_secret_is_warned_about(cli: Cli, alice_file: Path) -> None:
    alice_file.chmod(0o644)
    done = cli("key", "show", "--key", alice_file)
    assert done.status == 0
    assert "chmod 600" in done.stderr


def test_no_permission_is_the_machines_fault(cli: Cli, alice_file: Path) -> None:
    assert cli("key", "show", "--key", alice_file).status == 0  # all is imported now, wherever it may lie
    alice_file.chmod(0)
    with permissions_applied():
        done = cli("key", "show", "--key", alice_file)
    assert done.status == 4
    assert "ermission" in done.error_line


def test_export_writes_into_a_pipe_or_device_and_leaves_it_one(
    cli: Cli, alice_file: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert cli("key", "export", "--key", alice_file, "-o", pipe).status == 0
        assert os.read(reader, 100).decode() == f"{ALICE.public.hex}\n"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert cli("key", "export", "--key", alice_file, "-o", "-").stdout == f"{ALICE.public.hex}\n"
    assert not (tmp_path / "-").exists()
