"""Machines whose clocks were wrong for a while: what they refuse, what they say of it, and how they come out of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Key, make_key
from tests.acceptance.program import AS_MUCH, LOOPBACK, Finished, Program, Running, wait_until, write_image

YEARS_S = 5 * 365 * 86_400
PAIR = ("--channel", "stable", "--arch", "arm64")
NETWORK = ("--no-mdns", "--listen", LOOPBACK)


def serve(program: Program, image: Path, key: Key, state: Path, **how: Any) -> Running:
    node = program.start("serve", image, *PAIR, "--key", key.path, "--state", state, *NETWORK, **how)
    node.first_line()
    return node


def end(node: Running) -> None:
    node.signal(15)
    assert node.wait().status == 0


def fetch(program: Program, key: Key, node: Running, output: Path, **how: Any) -> Finished:
    trust = ("--trust", key.keyid, "--no-mdns", "--bootstrap", node.first_line())
    return program.run("fetch", *PAIR, *trust, "--timeout", "20", "-o", output, **how)


def recover(program: Program, state: Path, *more: str) -> Any:
    return program.ok("state", "recover", "--state", state, *more, "--json").document


def build(program: Program, image: Path, key: Key, output: Path, number: int, **how: Any) -> Path:
    program.ok(
        "manifest", "build", image, *PAIR, "--key", key.path, "--state", output.parent / "built",
        "--manifest-version", str(number), "-o", output, **how,
    )  # fmt: skip
    return output


def test_a_client_whose_clock_was_ahead_with_the_publishers_is_told_and_mended(
    program: Program, alice: Key, tmp_path: Path
) -> None:
    image, output = write_image(tmp_path / "image", "1", rootfs=0), tmp_path / "boot"
    state = output / ".p2pboot"
    node = serve(program, image, alice, tmp_path / "p", clock_s=YEARS_S)
    assert fetch(program, alice, node, output, clock_s=YEARS_S).status == 0
    end(node)

    write_image(image, "2", rootfs=0)
    node = serve(program, image, alice, tmp_path / "p")  # both clocks are right again
    refused = fetch(program, alice, node, output)
    assert refused.status == 1, refused
    assert "expired" in refused.complaint
    assert f"p2pboot state recover --state {state}" in refused.complaint

    shown = recover(program, state, "--dry-run")
    assert [(one["code"], one["mended"]) for one in shown["findings"]] == [("future-time", False)]
    assert fetch(program, alice, node, output).status == 1
    mended = recover(program, state)
    assert [(one["code"], one["mended"]) for one in mended["findings"]] == [("future-time", True)]
    assert fetch(program, alice, node, output).status == 0
    after = recover(program, state)
    assert after["findings"] == []
    assert [head["manifest_version"] for head in after["heads"]] == [2]
    assert "nothing to mend" in program.ok("state", "recover", "--state", state).stdout.decode()


def test_a_mirror_whose_clock_was_ahead_goes_on_after_its_state_is_mended(
    program: Program, alice: Key, tmp_path: Path
) -> None:
    image, state = write_image(tmp_path / "image", "1", rootfs=0), tmp_path / "m"

    def mirror(**how: Any) -> Running:
        node = program.start(
            "mirror", *PAIR, "--trust", alice.keyid, "--bootstrap", publisher.first_line(), "--key",
            tmp_path / "m.toml", "--state", state, *NETWORK, *AS_MUCH, **how,
        )  # fmt: skip
        node.first_line()
        return node

    def held() -> list[int]:
        status = program.ok("status", "--state", state, "--json").document
        return [head["manifest_version"] for head in status["heads"]]

    publisher = serve(program, image, alice, tmp_path / "p", clock_s=YEARS_S)
    node = mirror(clock_s=YEARS_S)
    wait_until(lambda: held() == [1], "the mirror has version 1")
    assert recover(program, state, "--dry-run")["findings"]  # looking needs nobody to stop
    busy = program.run("state", "recover", "--state", state)
    assert (busy.status, str(node.pid) in busy.complaint) == (4, True), busy
    end(node)
    end(publisher)

    write_image(image, "2", rootfs=0)
    publisher = serve(program, image, alice, tmp_path / "p")
    node = mirror()

    def clock_problems() -> list[dict[str, str]]:
        found = program.ok("status", "--state", state, "--json").document["problems"]
        return [one for one in found if one["code"] == "clock"]

    wait_until(lambda: bool(clock_problems()), "the mirror has looked at its clock")
    (problem,) = clock_problems()
    assert str(state) in problem["text"]
    assert f"state recover --state {state}" in problem["remedy"]
    end(node)
    assert recover(program, state)["findings"][0]["mended"]
    mirror()
    wait_until(lambda: held() == [2], "the mirror has version 2")


def test_a_verifier_with_a_state_is_told_and_mended(program: Program, alice: Key, tmp_path: Path) -> None:
    image, state = write_image(tmp_path / "image", rootfs=0), tmp_path / "state of mine"
    ahead = build(program, image, alice, tmp_path / "1.json", 1, clock_s=YEARS_S)
    today = build(program, image, alice, tmp_path / "2.json", 2)
    judge = ("--trust", alice.keyid, "--state", state)
    program.refuses(
        1, "not valid yet", "the publisher's was ahead", args=("manifest", "verify", ahead, *judge)
    )
    program.ok("manifest", "verify", ahead, *judge, clock_s=YEARS_S)
    done = program.refuses(1, "expired", args=("manifest", "verify", today, *judge))
    assert f"state recover --state '{state}'" in done.complaint
    recover(program, state)
    program.ok("manifest", "verify", today, *judge)
    program.refuses(1, "older than 2", args=("manifest", "verify", ahead, *judge), clock_s=YEARS_S)


def test_a_key_that_is_trusted_no_more_holds_no_clock(
    program: Program, alice: Key, bob: Key, tmp_path: Path
) -> None:
    image, state = write_image(tmp_path / "image", rootfs=0), tmp_path / "state"
    ahead = build(program, image, alice, tmp_path / "1.json", 1, clock_s=YEARS_S)
    today = build(program, image, bob, tmp_path / "2.json", 2)
    program.ok("manifest", "verify", ahead, "--trust", alice.keyid, "--state", state, clock_s=YEARS_S)
    program.refuses(
        1, "expired", args=("manifest", "verify", today, "--trust", alice.keyid, bob.keyid, "--state", state)
    )
    program.ok("manifest", "verify", today, "--trust", bob.keyid, "--state", state)


def test_a_dead_clock_boots_and_one_turned_back_revives_nothing(
    program: Program, alice: Key, tmp_path: Path
) -> None:
    image, state = write_image(tmp_path / "image", rootfs=0), tmp_path / "state"
    old = build(program, image, alice, tmp_path / "1.json", 1)
    new = build(program, image, alice, tmp_path / "2.json", 2, clock_s=40 * 86_400)
    judge = ("--trust", alice.keyid, "--state", state)
    dead_s = -1_700_000_000
    said = program.ok("manifest", "verify", old, *judge, clock_s=dead_s).stdout.decode()
    assert "clock not trusted" in said
    program.ok("manifest", "verify", new, *judge, clock_s=40 * 86_400)
    for clock_s in (0, dead_s):  # within the validity of `old`, and long before it
        done = program.run("manifest", "verify", old, *judge, "--json", clock_s=clock_s)
        failed = [check["name"] for check in done.document["checks"] if check["outcome"] == "failed"]
        assert failed == ["rollback", "expiry"]
    refused = program.run("state", "recover", "--state", state, clock_s=dead_s)
    assert (refused.status, "set the clock first" in refused.complaint) == (4, True), refused


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--json",)])
def test_what_is_no_state_is_refused_and_left_as_it_is(
    program: Program, tmp_path: Path, more: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        done = program.run("state", "recover", "--state", tmp_path / name, *more)
        assert (done.status, "is no state directory" in done.complaint) == (2, True), done
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty"]


def test_showing_changes_nothing(program: Program, alice: Key, tmp_path: Path) -> None:
    image, state = write_image(tmp_path / "image", rootfs=0), tmp_path / "state"
    ahead = build(program, image, alice, tmp_path / "1.json", 1, clock_s=YEARS_S)
    program.ok("manifest", "verify", ahead, "--trust", alice.keyid, "--state", state, clock_s=YEARS_S)

    def dump() -> list[str]:
        with closing(sqlite3.connect(state / "state.sqlite3")) as sql:
            return list(sql.iterdump())

    before = dump()
    said = program.ok("state", "recover", "--state", state, "--dry-run").stdout.decode()
    assert "IN THE FUTURE" in said
    assert "would do" in said
    assert dump() == before


def test_a_publishers_state_is_shown_with_its_counters(program: Program, tmp_path: Path) -> None:
    key = make_key(program, tmp_path / "key.toml")
    image = write_image(tmp_path / "image", rootfs=0)
    build(program, image, key, tmp_path / "1.json", 5, clock_s=YEARS_S)
    shown = recover(program, tmp_path / "built")
    (one,) = shown["publications"]
    assert (one["manifest_version"], one["in_future"], one["signers"]) == (5, True, [key.keyid])
    assert [(finding["code"], finding["mended"]) for finding in shown["findings"]] == [
        ("future-publication", False),
        ("future-date", True),
    ]
