"""What will be wrong before long, while there is time to mend it: dates that run out, and room that does.

Each function looks at the present state and returns all the problems of its kind.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from p2pboot.core.amounts import size_text
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import format_time
from p2pboot.errors import machine_error
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.durable import free_bytes
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store

EXPIRING_SHARE: Final = 4
"""A manifest is told of when less than one part in so many of its validity is left: its publisher renews it at a third,
and what is on the way by then has time enough to come."""

EXPIRING_STANDBY_SHARE: Final = 8
"""The same at a second publisher with the same key, which waits with the renewal until a sixth is left."""

EXPIRING_MOST_S: Final = 14 * 86_400
"""What is valid for a year or more is told of so long before its end, and not months."""

SPARE_SHARE: Final = 10
"""A store is nearly full when the next versions would leave less than one part in so many of its limit."""

STANDING_SHARE: Final = 50
"""What stands already ends when there is so much more room, one part in so many: disks are written to all the time."""

DISK_SHARE: Final = 20
"""A disk is nearly full when less than one part in so many of it is free, …"""

DISK_MOST_BYTES: Final = 1 << 30
"""… and less than so much: a twentieth of a large disk is plenty."""


def expiring_problems(store: Store, catalogue: Catalogue) -> list[Problem]:
    """What is offered, expires soon, and was not renewed when it should have been; blocking."""
    now = catalogue.clock().now
    known = store.manifests.known()
    found = []
    for row in catalogue.offered():
        if row.expires_at - now >= _lead_s(store, catalogue, row):
            continue
        later = [one for one in known if one.pair == row.pair and one.expires_at > row.expires_at]
        newer = max(
            (one for one in later if catalogue.trust.takes(one) and one.fault is None),
            key=lambda one: one.manifest_version,
            default=None,
        )
        found.append(_expiring(row, newer, is_own=catalogue.trust.is_own(row)))
    return found


def _lead_s(store: Store, catalogue: Catalogue, row: HeadRow) -> int:
    """How long before its end a manifest is to be told of."""
    share = EXPIRING_SHARE
    if catalogue.trust.is_own(row) and store.publications.is_from_elsewhere(row.digest):
        share = EXPIRING_STANDBY_SHARE
    return min((row.expires_at - row.created_at) // share, EXPIRING_MOST_S)


def _expiring(row: HeadRow, newer: HeadRow | None, *, is_own: bool) -> Problem:
    text = f"version {row.manifest_version} expires at {format_time(row.expires_at)}"
    if newer is not None:
        text += f", and version {newer.manifest_version}, which replaces it, is not complete here"
        remedy = "see in `p2pboot status` what its fetch waits for"
    elif is_own:
        text += ", and could not be renewed"
        remedy = "mend what else `p2pboot status` says of it, the clock or the state"
    else:
        text += ", and was not renewed"
        remedy = "see that its publisher runs and is reached from here; what was signed by hand, sign anew"
    return Problem(Code.EXPIRING, "/".join(row.pair), text, remedy)


def disk_problems(directory: Path, *, stands: bool = False) -> list[Problem]:
    """Whether the disk with a directory is nearly full; blocking.

    Args:
        directory: of the state; is there.
        stands: whether it was so the last time.

    Raises:
        MachineError: it can not be looked at.
    """
    try:
        status = os.statvfs(directory)
        free = free_bytes(directory)
    except OSError as error:
        raise machine_error(error, f"look at {directory}") from error
    size = status.f_blocks * status.f_frsize  # 0 where the file system does not tell
    least = min(size // DISK_SHARE, DISK_MOST_BYTES)
    if free >= least + (least // STANDING_SHARE if stands else 0):
        return []
    return [
        Problem(
            Code.NEARLY_FULL,
            str(directory),
            f"less than {size_text(least)} of the disk's {size_text(size)} are free",
            "free some space, or give the state directory a larger disk: on a full one nothing is fetched or renewed",
        )
    ]


def little_room(subject: str, needed: int, limit: int, *, varies: bool) -> Problem:
    """That the next version of what is followed fits, but hardly one that is larger.

    Args:
        subject: the channel and arch whose next version needs most.
        needed: bytes of what is kept of everything, and the next version.
        limit: bytes that the store may hold.
        varies: whether that is what the disk has left: then it is no part of the text, or every look would be news.
    """
    of = "what the disk has left but for a tenth" if varies else size_text(limit)
    more = "free space" if varies else "raise store.quota (--quota)"
    return Problem(
        Code.NEARLY_FULL,
        subject,
        f"the next version just fits: with it the store would hold {size_text(needed)} of {of}",
        f"{more} before images grow by more than {size_text(limit - needed)}",
    )
