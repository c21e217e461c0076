"""`p2pboot snapshot`: publish, verify, list, show; what needs no network."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from p2pboot.core.timetoke.records import RECORD_FIELDS
from p2pboot.testing.manifests import ALICE, BOB
from tests.cli.conftest import Cli, key_file
from tests.core.timetoke.samples import (
    INDEX,
    NAMES,
    TIMETOKE_ROOT,
    VECTOR_KEY,
    VECTORS,
    payload_of,
    record,
    sign,
)

ROOTS = {entry["name"]: entry["root"] for entry in INDEX["snapshots"]}


@pytest.fixture
def vector_key(tmp_path: Path) -> Path:
    return key_file(tmp_path / "vector.toml", VECTOR_KEY)


def lines(count: int) -> bytes:
    rows = [{name: getattr(record(number), name) for name in RECORD_FIELDS} for number in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_payload_is_published_byte_for_byte(
    cli: Cli, vector_key: Path, tmp_path: Path, name: str
) -> None:
    done = cli("snapshot", "publish", VECTORS / f"{name}.json", "--key", vector_key, "--store", "s", "--json")
    assert done.status == 0, done.stderr
    assert done.document["root"] == ROOTS[name]
    assert done.document["signature"] == (VECTORS / f"{name}.json.sig").read_text()
    path = tmp_path / done.document["path"]
    assert path.read_bytes() == (VECTORS / f"{name}.json").read_bytes()
    assert path.with_name(path.name + ".sig").read_bytes() == (VECTORS / f"{name}.json.sig").read_bytes()


def test_records_as_lines_become_the_payload(cli: Cli, alice_file: Path) -> None:
    options = ["--timetoke-root", TIMETOKE_ROOT, "--key", alice_file, "--json"]
    done = cli("snapshot", "publish", "-", *options, stdin=b"\n" + lines(300) + b"\n\n")
    assert done.status == 0, done.stderr
    assert done.document["signature"] == sign(payload_of(300), ALICE)
    assert (done.document["record_count"], done.document["sequence"]) == (300, 1)
    again = cli("snapshot", "publish", "-", *options, stdin=lines(2))
    assert again.document["sequence"] == 2
    third = cli("snapshot", "publish", "-", *options, "--sequence", 40, stdin=lines(3))
    assert third.document["sequence"] == 40


def test_no_lines_are_an_empty_snapshot(cli: Cli, vector_key: Path) -> None:
    entry = INDEX["snapshots"][NAMES.index("empty")]
    options = ["--timetoke-root", entry["timetoke_root"], "--key", vector_key, "--json"]
    assert cli("snapshot", "publish", "-", *options).document["root"] == entry["root"]


@pytest.mark.parametrize(
    ("stdin", "options", "status", "words"),
    [
        (lines(1), [], 2, "--timetoke-root"),
        (lines(1), ["--timetoke-root", "xyz"], 2, "timetoke root"),
        (lines(1) + b"{}\n", ["--timetoke-root", TIMETOKE_ROOT], 2, "line 2"),
        (lines(1) + b"nonsense", ["--timetoke-root", TIMETOKE_ROOT], 2, "line 2"),
        (payload_of(1), ["--timetoke-root", "00" * 32], 2, "timetoke root"),
        (payload_of(1)[:-1], [], 1, "no snapshot payload"),
        (b'{"records":[]}', [], 1, "timetoke_root is missing"),
        (lines(1), ["--unsigned", "--sequence", "4"], 2, "--sequence"),
    ],
)
def test_what_can_not_be_published_leaves_nothing(
    cli: Cli, alice_file: Path, tmp_path: Path, stdin: bytes, options: list[str], status: int, words: str
) -> None:
    done = cli("snapshot", "publish", "-", "--key", alice_file, *options, stdin=stdin)
    assert done.status == status
    assert words in done.error_line
    assert [path for path in tmp_path.glob("snapshots/*") if not path.name.startswith(".")] == []


def test_a_sequence_is_not_used_for_two_snapshots(cli: Cli, alice_file: Path) -> None:
    options = ["--timetoke-root", TIMETOKE_ROOT, "--key", alice_file, "--sequence", "5"]
    assert cli("snapshot", "publish", "-", *options, stdin=lines(1)).status == 0
    assert "sequence 5 is taken" in cli("snapshot", "publish", "-", *options, stdin=lines(2)).error_line


@pytest.mark.parametrize("version", [0, 1, 4_294_967_295])
def test_the_version_of_the_key_stands_before_its_signatures(cli: Cli, tmp_path: Path, version: int) -> None:
    key = key_file(tmp_path / "versioned.toml", ALICE)
    key.write_text(f"version = {version}\n{key.read_text()}")
    file = tmp_path / "p.json"
    file.write_bytes(payload_of(3))
    done = cli("snapshot", "publish", file, "--key", key, "--json")
    assert done.status == 0, done.stderr
    text = f"{version}:{sign(payload_of(3))}"
    beside = done.document["path"] + ".sig"
    assert (tmp_path / beside).read_text() == done.document["signature"] == text
    shown = cli("snapshot", "verify", done.document["path"], "--public-key", ALICE.public.hex, "--json")
    assert (shown.status, shown.document["key_version"]) == (0, str(version))


def test_a_key_that_gets_a_version_signs_again_what_is_published_again(cli: Cli, tmp_path: Path) -> None:
    key = key_file(tmp_path / "versioned.toml", ALICE)
    file = tmp_path / "p.json"
    file.write_bytes(payload_of(3))
    assert cli("snapshot", "publish", file, "--key", key, "--json").document["signature"] == sign(
        payload_of(3)
    )
    plain = key.read_text()
    key.write_text(f"version = 2\n{plain}")
    again = cli("snapshot", "publish", file, "--key", key, "--json")
    assert again.document["signature"] == f"2:{sign(payload_of(3))}"
    key.write_text(plain)
    kept = cli("snapshot", "publish", file, "--key", key, "--json")  # says less than what is there
    assert kept.document["signature"] == f"2:{sign(payload_of(3))}"


@pytest.mark.parametrize("version", ['"1"', "-1", "4294967296", "1.0", "true", "[1]", "2026-01-01"])
def test_a_version_that_is_no_u32_is_refused_and_nothing_is_published(
    cli: Cli, tmp_path: Path, version: str
) -> None:
    key = key_file(tmp_path / "versioned.toml", ALICE)
    key.write_text(f"version = {version}\n{key.read_text()}")
    done = cli("snapshot", "publish", VECTORS / "empty.json", "--key", key)
    assert done.status == 2
    assert "version is not a whole number from 0 to 4294967295" in done.error_line
    assert "versioned.toml" in done.error_line
    assert not (tmp_path / "snapshots").exists()
    assert cli("key", "show", "--key", key).status == 0  # as a key it is good: only snapshots have versions


def test_the_key_is_made_when_there_is_none(cli: Cli, tmp_path: Path) -> None:
    assert cli("snapshot", "publish", VECTORS / "empty.json").status == 0
    assert (tmp_path / "keys" / "timetoke_snapshot.toml").exists()


def test_unsigned_snapshots_have_no_signature_file_and_no_announcement(cli: Cli, tmp_path: Path) -> None:
    done = cli("snapshot", "publish", VECTORS / "empty.json", "--unsigned", "--store", "s", "--json")
    assert done.document["signature"] is None
    assert {path.name for path in (tmp_path / "s").iterdir()} == {f"{ROOTS['empty']}.json"}


@pytest.mark.parametrize("key", [INDEX["public_key"], VECTOR_KEY.public.keyid, VECTOR_KEY.public.peer_id])
def test_verify_takes_every_golden_snapshot(cli: Cli, key: str) -> None:
    for name in NAMES:
        done = cli("snapshot", "verify", VECTORS / f"{name}.json", "--public-key", key, "--json")
        assert done.status == 0, done.stderr
        assert (done.document["ok"], done.document["root"]) == (True, ROOTS[name])


def test_verify_says_which_defect_it_is(cli: Cli, tmp_path: Path) -> None:
    snapshot, beside = tmp_path / "x.json", tmp_path / "x.json.sig"
    snapshot.write_bytes(payload_of(2))

    def refused(words: str, *options: object, key: str = ALICE.public.keyid) -> None:
        done = cli("snapshot", "verify", snapshot, "--public-key", key, *options)
        assert done.status == 1
        assert words in done.error_line

    refused("has no signature")
    for text, words in [
        ("", "is empty"),
        ("!", "base64"),
        ("AAAA", "3 bytes"),
        (sign(payload_of(3)), "is not the signature"),
    ]:
        beside.write_text(text)
        refused(words)
    beside.write_text(f" 7:{sign(payload_of(2))}\n")
    assert cli("snapshot", "verify", snapshot, "--public-key", ALICE.public.hex).status == 0
    refused("is not the signature", key=BOB.public.hex)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(sign(payload_of(2), BOB))
    assert cli("snapshot", "verify", snapshot, "--sig", elsewhere, "--public-key", BOB.public.hex).status == 0
    snapshot.write_bytes(payload_of(2).replace(b"identity-00000001", b"identity-00000002"))
    refused("is not the signature")
    snapshot.write_bytes(b"")
    refused("empty")


def test_verify_needs_a_signed_payload_that_is_one(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"{}")
    (tmp_path / "x.json.sig").write_text(sign(b"{}"))
    done = cli("snapshot", "verify", "x.json", "--public-key", ALICE.public.hex)
    assert done.status == 1
    assert "no snapshot payload" in done.error_line


@pytest.mark.parametrize(
    "args",
    [
        ("verify", "nowhere.json", "--public-key", ALICE.public.hex),
        ("verify", ".", "--public-key", ALICE.public.hex),
        ("verify", "x.json", "--public-key", "nonsense"),
        ("publish", "nowhere.json"),
        ("list", "--store", "nowhere"),
        ("show", "00" * 32, "--store", "nowhere"),
        ("sync", "nonsense", "--trust", ALICE.public.hex, "-o", "out"),
        ("sync", "-o", "out"),
        ("sync", "--trust", ALICE.public.hex, "--threshold", "2", "-o", "out"),
    ],
)
def test_wrong_usage_is_status_two_and_one_line(cli: Cli, args: tuple[str, ...]) -> None:
    done = cli("snapshot", *args)
    assert done.status == 2
    assert done.error_line


def test_nobody_to_ask_is_status_three(cli: Cli) -> None:
    done = cli("snapshot", "sync", "--trust", ALICE.public.hex, "--no-mdns", "-o", "out")
    assert done.status == 3
    assert "nobody to ask" in done.error_line


def test_list_and_show_say_what_is_there(cli: Cli, vector_key: Path, tmp_path: Path) -> None:
    cli("snapshot", "publish", VECTORS / "balances.json", "--key", vector_key, "--store", "s")
    (tmp_path / "s" / "dropped.json").write_bytes((VECTORS / "extremes.json").read_bytes())
    (tmp_path / "s" / "bad.json").write_bytes((VECTORS / "default.json").read_bytes())
    (tmp_path / "s" / "bad.json.sig").write_text("")
    listed = {
        entry["root"]: entry
        for entry in cli("snapshot", "list", "--store", "s", "--json").document["snapshots"]
    }
    assert listed[ROOTS["balances"]]["signature_state"] == "signed"
    assert listed[ROOTS["extremes"]]["signature_state"] == "unsigned"
    assert "is empty" in listed[ROOTS["default"]]["signature_state"]
    shown = cli("snapshot", "show", ROOTS["balances"], "--store", "s", "--json").document
    assert shown["record_count"] == 8
    assert shown["announcements"][0]["signer"] == VECTOR_KEY.public.keyid
    assert cli("snapshot", "list", "--store", "s").status == 0
    plain = cli("snapshot", "show", VECTORS / "extremes.json")
    assert ROOTS["extremes"] in plain.stdout
    assert cli("snapshot", "show", "00" * 32, "--store", "s").status == 1


# odd stores


def store_of(directory: Path, *payloads: bytes) -> Path:
    directory.mkdir()
    for number, payload in enumerate(payloads):
        (directory / f"snap {number}.json").write_bytes(payload)
        (directory / f"snap {number}.json.sig").write_text(sign(payload))
    return directory


def test_a_store_of_links_is_listed(cli: Cli, tmp_path: Path) -> None:
    real = store_of(tmp_path / "real", payload_of(2))
    (tmp_path / "linked").mkdir()
    for path in real.iterdir():
        (tmp_path / "linked" / path.name).symlink_to(path)
    done = cli("snapshot", "list", "--store", "linked", "--json")
    assert (done.status, done.stderr) == (0, "")
    (entry,) = done.document["snapshots"]
    assert (entry["kind"], entry["signature_state"]) == ("records", "signed")
    assert cli("snapshot", "show", entry["root"], "--store", "linked").status == 0


def test_the_source_systems_manifest_is_listed_shown_and_verified(cli: Cli, tmp_path: Path) -> None:
    manifest = b'{"version": 1, "segments": [{"segment_name": "a.bin", "size_bytes": 3, "sha256": "00"}]}\n'
    (tmp_path / "snapshots" / "manifest").mkdir(parents=True)
    path = tmp_path / "snapshots" / "manifest" / "chunks.json"
    path.write_bytes(manifest)
    path.with_name("chunks.json.sig").write_text(f"1:{sign(manifest)}")
    (tmp_path / "snapshots" / "chunks").mkdir()
    (tmp_path / "snapshots" / "chunks" / "a.bin").write_bytes(b"abc")
    done = cli("snapshot", "list")
    assert done.status == 0
    assert "manifest/chunks.json" in done.stdout
    assert "manifest of chunks" in done.stdout
    assert "left out: chunks/a.bin is not named *.json" in done.stderr
    for args in (("show", path), ("verify", path, "--public-key", ALICE.public.hex)):
        shown = cli("snapshot", *args)
        assert shown.status == 0, shown.stderr
        assert "a manifest of 1 chunk" in shown.stdout
    assert cli("snapshot", "verify", path, "--public-key", BOB.public.hex).status == 1
    refused = cli("snapshot", "publish", path)
    assert refused.status == 1
    assert "a manifest of chunks, not a snapshot of records" in refused.error_line


def test_what_can_not_be_served_is_not_called_an_empty_store(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    done = cli("snapshot", "list", "--store", "s")
    assert (done.status, done.stdout.strip(), done.stderr) == (0, "no snapshots in s", "")
    (tmp_path / "s" / "notes.txt").touch()
    done = cli("snapshot", "list", "--store", "s")
    assert (done.status, done.stdout.strip()) == (0, "no snapshots in s")
    assert "left out: notes.txt is not named *.json" in done.stderr
    (tmp_path / "s" / "x y.json").symlink_to("nowhere")
    (tmp_path / "s" / "more").symlink_to(tmp_path)
    for options in ((), ("--json",)):
        done = cli("snapshot", "list", "--store", "s", *options)
        assert done.status == 1
        assert "left out: x y.json is a link to nothing" in done.stderr
        assert "left out: more is a link to a directory" in done.stderr
    assert [one["name"] for one in done.document["left_out"]] == ["more", "notes.txt", "x y.json"]


def test_many_that_are_left_out_take_few_lines(cli: Cli, tmp_path: Path) -> None:
    store_of(tmp_path / "s", payload_of(1))
    for number in range(100):
        (tmp_path / "s" / f"{number}.txt").touch()
    done = cli("snapshot", "list", "--store", "s")
    assert done.status == 0
    assert len(done.stderr.splitlines()) == 21
    assert "left out: 80 more" in done.stderr


@pytest.mark.parametrize("command", ["list", "show"])
@pytest.mark.parametrize(
    ("name", "words"),
    [("file", "is a file"), ("dangling", "is a link to nothing"), ("nowhere", "no directory")],
)
def test_what_is_no_store_is_said(cli: Cli, tmp_path: Path, command: str, name: str, words: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to("gone")
    what = ("00" * 32,) if command == "show" else ()
    done = cli("snapshot", command, *what, "--store", name)
    assert done.status == 2
    assert words in done.error_line


def test_a_damaged_signature_is_shown_as_such(cli: Cli, tmp_path: Path) -> None:
    directory = store_of(tmp_path / "s", payload_of(1), payload_of(2))
    (directory / "snap 0.json.sig").write_text("v1:" + sign(payload_of(1)))
    (directory / "snap 1.json.sig").unlink()
    (directory / "snap 1.json.sig").symlink_to("nowhere")
    done = cli("snapshot", "list", "--store", "s")
    assert done.status == 0
    assert "no key version" in done.stdout
    assert "is a link to nothing" in done.stdout
    for number, words in [(0, "'v1' before the colon"), (1, "is a link to nothing")]:
        refused = cli(
            "snapshot", "verify", directory / f"snap {number}.json", "--public-key", ALICE.public.hex
        )
        assert refused.status == 1
        assert words in refused.error_line


def test_a_pipe_is_no_snapshot_and_is_not_waited_for(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = cli("snapshot", "show", "pipe")
    assert done.status == 2
    assert "is a pipe" in done.error_line


def test_text_files_of_editors_are_taken_or_named(cli: Cli, alice_file: Path, tmp_path: Path) -> None:
    options = ["--timetoke-root", TIMETOKE_ROOT, "--key", alice_file, "--json"]
    crlf = b"\xef\xbb\xbf" + lines(3).replace(b"\n", b"\r\n").rstrip()
    done = cli("snapshot", "publish", "-", *options, stdin=crlf)
    assert done.status == 0, done.stderr
    assert done.document["signature"] == sign(payload_of(3))
    for text, words in [
        (lines(1).decode().encode("utf-16"), "UTF-16"),
        (b"\xef\xbb\xbf" + payload_of(1), "byte order mark"),
    ]:
        refused = cli("snapshot", "publish", "-", "--key", alice_file, *options[:2], stdin=text)
        assert refused.status in {1, 2}
        assert words in refused.error_line


def test_key_and_store_come_from_the_configuration_file(cli: Cli, tmp_path: Path) -> None:
    key_file(tmp_path / "t.toml", ALICE)
    config = tmp_path / "c.toml"
    config.write_text('snapshot_dir = "there"\ntimetoke_snapshot_key_path = "t.toml"\n')
    done = cli("snapshot", "publish", VECTORS / "empty.json", "--config", config, "--json")
    assert done.status == 0, done.stderr
    assert done.document["signer"] == ALICE.public.keyid
    assert Path(done.document["path"]).parent == tmp_path / "there"
    listed = cli("snapshot", "list", "--config", config, "--json").document["snapshots"]
    assert [entry["root"] for entry in listed] == [ROOTS["empty"]]
    assert cli("snapshot", "show", ROOTS["empty"], "--config", config).status == 0
    other = key_file(tmp_path / "other.toml", BOB)
    options = ["--config", config, "--key", other, "--store", "elsewhere", "--json"]
    done = cli("snapshot", "publish", VECTORS / "empty.json", *options)
    assert done.document["signer"] == BOB.public.keyid
    assert (tmp_path / "elsewhere").is_dir()


def test_publishing_does_not_speak_of_others_that_are_unsigned(
    cli: Cli, alice_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "old.json").write_bytes(payload_of(1, "cc" * 32))
    done = cli("snapshot", "publish", VECTORS / "empty.json", "--store", "s", "--key", alice_file)
    assert (done.status, done.stderr) == (0, "")
