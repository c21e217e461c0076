"""What the control socket is asked: publish now, and how things stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from p2pboot.core.timestamps import format_time
from p2pboot.errors import UsageError
from p2pboot.node.problems import Problems
from p2pboot.node.publishing import SOURCE as PUBLISHER
from p2pboot.node.publishing import DirectoryPublisher
from p2pboot.node.status import RunningNode, describe_manifest, describe_node
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store


class Answers:
    """Answers requests of the control socket.

    Args:
        store: the node's.
        catalogue: of the same store.
        publisher: of its directory; None on a mirror.
        problems: all that is wrong.
        running: what only the running node knows.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        publisher: DirectoryPublisher | None,
        problems: Problems,
        running: Callable[[], RunningNode],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._publisher = publisher
        self._problems = problems
        self._running = running

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Do what a request says, and say how it went.

        Raises:
            P2PBootError: it is none, or can not be done.
        """
        match message.get("op"):
            case "publish":
                return await self._publish(message.get("directory"))
            case "status":
                running = self._running()
                return await trio.to_thread.run_sync(describe_node, running, self._store, self._catalogue)
        raise UsageError(f"unknown operation {message.get('op')!r}")

    async def _publish(self, directory: object) -> dict[str, Any]:
        if self._publisher is None:
            raise UsageError(
                "this node is a mirror: it publishes nothing", remedy="ask a node that runs `serve`"
            )
        if directory is not None and not await trio.to_thread.run_sync(
            _is_same, Path(str(directory)), self._publisher.directory
        ):
            raise UsageError(
                f"this node publishes {self._publisher.directory}, not {directory}",
                remedy="name that directory, or the state directory of the node that publishes the other one",
            )
        outcome = await self._publisher.publish_now()
        return {
            "published": [
                {**describe_manifest(done.manifest), "unchanged": done.unchanged}
                for done in outcome.published
            ],
            "withdrawn": [
                {
                    "channel": one.channel,
                    "arch": one.arch,
                    "version": one.version,
                    "manifest_version": one.manifest_version,
                    "expires_at": format_time(one.expires_at),
                }
                for one in outcome.withdrawn
            ],
            "problems": [problem.to_json() for problem in self._problems.of(PUBLISHER)],
        }


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL in it, or links in a circle
        return False
