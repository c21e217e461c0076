"""Roll-outs: which machines take the ``.next`` manifest of a channel at which moment. Pure; nothing is remembered.

A machine's *place* is drawn from the roll-out's salt and the machine's name, and so differs from release to release;
the *fraction* grows from 0 to the planned percentage. Who is below it is in, and stays in while it is paused.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest.rollout import Rollout

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
    at = now if paused_since is None else min(now, paused_since)
    if at < rollout.start:
        return 0.0
    passed = 1.0 if rollout.duration_s == 0 else min((at - rollout.start) / rollout.duration_s, 1.0)
    return rollout.percent / 100 * passed


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


def machine_name(text: str) -> str:
    """Return a machine's name in the one spelling from which its place is drawn: lower case.

    Raises:
        ValueError: empty, longer than 64 characters, or with characters that are no letters, digits, or of ``:._-``.
    """
    name = text.strip().lower()
    if not 1 <= len(name) <= MAX_MACHINE_CHARS or not re.fullmatch(r"[a-z0-9:._-]+", name):
        raise ValueError(f"a machine's name has 1 to {MAX_MACHINE_CHARS} of a-z 0-9 : . _ -")
    return name


def choose_machine(uuid: str | None, macs: list[str]) -> str | None:
    """What a machine is called that was told no name: its SMBIOS UUID, else its lowest permanent MAC.

    Args:
        uuid: as firmware tells it, in any case; None where there is none.
        macs: permanent hardware addresses, as ``00:11:22:33:44:55``.

    Returns:
        None where it has neither, or none that tells machines apart.
    """
    found = (uuid or "").strip().lower()
    if _UUID.fullmatch(found) and set(found) - {"-"} not in ({"0"}, {"f"}):
        return found
    usable = sorted(mac for one in macs if _MAC.fullmatch(mac := one.strip().lower()))
    return next((mac for mac in usable if set(mac) - {":", "0"} and set(mac) - {":", "f"}), None)
