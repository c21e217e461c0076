"""Roll-outs: which machines take the ``.next`` manifest of a channel at which moment. Pure; nothing is remembered.

A machine's *place* is drawn from the roll-out's salt and the machine's name, and so differs from release to release;
the *fraction* grows from 0 to the planned percentage. Who is below it is in, and stays in while it is paused.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Container
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Rollout, Statement, content_digest
from p2pboot.core.timestamps import format_time

PLACE: Final = b"p2pboot-place/1"
MAX_MACHINE_CHARS: Final = 64
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAC: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class Membership:
    """Whether a machine is in, and why: for people.

    Args:
        is_in: whether it takes the ``.next`` manifest.
        place: of the machine, from 0 (first) to 1 (last).
        fraction: of the machines that are in by now.
    """

    is_in: bool
    place: float
    fraction: float


def place_of(salt: str, machine: str) -> float:
    """Where a machine stands in a roll-out: from 0 (first) to below 1.

    Args:
        salt: of the roll-out.
        machine: its name, as `machine_name` writes it.
    """
    digest = hashlib.sha256(b"\0".join((PLACE, salt.encode(), machine.encode()))).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def fraction_of(rollout: Rollout, now: int, paused_since: int | None = None) -> float:
    """How many of the machines are in, from 0 to 1.

    Args:
        rollout: the plan.
        now: unix seconds.
        paused_since: unix seconds; None while it goes on.
    """
    at = min(now, pause) if (pause := pause_of(rollout, paused_since)) is not None else now
    if at < rollout.start:
        return 0.0
    passed = 1.0 if rollout.duration_s == 0 else min((at - rollout.start) / rollout.duration_s, 1.0)
    return rollout.percent / 100 * passed


def pause_of(rollout: Rollout, paused_since: int | None) -> int | None:
    """Since when a roll-out is paused, unix seconds; None while it goes on.

    A statement and a manifest do not arrive in one moment: a plan that went on says itself that it did, so that who
    was in does not fall out while the statement is on its way.

    Args:
        rollout: the plan.
        paused_since: as the newest statement has it.
    """
    is_over = paused_since is not None and rollout.resumed is not None and paused_since < rollout.resumed
    return None if is_over else paused_since


def membership(
    rollout: Rollout,
    *,
    machine: str | None,
    now: int,
    paused_since: int | None = None,
    wariness: float | None = None,
) -> Membership:
    """Whether a machine is in.

    Args:
        rollout: the plan.
        machine: its name; None for one that has none, which is not.
        now: unix seconds.
        paused_since: unix seconds; None while it goes on.
        wariness: from 0 (first) to 1 (last), in place of the place that is drawn; None to draw it.
    """
    fraction = fraction_of(rollout, now, paused_since)
    if wariness is None and machine is None:
        return Membership(is_in=False, place=1.0, fraction=fraction)
    place = place_of(rollout.salt, machine or "") if wariness is None else wariness
    return Membership(place < fraction or fraction >= 1, place, fraction)


class Ended(enum.StrEnum):
    """Why a roll-out is over."""

    PROMOTED = "promoted"  # what it rolled out is what the channel has now
    ABORTED = "aborted"  # what it rolls out is yanked
    OVERTAKEN = "overtaken"  # the channel has other content than the one that it takes the place of


def ended(rolled_out: Statement, into: Statement | None, yanked: Container[str]) -> Ended | None:
    """Why a roll-out is over; None while it is not, as far as is known.

    Args:
        rolled_out: the manifest of the ``.next`` channel, with its plan.
        into: the head of the channel itself; None where it is not known.
        yanked: the digests of contents that are yanked.
    """
    content = content_digest(rolled_out)
    if content in yanked:
        return Ended.ABORTED
    if into is None or rolled_out.rollout is None:
        return None
    found = content_digest(into)
    if found == content:
        return Ended.PROMOTED
    return None if found == rolled_out.rollout.over else Ended.OVERTAKEN


@dataclass(frozen=True, slots=True)
class Machine:
    """How a machine takes part in roll-outs.

    Args:
        name: as `machine_name` writes it; None where it has none.
        known_by: what that is, for people: "SMBIOS UUID".
        wariness: from 0 (first) to 1 (last), in place of the place that is drawn; None to draw it.
    """

    name: str | None
    known_by: str = "its name"
    wariness: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Which of two manifests a machine takes, and why.

    Args:
        takes_next: whether it takes the one that is rolled out.
        why: one line for a person.
        membership: of the machine; None where it was not even asked for.
    """

    takes_next: bool
    why: str
    membership: Membership | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document; a machine's name is not among them."""
        asked = self.membership
        return {
            "taken": self.takes_next,
            "why": self.why,
            "place": None if asked is None else asked.place,
            "fraction": None if asked is None else asked.fraction,
        }


