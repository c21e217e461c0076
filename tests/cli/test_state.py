"""A state that lost its memory is named by every command that would use it, and recovered as the operator says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pboot.testing.manifests import ALICE
from tests.cli.conftest import Cli, manifest_bytes
from tests.cli.test_build import CHANNEL, images

__all__ = ["images"]

TRUST = ("--trust", ALICE.public.keyid)


def build(cli: Cli, images: Path, content: bytes) -> int:
    (images / "rootfs.img").write_bytes(content)
    done = cli("manifest", "build", images, *CHANNEL, "--state", "state", "--json")
    assert done.status == 0, done.stderr
    return int(done.document["manifest"]["manifest_version"])


def test_a_publishers_state_that_was_cut_to_nothing_does_not_begin_at_one_again(
    cli: Cli, images: Path
) -> None:
    assert [build(cli, images, content) for content in (b"1", b"2", b"3")] == [1, 2, 3]
    database = Path("state/state.sqlite3")
    database.write_bytes(b"")
    refused = cli("manifest", "build", images, *CHANNEL, "--state", "state")
    assert refused.status == 1
    assert "state/state.sqlite3 is gone or empty" in refused.error_line
    assert "p2pboot state recover --state" in refused.error_line
    shown = cli("state", "recover", "--state", "state")
    assert shown.status == 1
    assert "published  stable/arm64  database none, record 3" in shown.stdout
    assert "--trust-record" in shown.error_line
    assert "--trust-database" not in shown.error_line
    assert database.read_bytes() == b""
    assert cli("state", "recover", "--state", "state", "--trust-database").status == 2
    assert (
        "would do   trust-record"
        in cli("state", "recover", "--state", "state", "--trust-record", "--dry-run").stdout
    )
    assert database.read_bytes() == b""
    gone_on = cli("state", "recover", "--state", "state", "--trust-record")
    assert gone_on.status == 0
    assert "went on    trust-record: nothing goes below" in gone_on.stdout
    assert "published  stable/arm64  manifest version 3" in gone_on.stdout
    assert build(cli, images, b"4") == 4


def test_what_is_in_doubt_is_a_document_too(cli: Cli, images: Path) -> None:
    build(cli, images, b"1")
    Path("state/record").unlink()
    shown = cli("state", "recover", "--state", "state", "--json")
    assert shown.status == 1
    document = json.loads(shown.stdout or shown.stderr)
    assert document["doubt"] == "record-gone"
    assert document["ways"] == ["trust-database", "start-over"]
    assert [(one["kind"], one["database"], one["record"]) for one in document["differences"]] == [
        ("published", 1, None)
    ]
    gone_on = cli("state", "recover", "--state", "state", "--trust-database", "--json")
    assert gone_on.document["publications"][0]["manifest_version"] == 1
    for way, status in (("--trust-database", 0), ("--start-over", 2)):  # it is in doubt no longer
        assert cli("state", "recover", "--state", "state", way).status == status
    Path("state/record").write_bytes(b"")
    over = cli("state", "recover", "--state", "state", "--start-over", "--json")
    assert (over.status, over.document["way"]) == (0, "start-over")
    assert build(cli, images, b"2") == 1


@pytest.mark.parametrize("command", ["manifest verify", "fetch", "serve"])
def test_nothing_is_accepted_or_served_without_a_database(cli: Cli, images: Path, command: str) -> None:
    Path("m.json").write_bytes(manifest_bytes())
    verify = ("manifest", "verify", "m.json", *TRUST, "--state", "state")
    assert cli(*verify).status == 0
    Path("state/state.sqlite3").unlink()
    refused = {
        "manifest verify": lambda: cli(*verify),
        "fetch": lambda: cli(
            "fetch", *CHANNEL, *TRUST, "--state", "state", "-o", "out", "--bootstrap", "/ip4/127.0.0.1/tcp/1"
        ),
        "serve": lambda: cli("serve", images, *CHANNEL, "--state", "state"),
    }[command]()
    assert refused.status == 1
    assert "state.sqlite3 is gone or empty" in refused.error_line
    assert not Path("state/state.sqlite3").exists()
