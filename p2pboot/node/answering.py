"""What the control socket is asked for beside the status: publish now, and say how it went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from p2pboot.core.manifest.facts import facts
from p2pboot.core.timestamps import format_time
from p2pboot.errors import UsageError
from p2pboot.node.problems import Problems
from p2pboot.node.publishing import SOURCE as PUBLISHER
from p2pboot.node.publishing import DirectoryPublisher

_STATED = ("channel", "arch", "version", "manifest_version", "digest", "expires_at")


async def publish(
    publisher: DirectoryPublisher | None, problems: Problems, directory: object
) -> dict[str, Any]:
    """Publish what can be.

    Args:
        publisher: of the node's directory; None on a mirror.
        problems: all that is wrong.
        directory: the path that is meant by the one who asks, or None.

    Raises:
        P2PBootError: nothing can be, or another directory is meant.
    """
    if publisher is None:
        raise UsageError("this node is a mirror: it publishes nothing", remedy="ask a node that runs `serve`")
    if directory is not None and not await trio.to_thread.run_sync(
        _is_same, Path(str(directory)), publisher.directory
    ):
        raise UsageError(
            f"this node publishes {publisher.directory}, not {directory}",
            remedy="name that directory, or the state directory of the node that publishes the other one",
        )
    outcome = await publisher.publish_now()
    return {
        "published": [
            {**facts(done.manifest, *_STATED), "unchanged": done.unchanged} for done in outcome.published
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
        "problems": [problem.to_json() for problem in problems.of(PUBLISHER)],
    }


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL in it, or links in a circle
        return False
