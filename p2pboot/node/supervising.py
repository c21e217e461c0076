"""What a running node tells its service manager: one line of what is so now, as `systemctl status` shows it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

import trio

from p2pboot.node.overview import overview
from p2pboot.node.supervisor import Supervisor

log = logging.getLogger(__name__)

FOLLOW_S: Final = 3.0  # how often it is looked; only another line is told


class Telling(Protocol):
    """What has a status to tell, as a node has."""

    async def status(self, *, watched: bool = True) -> dict[str, Any]:
        """The whole status, as the control socket tells it."""


async def follow(node: Telling, supervisor: Supervisor) -> None:
    """Keep the service manager's line up to date until cancelled."""
    if not supervisor.is_there:
        return
    while True:
        try:
            line = status_line(await node.status(watched=False))
        except (
            Exception
        ) as error:  # as of a disk that can not be read: the node goes on, and this line says why
            log.debug("the status can not be told", exc_info=True)
            line = f"running; its status can not be told: {error}"
        await supervisor.status(line)
        await trio.sleep(FOLLOW_S)


def status_line(status: Mapping[str, Any]) -> str:
    """The status document in one line: whether it works, as everybody is told, and what is wrong first of all.

    Args:
        status: as the control socket tells it.
    """
    line = overview(status).text
    if status["problems"]:
        first = status["problems"][0]
        line += f"; {first['subject']}: {first['text']}"
    return line
