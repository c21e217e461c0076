"""Whom a roll-out reaches, and when; simulated over a fleet."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.manifest import Manifest, Rollout, content_digest
from p2pboot.core.names import next_channel
from p2pboot.core.rollouts import (
    Decision,
    Ended,
    Machine,
    choose_machine,
    decide,
    ended,
    fraction_of,
    machine_name,
    membership,
    pause_of,
    place_of,
)
from p2pboot.testing.manifests import NOW, key_of, signed_manifest

DAY = 86_400
FLEET = [f"{number:08x}-1234-5678-9abc-def012345678" for number in range(10_000)]
POINTS = 0.02


def manifest(seed: str, channel: str = "stable", rollout: Rollout | None = None) -> Manifest:
    files = {"kernel": f"{seed} kernel".encode(), "initramfs": b"the same"}
    return signed_manifest(files, [key_of("publisher")], channel=channel, rollout=rollout)


OLD = manifest("old")
PLAN = Rollout("stable", content_digest(OLD), NOW, 2 * DAY, 80, "salt")
NEW = manifest("new", "stable.next", PLAN)


def share(plan: Rollout, at: int, paused_since: int | None = None) -> float:
    taken = [membership(plan, machine=one, now=at, paused_since=paused_since).is_in for one in FLEET]
    return sum(taken) / len(FLEET)


@pytest.mark.parametrize("salt", ["salt", "another", "2026-11"])
@pytest.mark.parametrize(
    ("hours", "planned"), [(-1, 0.0), (0, 0.0), (6, 0.1), (24, 0.4), (48, 0.8), (999, 0.8)]
)
def test_of_a_fleet_as_many_are_in_as_were_planned(salt: str, hours: int, planned: float) -> None:
    plan = replace(PLAN, salt=salt)
    assert fraction_of(plan, NOW + hours * 3600) == pytest.approx(planned)
    assert share(plan, NOW + hours * 3600) == pytest.approx(planned, abs=POINTS)


def test_other_machines_are_the_first_in_another_release() -> None:
    first = {one for one in FLEET if place_of("one", one) < 0.1}
    second = {one for one in FLEET if place_of("other", one) < 0.1}
    assert len(first & second) / len(FLEET) == pytest.approx(0.01, abs=0.005)


@given(st.integers(0, 3 * DAY), st.integers(0, 3 * DAY), st.sampled_from(FLEET), st.integers(0, 100))
def test_who_is_in_stays_in(first: int, later: int, machine: str, percent: int) -> None:
    plan = replace(PLAN, percent=percent)
    before = membership(plan, machine=machine, now=NOW + first)
    assert before.is_in <= membership(plan, machine=machine, now=NOW + first + later).is_in
    paused = membership(plan, machine=machine, now=NOW + first + later, paused_since=NOW + first)
    assert paused.is_in == before.is_in
    moved = replace(plan, start=plan.start + later, resumed=NOW + first + later)
    resumed = membership(moved, machine=machine, now=NOW + first + later, paused_since=NOW + first - 1)
    assert resumed.is_in == before.is_in or not later


def test_a_pause_from_before_a_plan_went_on_is_over_and_a_later_one_counts() -> None:
    plan = replace(PLAN, resumed=NOW + 100)
    assert pause_of(PLAN, None) is None
    assert pause_of(PLAN, NOW + 50) == NOW + 50
    assert pause_of(plan, NOW + 99) is None
    assert pause_of(plan, NOW + 100) == NOW + 100


def test_at_once_and_for_all_takes_everybody() -> None:
    plan = replace(PLAN, duration_s=0, percent=100)
    assert share(plan, NOW - 1) == 0
    assert share(plan, NOW) == 1
    assert membership(plan, machine=None, now=NOW, wariness=1.0).is_in


def choose(machine: Machine, hours: float, into: Manifest = OLD, paused_since: int | None = None) -> Decision:
    return decide(into, NEW, machine, now=NOW + int(hours * 3600), paused_since=paused_since)


def test_wariness_stands_for_the_place() -> None:
    wary = Machine(None, wariness=0.5)
    assert not choose(wary, 29).takes_next
    assert choose(wary, 31).takes_next
    canary = Machine(None, wariness=0.0)
    assert not choose(canary, 0).takes_next
    assert choose(canary, 0.1).takes_next
    assert "as was asked for" in choose(canary, 1).why


def test_a_machine_without_a_name_stays_where_it_is() -> None:
    found = choose(Machine(None), 999)
    assert not found.takes_next
    assert "no name" in found.why


def test_a_pause_is_said() -> None:
    found = choose(Machine("m", "its MAC"), 40, paused_since=NOW + 3600)
    assert found.membership is not None
    assert found.membership.fraction == pytest.approx(0.8 / 48)
    assert "paused since" in found.why
    assert "by its MAC" in found.why
    assert "m" not in found.to_json()["why"].split()


def test_a_hotfix_and_a_promotion_end_it_and_a_renewal_does_not() -> None:
    everybody = Machine("m", wariness=0.0)
    assert not choose(everybody, 40, manifest("hotfix")).takes_next
    assert "something newer" in choose(everybody, 40, manifest("hotfix")).why
    assert "by now" in choose(everybody, 40, manifest("new")).why
    renewed = signed_manifest(
        {"kernel": b"old kernel", "initramfs": b"the same"},
        [key_of("publisher")],
        channel="stable",
        manifest_version=9,
    )
    assert choose(everybody, 40, renewed).takes_next
    assert ended(NEW, None, ()) is None
    assert ended(NEW, OLD, ()) is None
    assert ended(NEW, manifest("new"), ()) is Ended.PROMOTED
    assert ended(NEW, manifest("hotfix"), ()) is Ended.OVERTAKEN
    assert ended(NEW, OLD, {content_digest(manifest("new"))}) is Ended.ABORTED


def test_what_has_no_plan_or_another_channels_is_never_taken() -> None:
    canary = Machine("m", wariness=0.0)
    without = manifest("new", "stable.next")
    assert not decide(OLD, without, canary, now=NOW + 9 * DAY).takes_next
    assert not decide(manifest("old", "testing"), NEW, canary, now=NOW + 9 * DAY).takes_next


UUID = "4C4C4544-0042-3510-8054-B7C04F4B4D32"


@pytest.mark.parametrize(
    ("uuid", "macs", "name"),
    [
        (UUID, ["00:11:22:33:44:55"], UUID.lower()),
        (f" {UUID}\n", [], UUID.lower()),
        ("00000000-0000-0000-0000-000000000000", ["52:54:00:12:34:56"], "52:54:00:12:34:56"),
        ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", [], None),
        (None, ["B0:00:00:00:00:02", "a0:00:00:00:00:09"], "a0:00:00:00:00:09"),
        ("Not Settable", ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"], None),
        ("", [], None),
    ],
)
def test_a_machine_is_called_by_its_uuid_else_by_its_lowest_mac(
    uuid: str | None, macs: list[str], name: str | None
) -> None:
    assert choose_machine(uuid, macs) == name


def test_a_name_is_taken_as_it_is_but_for_the_case_of_hardware() -> None:
    assert machine_name(f" {UUID} ") == UUID.lower()
    assert machine_name("B0:00:00:00:00:0F") == "b0:00:00:00:00:0f"
    assert machine_name("Rack-7.A") == "Rack-7.A"
    for wrong in ("", " ", "x" * 65, "a b", "ä", "a/b"):
        with pytest.raises(ValueError, match="1 to 64"):
            machine_name(wrong)


def test_a_channel_of_a_roll_out_has_none_itself() -> None:
    assert next_channel("stable") == "stable.next"
    assert next_channel("stable.next") is None
    assert next_channel("x" * 59) == "x" * 59 + ".next"
    assert next_channel("x" * 60) is None
