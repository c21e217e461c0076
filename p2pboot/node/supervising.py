"""What a running node tells its service manager: one line of what is so now, as `systemctl status` shows it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import trio

from p2pboot.node.supervisor import Supervisor

log = logging.getLogger(__name__)

FOLLOW_S: Final = 3.0  # how often it is looked; only another line is told
_SHOWN: Final = 2  # releases on their way that are named


class Telling(Protocol):
    """What has a status to tell, as a node has."""

    async def status(self) -> dict[str, Any]:
        """The whole status, as the control socket tells it."""


async def follow(node: Telling, supervisor: Supervisor) -> None:
    """Keep the service manager's line up to date until cancelled."""
    if not supervisor.is_there:
        return
    while True:
        try:
            line = status_line(await node.status())
        except (
            Exception
        ) as error:  # a disk that can not be read: the node goes on, and this line says why it is short
            log.debug("the status can not be told", exc_info=True)
            line = f"running; its status can not be told: {error}"
        await supervisor.status(line)
        await trio.sleep(FOLLOW_S)


def status_line(status: Mapping[str, Any]) -> str:
    """The status document in one line: what is offered, to whom, what is on its way, and what is wrong.

    Args:
        status: as the control socket tells it.
    """
    offered = sum(not head["expired"] for head in status["heads"])
    snapshots = status.get("snapshots") or {}
    parts = [_count(offered, "release") + " offered", _count(status["peers_total"], "peer")]
    if snapshots.get("held"):
        parts.insert(1, _count(snapshots["held"], "snapshot"))
    line = ", ".join(parts)
    if status["fetching"]:
        line += f"; fetching {_fetching(status['fetching'])}"
    if status["problems"]:
        first = status["problems"][0]
        line += f"; {_count(len(status['problems']), 'problem')}: {first['subject']}: {first['text']}"
    return line


def _fetching(pending: Sequence[Mapping[str, Any]]) -> str:
    named = []
    for one in pending[:_SHOWN]:
        total = one.get("bytes_total")
        done = f" {100 * one['bytes_done'] // total} %" if total else ""
        named.append(f"{one['channel']}/{one['arch']}{done}")
    left = len(pending) - len(named)
    return ", ".join(named) + (f" and {left} more" if left else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
