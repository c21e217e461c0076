"""`p2pboot store` without a node: what takes how much, what is wrong, and clearing up."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from p2pboot.core.manifest import Manifest
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, content, table_of
from p2pboot.testing.manifests import ALICE, signed_manifest
from p2pboot.testing.stores import offer
from tests.cli.conftest import NOW, Cli

TRUST = ("--trust", ALICE.public.keyid)
FILES = {
    "kernel": content("kernel", 2 * PIECE),
    "initramfs": content("initramfs", 700),
    "rootfs": content("rootfs", 5 * PIECE),
}


def version(number: int, **files: bytes) -> tuple[Manifest, dict[str, bytes]]:
    held = {**FILES, **files}
    dates = {"created_at": NOW - 60, "expires_at": NOW + 86_400}
    return signed_manifest(held, [ALICE], manifest_version=number, **dates), held


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "state") as store:
        offer(store, *version(1))
        offer(store, *version(2, rootfs=content("newer", 3 * PIECE)))
    return tmp_path / "state"


def blob(state: Path, data: bytes) -> Path:
    return next(path for path in (state / "blobs").glob("*/*") if path.read_bytes() == data)


def appearance(state: Path) -> list[tuple[Path, int]]:
    """All files and when they were written, but for those with which SQLite keeps readers apart."""
    files = (path for path in state.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return sorted((path, path.stat().st_mtime_ns) for path in files)


def rot(path: Path, piece: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(piece * PIECE)
        file.write(b"rot")


def test_usage_tells_releases_artifacts_and_what_they_share(cli: Cli, state: Path) -> None:
    document = cli("store", "usage", "--state", state, "--json").document
    releases = document["publishers"][0]["releases"]
    assert document["publishers"][0]["publisher"] == ALICE.public.keyid
    assert [(one["manifest_version"], one["role"]) for one in releases] == [(2, "current"), (1, "previous")]
    artifacts = {one["name"]: one for one in releases[0]["artifacts"]}
    assert artifacts["kernel"]["shared_with"] == ["stable/x86_64#1"]
    assert artifacts["rootfs"]["shared_with"] == []
    assert artifacts["rootfs"]["size"] == 3 * PIECE
    assert {one["state"] for one in artifacts.values()} == {"whole"}
    assert document["used"] == sum(map(len, FILES.values())) + 3 * PIECE
    assert document["disk_bytes"] >= document["used"]
    assert document["publishers"][0]["disk_bytes"] == document["disk_bytes"]
    assert 0 < document["disk"]["free"] <= document["disk"]["size"]
    assert document["garbage"] == []
    shown = cli("store", "usage", "--state", state).stdout
    assert "stable/x86_64 version 2025.11.26, manifest version 2, current" in shown
    assert "kernel: whole, 131.1 kB, shared with stable/x86_64#1" in shown


def test_an_intact_store_is_sound(cli: Cli, state: Path) -> None:
    done = cli("store", "check", "--state", state)
    assert (done.status, done.stdout) == (0, "sound      4 artifacts\n")


def test_what_is_wrong_is_one_line_each_and_nothing_is_changed(cli: Cli, state: Path) -> None:
    rot(blob(state, FILES["kernel"]), 1)
    cut = blob(state, FILES["rootfs"])
    os.truncate(cut, PIECE)
    gone = blob(state, FILES["initramfs"])
    gone.unlink()
    before = appearance(state)
    done = cli("store", "check", "--state", state)
    assert done.status == 1
    assert done.stdout.count("\n") == 3
    assert "damaged    stable/x86_64/kernel #2: the disk changed piece 1 of 2 (sha256:" in done.stdout
    assert f"damaged    stable/x86_64/rootfs #1: {cut} has not the {5 * PIECE} bytes" in done.stdout
    assert f"damaged    stable/x86_64/initramfs #2: {gone} was here, and is gone" in done.stdout
    assert "3 things in the store" in done.error_line
    assert "p2pboot store repair" in done.error_line
    assert appearance(state) == before
    assert cli("store", "check", "--state", state, "--json").document["found"][0]["kind"] in (
        "pieces",
        "gone",
    )


def test_a_repair_keeps_the_good_pieces(cli: Cli, state: Path) -> None:
    damaged = blob(state, FILES["rootfs"])
    rot(damaged, 1)
    planned = cli("store", "repair", "--state", state, "--dry-run")
    assert planned.status == 0
    assert "would do   stable/x86_64/rootfs #1: the disk changed piece 1 of 5" in planned.stdout
    assert damaged.exists()
    assert cli("store", "repair", "--state", state).status == 0
    assert cli("store", "check", "--state", state).status == 0
    with Store.open(state) as store:
        partial = store.blobs.begin(damaged.name, table_of(FILES["rootfs"]))
        assert partial is not None
        assert list(partial.held.missing()) == [1]


def test_a_row_and_a_table_that_are_wrong_are_made_again(cli: Cli, state: Path) -> None:
    with Store.open(state) as store, store._database.transaction() as sql:
        sql.execute("UPDATE manifests SET manifest_version = 77 WHERE manifest_version = 2")
        sql.execute("DELETE FROM tables WHERE size = ?", (2 * PIECE,))
    done = cli("store", "check", "--state", state)
    assert done.status == 1
    assert "is not what was signed" in done.stdout
    assert "its piece table is lost" in done.stdout
    Path("trust.toml").write_text(f'[[trust]]\nkeys = ["{ALICE.public.keyid}"]\n')
    assert cli("store", "repair", "--state", state, "--config", "trust.toml").status == 0
    assert cli("store", "check", "--state", state).status == 0
    with Store.open(state) as store:
        assert [head.manifest_version for head in store.manifests.heads()] == [2]


def test_scrubbing_here_takes_what_is_damaged_out_of_service(cli: Cli, state: Path) -> None:
    damaged = blob(state, FILES["kernel"])
    rot(damaged)
    done = cli("store", "scrub", "--state", state)
    assert done.status == 1
    assert not damaged.exists()
    assert cli("store", "scrub", "--state", state).status == 0


def test_what_nobody_needs_goes_and_what_is_being_brought_in_stays(cli: Cli, state: Path) -> None:
    assert cli("store", "gc", "--state", state).stdout == "nothing to remove\n"
    orphan = state / "blobs" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x" * 5000)
    left, arriving = state / "partial" / ("cd" * 32), state / "partial" / ("ef" * 32)
    killed = state / f".state.p2pboot-{'0' * 16}.tmp"
    for path in (left, arriving, killed):
        path.write_bytes(b"y" * 5000)
    with arriving.open("rb") as somebody:
        fcntl.flock(somebody, fcntl.LOCK_EX)
        planned = cli("store", "gc", "--state", state, "--dry-run", "--json").document
        assert {(one["kind"], one["path"]) for one in planned["garbage"]} == {
            ("orphan", str(orphan)),
            ("partial", str(left)),
            ("temporary", str(killed)),
        }
        assert planned["freed_bytes"] >= 3 * 5000
        assert orphan.exists()
        done = cli("store", "gc", "--state", state)
        assert done.status == 0
        assert "freed      " in done.stdout
        assert (orphan.exists(), left.exists(), arriving.exists(), killed.exists()) == (
            False,
            False,
            True,
            False,
        )
    assert cli("store", "check", "--state", state).stdout == "sound      4 artifacts\n"


@pytest.mark.parametrize("command", ["usage", "check", "repair", "gc", "scrub", "export"])
def test_what_is_no_state_is_not_made_one(cli: Cli, command: str) -> None:
    more = ("stable/x86_64", "stick") if command == "export" else ()
    done = cli("store", command, *more, "--state", "nowhere")
    assert done.status == 2
    assert "nowhere is no state directory" in done.error_line
    assert not Path("nowhere").exists()


def test_a_release_is_named_by_version_or_number(cli: Cli, state: Path) -> None:
    for release, number in (
        ("stable/x86_64", 2),
        ("stable/amd64#1", 1),
        ("stable/x86_64@2025.11.26", 2),
        ("stable/x86_64@2025.11.26#1", 1),
    ):
        done = cli("store", "export", release, f"{number}{len(release)}.tar", "--state", state, "--json")
        assert done.status == 0, done.stderr
        assert done.document["manifest_version"] == number
    for release in ("stable/x86_64#3", "stable/x86_64@1", "testing/arm64"):
        assert cli("store", "export", release, "x.tar", "--state", state).status == 3
    for release in ("stable", "stable/vax", "Stable/x86_64", "a/b/c", ""):
        assert cli("store", "export", release, "x.tar", "--state", state).status == 2
    assert not Path("x.tar").exists()
