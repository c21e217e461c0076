from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from p2pboot.core.manifest import Manifest, sign_detached
from p2pboot.core.trustdocs.rootbody import PublishRole
from p2pboot.testing.manifests import ALICE, BOB, DAY_S
from p2pboot.testing.trustdocs import FRESH, root_body, signed_root, statement_of, yank_of
from tests.cli.conftest import NOW, Cli, manifest_bytes


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# --- sign


def test_signers_sign_one_after_the_other_until_it_is_complete(
    cli: Cli, tmp_path: Path, alice_file: Path, bob_file: Path
) -> None:
    path = write(tmp_path / "m.json", manifest_bytes(ALICE, BOB, signed=False))
    first = cli("manifest", "sign", path, "--key", bob_file)
    assert first.status == 0
    assert f"still to sign: {ALICE.public.keyid}" in first.stderr
    second = cli("manifest", "sign", path, "--key", alice_file, "--detached")
    assert second.status == 0
    assert "complete" in second.stderr
    assert Manifest.parse(path.read_bytes()).signers == tuple(sorted([ALICE.public.keyid, BOB.public.keyid]))
    assert (tmp_path / "m.json.sig").read_text().strip() == sign_detached(path.read_bytes(), ALICE)
    assert (
        cli("manifest", "verify", path, "--trust", ALICE.public.hex, BOB.public.hex, "--threshold", 2).status
        == 0
    )


def test_sign_as_a_filter(cli: Cli, alice_file: Path) -> None:
    done = cli("manifest", "sign", "-", "--key", alice_file, stdin=manifest_bytes(ALICE, signed=False))
    assert done.status == 0
    assert done.stdout.encode() == manifest_bytes(ALICE)


def test_stranger_can_not_sign_and_nothing_is_written(cli: Cli, tmp_path: Path, bob_file: Path) -> None:
    raw = manifest_bytes(ALICE, signed=False)
    path = write(tmp_path / "m.json", raw)
    done = cli("manifest", "sign", path, "--key", bob_file, "--detached")
    assert done.status == 2
    assert BOB.public.keyid in done.error_line
    assert path.read_bytes() == raw
    assert {entry.name for entry in tmp_path.iterdir()} == {"m.json", "bob.toml"}


# --- show


