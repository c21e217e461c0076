"""What the control socket is asked for beside the status: publish now, take a release back, a root.

And how it went.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from p2pboot.core.manifest.facts import facts
from p2pboot.core.timestamps import format_time
from p2pboot.errors import MachineError, NotFoundError, UsageError
from p2pboot.node.control import Request
from p2pboot.node.problems import Problems
from p2pboot.node.publishing import SOURCE as PUBLISHER
from p2pboot.node.publishing import DirectoryPublisher
from p2pboot.node.trusting.handed_in import RootDesk, read_lines
from p2pboot.node.vouching import Voucher, no_freshness_key
from p2pboot.node.yanking import Yanking

_STATED = ("channel", "arch", "version", "manifest_version", "digest", "expires_at")


async def publish(
    publisher: DirectoryPublisher | None, problems: Problems, message: Mapping[str, object], voucher: Voucher
) -> dict[str, Any]:
    """Publish what can be.

    Args:
        publisher: of the node's directory; None on a mirror.
        problems: all that is wrong.
        message: what is asked: `directory`, the path that is meant; `urgent`, whether nobody is to take what was
            before, even while mirrors have not got what is published now.
        voucher: says what is to be taken.

    Raises:
        P2PBootError: nothing can be, another directory is meant, or what is urgent can not be said.
    """
    directory = message.get("directory")
    if publisher is None:
        raise UsageError("this node is a mirror: it publishes nothing", remedy="ask a node that runs `serve`")
    if directory is not None and not await trio.to_thread.run_sync(
        _is_same, Path(str(directory)), publisher.directory
    ):
        raise UsageError(
            f"this node publishes {publisher.directory}, not {directory}",
            remedy="name that directory, or the state directory of the node that publishes the other one",
        )
    urgent = message.get("urgent") is True
    if urgent and voucher.keyid is None:
        raise no_freshness_key()
    outcome = await publisher.publish_now()
    if urgent:
        await voucher.insist([(done.manifest.channel, done.manifest.arch) for done in outcome.published])
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


async def yank(yanking: Yanking | None, message: Mapping[str, Any], voucher: Voucher) -> dict[str, Any]:
    """Take a release back, or say what could be gone back to; `do` of the message says which.

    What takes its place is urgent: mirrors that have not got it offer nothing anyway.

    Args:
        yanking: of the node's publisher; None on a mirror.
        message: what is asked.
        voucher: says what is to be taken, if this node has a freshness key.

    Raises:
        P2PBootError: it can not be done.
    """
    if yanking is None:
        raise UsageError(
            "this node is a mirror: it published nothing that it could take back",
            remedy="ask the node that runs `serve`",
        )
    answer = await yanking.answer(message)
    published = answer.get("published")
    if published is not None and voucher.keyid is not None:
        with suppress(
            UsageError, NotFoundError, MachineError
        ):  # it is tried again, and on the list of problems
            await voucher.insist([(published["channel"], published["arch"])])
    return answer


async def take_roots(
    desk: RootDesk, request: Request, enforce: Callable[[], Awaitable[None]]
) -> dict[str, Any]:
    """Bring roots into force that the operator hands in, everywhere in this node before it is said.

    Args:
        desk: takes them.
        request: brings them along in a file.
        enforce: has the node live by another root.

    Raises:
        P2PBootError: the newest of them is not in force now.
    """
    if request.descriptor is None:
        raise UsageError("roots have to be sent along as a descriptor")
    documents = await trio.to_thread.run_sync(read_lines, request.descriptor)
    try:
        return await trio.to_thread.run_sync(desk.take, documents)
    finally:
        await enforce()  # also where only some of them were taken


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL in it, or links in a circle
        return False