def decide(
    into: Statement, rolled_out: Statement, machine: Machine, *, now: int, paused_since: int | None = None
) -> Decision:
    """Say whether a machine takes what is rolled out in place of what its channel has.

    Both have passed every check of their own pair.

    Args:
        into: the manifest of the channel that it asked for, which it takes otherwise.
        rolled_out: the manifest of the ``.next`` channel.
        machine: it.
        now: unix seconds.
        paused_since: unix seconds, as the newest statement of the ``.next`` channel has it; None while it goes on.
    """
    plan = rolled_out.rollout
    if plan is None or plan.into != into.channel or rolled_out.arch != into.arch:
        return Decision(False, f"what is in {rolled_out.channel} is no roll-out into {into.channel}")
    over = ended(rolled_out, into, ())
    if over is Ended.PROMOTED:
        return Decision(False, f"what was rolled out is in {into.channel} by now")
    if over is not None:
        return Decision(False, f"{into.channel} has something newer than what the roll-out replaces")
    found = membership(
        plan, machine=machine.name, now=now, paused_since=paused_since, wariness=machine.wariness
    )
    if machine.name is None and machine.wariness is None:
        return Decision(False, "this machine has no name of which its place could be drawn", found)
    pause = pause_of(plan, paused_since)
    paused = "" if pause is None else f", paused since {format_time(pause)}"
    by = f"by {machine.known_by}" if machine.wariness is None else "as was asked for"
    said = f"place {found.place:.3f} ({by}), and {found.fraction:.1%} are in{paused}"
    return Decision(found.is_in, said, found)


def machine_name(text: str) -> str:
    """Return a machine's name as its place is drawn from it: as it was given, but a UUID or a MAC in lower case.

    Firmware and people write those two in either case; of other names upper and lower case are two.

    Raises:
        ValueError: empty, longer than 64 characters, or with characters that are no letters, digits, or of ``:._-``.
    """
    name = text.strip()
    if not 1 <= len(name) <= MAX_MACHINE_CHARS or not re.fullmatch(r"[A-Za-z0-9:._-]+", name):
        raise ValueError(f"a machine's name has 1 to {MAX_MACHINE_CHARS} of A-Z a-z 0-9 : . _ -")
    lower = name.lower()
    return lower if _UUID.fullmatch(lower) or _MAC.fullmatch(lower) else name


def choose_machine(uuid: str | None, macs: list[str]) -> str | None:
    """What a machine is called that was told no name: its SMBIOS UUID, else its lowest permanent MAC.

    Args:
        uuid: as firmware tells it, in any case; None where there is none.
        macs: permanent hardware addresses, as ``00:11:22:33:44:55``.

    Returns:
        None where it has neither, or none that tells machines apart.
    """
    found = (uuid or "").strip().lower()
    if _UUID.fullmatch(found) and not is_nobodys(found):
        return found
    usable = sorted(mac for one in macs if _MAC.fullmatch(mac := one.strip().lower()))
    return next((mac for mac in usable if not is_nobodys(mac)), None)


def is_nobodys(name: str) -> bool:
    """Whether a UUID or a MAC is all 0 or all f: firmware's word for "I do not know", on any number of machines."""
    return set(name.lower()) - {"-", ":"} in ({"0"}, {"f"})