def test_show_says_everything_a_person_asks(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", manifest_bytes(ALICE, BOB, signed=False, cmdline="console=ttyS0"))
    done = cli("manifest", "show", path)
    assert done.status == 0
    for text in ("stable/arm64", "2025.11.26", "console=ttyS0", "kernel", "has not signed yet", "sha256:"):
        assert text in done.stdout


def test_show_as_json_has_the_document_and_who_is_missing(cli: Cli, tmp_path: Path) -> None:
    raw = manifest_bytes()
    done = cli("manifest", "show", write(tmp_path / "m.json", raw), "--json")
    assert done.document["manifest"] == json.loads(raw)
    assert done.document["digest"] == Manifest.parse(raw).digest
    assert done.document["missing_signers"] == []


# --- verify


def verify(cli: Cli, tmp_path: Path, raw: bytes, *args: object) -> object:
    return cli("manifest", "verify", write(tmp_path / "m.json", raw), "--trust", ALICE.public.keyid, *args)


def test_good_manifest_is_accepted_and_every_check_is_said(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", manifest_bytes())
    done = cli(
        "manifest", "verify", path, "--trust", ALICE.public.keyid, "--channel", "stable", "--arch", "aarch64"
    )
    assert done.status == 0
    assert done.stderr == ""
    assert "accepted: stable/arm64" in done.stdout
    for check in ("structure", "signatures", "trust", "channel", "arch", "expiry", "rollback"):
        assert check in done.stdout


def test_verdict_as_json_carries_every_check(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", manifest_bytes())
    good = cli("manifest", "verify", path, "--trust", ALICE.public.peer_id, "--json")
    assert good.document["ok"] is True
    bad = cli("manifest", "verify", path, "--trust", BOB.public.keyid, "--json")
    assert bad.status == 1
    assert bad.document["ok"] is False
    assert bad.document["reason"] == "untrusted"
    assert bad.document["exit_status"] == 1
    assert {check["name"]: check["outcome"] for check in bad.document["checks"]}["trust"] == "failed"
    assert bad.error_line


def changed(raw: bytes, **members: object) -> bytes:
    return json.dumps(json.loads(raw) | members, sort_keys=True, separators=(",", ":")).encode()


GOOD = manifest_bytes()
REFUSED = {
    "truncated": (GOOD[:-20], "malformed"),
    "empty": (b"", "malformed"),
    "reordered": (json.dumps(json.loads(GOOD), indent=1).encode(), "malformed"),
    "duplicate keys": (GOOD.replace(b'{"arch":"arm64"', b'{"arch":"arm64","arch":"arm64"', 1), "malformed"),
    "trailing bytes": (GOOD + b"\n", "malformed"),
    "changed field": (changed(GOOD, version="2026.01.01"), "malformed"),
    "changed arch": (changed(GOOD, arch="x86_64"), "malformed"),
    "too large": (b" " * 70_000, "malformed"),
    "changed signature": (
        changed(
            GOOD, signatures=[{"keyid": ALICE.public.keyid, "sig": base64.b64encode(bytes(64)).decode()}]
        ),
        "signature",
    ),
    "expired": (manifest_bytes(created_at=NOW - 90000, expires_at=NOW - 10), "expired"),
    "valid for too long": (manifest_bytes(expires_at=NOW + 401 * 86_400), "lifetime"),
    "not yet valid": (manifest_bytes(created_at=NOW + 86_400), "not_yet_valid"),
    "wrong channel": (manifest_bytes(channel="testing"), "channel"),
    "wrong arch": (manifest_bytes(arch="x86_64"), "arch"),
    "unknown signer": (manifest_bytes(BOB), "untrusted"),
    "lower than the minimum": (manifest_bytes(manifest_version=2), "min_version"),
    "unsigned": (manifest_bytes(signed=False), "signature"),
}


@pytest.mark.parametrize(("raw", "reason"), REFUSED.values(), ids=list(REFUSED))
def test_bad_manifest_is_refused_with_one_clear_line(
    cli: Cli, tmp_path: Path, raw: bytes, reason: str
) -> None:
    path = write(tmp_path / "m.json", raw)
    args = ("--trust", ALICE.public.keyid, "--channel", "stable", "--arch", "arm64", "--min-version", 3)
    done = cli("manifest", "verify", path, *args)
    assert done.status == 1
    assert "; " in done.error_line, "a remedy belongs to it"
    assert done.stderr.count("\n") == 1
    as_json = cli("manifest", "verify", path, *args, "--json")
    assert as_json.status == 1
    assert as_json.document["reason"] == reason


def test_longer_lifetime_is_taken_where_the_operator_says_so(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", manifest_bytes(expires_at=NOW + 401 * 86_400))
    assert cli("manifest", "verify", path, "--trust", ALICE.public.keyid, "--max-lifetime", "2y").status == 2
    assert (
        cli("manifest", "verify", path, "--trust", ALICE.public.keyid, "--max-lifetime", "500d").status == 0
    )


def test_detached_signature_beside_the_file_is_checked(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", GOOD)
    signature = tmp_path / "m.json.sig"
    signature.write_text(sign_detached(GOOD, ALICE) + "\n")
    good = cli("manifest", "verify", path, "--trust", ALICE.public.keyid)
    assert good.status == 0
    assert "valid detached signature" in good.stdout
    for text in ("", "garbage \xff", base64.b64encode(ALICE.sign(GOOD + b"x")).decode(), "A" * 100_000):
        signature.write_text(text)
        bad = cli("manifest", "verify", path, "--trust", ALICE.public.keyid, "--json")
        assert bad.status == 1
        assert bad.document["reason"] == "detached"


def test_a_detached_signature_that_an_editor_saved_is_taken(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", manifest_bytes())
    good = sign_detached(path.read_bytes(), ALICE)
    for saved in ("\ufeff" + good, good + "\r\n", f"\ufeff{good}\r\n"):
        write(tmp_path / "m.json.sig", saved.encode())
        done = cli("manifest", "verify", path, "--trust", ALICE.public.keyid)
        assert "valid detached signature" in done.stdout, done.stderr
    write(tmp_path / "m.json.sig", good.encode("utf-16"))
    done = cli("manifest", "verify", path, "--trust", ALICE.public.keyid)
    assert done.status == 1
    assert "m.json.sig is saved as UTF-16" in done.error_line


def test_manifest_from_standard_input(cli: Cli) -> None:
    assert cli("manifest", "verify", "-", "--trust", ALICE.public.keyid, stdin=GOOD).status == 0
    assert cli("manifest", "show", "-", stdin=GOOD).status == 0


def test_state_remembers_and_refuses_what_is_older(cli: Cli, tmp_path: Path) -> None:
    state = tmp_path / "state"
    for version, status, reason in (
        (7, 0, None),
        (7, 0, None),
        (8, 0, None),
        (7, 1, "rollback"),
        (9, 0, None),
    ):
        path = write(tmp_path / "m.json", manifest_bytes(manifest_version=version))
        done = cli("manifest", "verify", path, "--trust", ALICE.public.keyid, "--state", state, "--json")
        assert (done.status, done.document["reason"]) == (status, reason), version


def test_refused_manifest_is_not_remembered(cli: Cli, tmp_path: Path) -> None:
    state = tmp_path / "state"
    high = write(tmp_path / "high.json", manifest_bytes(manifest_version=9, expires_at=NOW - 10))
    low = write(tmp_path / "low.json", manifest_bytes(manifest_version=2))
    assert cli("manifest", "verify", high, "--trust", ALICE.public.keyid, "--state", state).status == 1
    assert cli("manifest", "verify", low, "--trust", ALICE.public.keyid, "--state", state).status == 0


def test_two_manifests_of_one_version_are_equivocation_and_both_are_kept(cli: Cli, tmp_path: Path) -> None:
    from p2pboot.store.store import Store

    state = tmp_path / "state"
    one, other = manifest_bytes(), manifest_bytes(kernel="d" * 64)
    first = cli(
        "manifest", "verify", write(tmp_path / "1", one), "--trust", ALICE.public.keyid, "--state", state
    )
    second = cli(
        "manifest",
        "verify",
        write(tmp_path / "2", other),
        "--trust",
        ALICE.public.keyid,
        "--state",
        state,
        "--json",
    )
    assert first.status == 0
    assert second.document["reason"] == "equivocation"
    with Store.open(state) as store:
        (evidence,) = store.trust.equivocations()
    assert {evidence.first, evidence.second} == {one, other}


def test_trust_of_another_publisher_starts_anew(cli: Cli, tmp_path: Path) -> None:
    state = tmp_path / "state"
    alices = write(tmp_path / "a.json", manifest_bytes(manifest_version=9))
    bobs = write(tmp_path / "b.json", manifest_bytes(BOB, manifest_version=1))
    assert cli("manifest", "verify", alices, "--trust", ALICE.public.keyid, "--state", state).status == 0
    assert cli("manifest", "verify", bobs, "--trust", BOB.public.keyid, "--state", state).status == 0
    assert cli("manifest", "verify", bobs, "--trust", BOB.public.keyid, "--state", state).status == 0
    assert cli("manifest", "verify", alices, "--trust", ALICE.public.keyid, "--state", state).status == 0


def test_trust_from_the_configuration_file(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", GOOD)
    (tmp_path / "c.toml").write_text(f'[[trust]]\nkeys = ["{ALICE.public.keyid}"]\nchannels = ["stable"]\n')
    assert cli("manifest", "verify", path, "--config", "c.toml").status == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "no trusted key"),
        (("--trust", "nonsense"), "--trust"),
        (("--trust", ALICE.public.keyid, "--threshold", "2"), "--threshold"),
        (("--trust", ALICE.public.keyid, "--threshold", "0"), "--threshold"),
        (("--trust", ALICE.public.keyid, "--channel", "UP"), "--channel"),
        (("--trust", ALICE.public.keyid, "--arch", "mips"), "--arch"),
        (("--trust", ALICE.public.keyid, "--min-version", "-1"), "--min-version"),
        (("--trust", ALICE.public.keyid, "--config", "absent.toml"), "absent.toml"),
    ],
)
def test_wrong_usage_of_verify(cli: Cli, tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    done = cli("manifest", "verify", write(tmp_path / "m.json", GOOD), *args)
    assert done.status == 2
    assert said in done.error_line


@pytest.mark.parametrize("command", ["show", "verify", "sign"])
def test_missing_file_and_directory_are_wrong_usage(
    cli: Cli, tmp_path: Path, alice_file: Path, command: str
) -> None:
    extra = {"verify": ("--trust", ALICE.public.keyid), "sign": ("--key", alice_file), "show": ()}[command]
    absent = cli("manifest", command, "absent.json", *extra)
    assert absent.status == 2
    assert "absent.json" in absent.error_line
    directory = cli("manifest", command, tmp_path, *extra)
    assert directory.status == 2
    assert "is a directory" in directory.error_line


# --- verify, by what trust documents say


FRESHLY = ("--freshness", FRESH.public.keyid, "--freshness-required")


def test_a_manifest_is_as_new_as_the_statement_beside_it_says(cli: Cli, tmp_path: Path) -> None:
    manifest = Manifest.parse(GOOD)
    path, beside = write(tmp_path / "m.json", GOOD), tmp_path / "freshness.json"
    trust = ("--trust", ALICE.public.keyid, *FRESHLY)
    assert "one is required" in cli("manifest", "verify", path, *trust).error_line
    write(beside, statement_of(manifest, created_at=NOW - 7200).raw)
    good = cli("manifest", "verify", path, *trust, "--json")
    checks = {check["name"]: check for check in good.document["checks"]}
    assert checks["freshness"]["outcome"] == "passed"
    assert "by this machine's clock" in checks["freshness"]["detail"]
    write(beside, statement_of(manifest, created_at=NOW - 8 * 86_400).raw)
    bad = cli("manifest", "verify", path, *trust, "--freshness-file", beside, "--json")
    assert (bad.status, bad.document["reason"]) == (1, "stale")
    all_the_same = cli("manifest", "verify", path, *trust, "--freshness-file", beside, "--accept-stale")
    assert all_the_same.status == 0
    assert "--accept-stale" in all_the_same.stdout
    write(beside, statement_of(manifest, keys=[BOB], created_at=NOW - 60).raw)
    foreign = cli("manifest", "verify", path, *trust, "--freshness-file", beside)
    assert foreign.status == 1
    assert (
        "freshness.json: the freshness statement of stable/arm64 is not signed by who" in foreign.error_line
    )
    left = cli(
        "manifest", "verify", path, *trust[:-1]
    )  # of keys that have no say any more, as an old fetch left it
    assert left.status == 0
    assert "it does not count" in left.stderr
    assert cli("manifest", "verify", path, *trust[:2]).stderr == ""
    write(beside, statement_of(manifest, created_at=NOW + 86_400).raw)
    ahead = cli("manifest", "verify", path, *trust, "--freshness-file", beside)
    assert "dated later than this machine's clock" in ahead.error_line


def test_a_yanked_manifest_is_refused_and_a_state_remembers_it(cli: Cli, tmp_path: Path) -> None:
    yank = yank_of(Manifest.parse(GOOD), keys=[ALICE], reason="eats disks")
    path, file = write(tmp_path / "m.json", GOOD), write(tmp_path / "yank.json", yank.raw)
    arguments = ("manifest", "verify", path, "--trust", ALICE.public.keyid, "--state", tmp_path / "state")
    assert cli(*arguments).status == 0
    refused = cli(*arguments, "--yank", file)
    assert refused.status == 1
    assert "eats disks" in refused.error_line
    assert "eats disks" in cli(*arguments).error_line
    assert (
        "not signed by enough"
        in cli("manifest", "verify", path, "--trust", BOB.public.keyid, "--yank", file).error_line
    )


def test_a_manifest_is_verified_by_a_root_and_not_without_a_clock_where_one_is_wanted(
    cli: Cli, tmp_path: Path
) -> None:
    root = signed_root(root_body(publish=(PublishRole((ALICE.public.keyid,)),), created_at=NOW))
    path, file = write(tmp_path / "m.json", GOOD), write(tmp_path / "root.json", root.raw)
    done = cli("manifest", "verify", path, "--root", file, "--json")
    assert {check["name"]: check["outcome"] for check in done.document["checks"]}["root"] == "passed"
    unknown = cli("manifest", "verify", path, "--root", f"sha256:{root.digest}")
    assert (unknown.status, "--root FILE" in unknown.stderr) == (3, True)
    dead = cli("manifest", "verify", path, "--root", file, "--require-clock", wall=lambda: 0)
    assert dead.status == 1
    assert "clock can not be believed" in dead.error_line


def test_a_dead_clock_goes_by_the_date_of_the_root(cli: Cli, tmp_path: Path) -> None:
    expired = manifest_bytes(created_at=NOW - 9 * DAY_S, expires_at=NOW - DAY_S)
    path = write(tmp_path / "m.json", expired)
    made = [
        signed_root(root_body(publish=(PublishRole((ALICE.public.keyid,)),), created_at=at))
        for at in (0, NOW)
    ]
    old, new = (write(tmp_path / f"{at}.json", root.raw) for at, root in enumerate(made))
    assert (
        cli("manifest", "verify", path, "--root", old, wall=lambda: 0).status == 0
    )  # nothing tells of the time
    refused = cli("manifest", "verify", path, "--root", new, "--json", wall=lambda: 0)
    assert (refused.status, refused.document["reason"]) == (1, "expired")
    far = signed_root(
        root_body(publish=(PublishRole((ALICE.public.keyid,)),), created_at=NOW, expires_at=NOW + 60)
    )
    write(new, far.raw)
    ahead = cli("manifest", "verify", path, "--root", new, "--json", wall=lambda: NOW - 2 * DAY_S)
    assert (ahead.status, ahead.document["reason"]) == (1, "expired")
