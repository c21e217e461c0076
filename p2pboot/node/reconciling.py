"""How a part of the node keeps up with the catalogue: told that something changed, it looks again at all of it.

Level-triggered: nobody is told what changed, so nothing can be missed, and what was so before the start, what failed a
moment ago and what is new are the same.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from p2pboot.core.events import Event
from p2pboot.errors import P2PBootError

log = logging.getLogger(__name__)

AGAIN_S: Final = 10.0  # after a look that the disk did not allow


class Changes:
    """That something changed; made in trio's thread."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def tell(self) -> None:
        """Something changed; any thread. Many changes at once are one."""
        try:
            self._token.run_sync_soon(self._wake, idempotent=True)
        except trio.RunFinishedError:  # a thread that ends after everything else
            return

    def _wake(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def follow(self, reconcile: Callable[[], Awaitable[None]], what: str) -> None:
        """Reconcile now and after every change, until cancelled.

        Args:
            reconcile: looks at everything, and does what is to be done about it.
            what: is not done when it fails, for the log.
        """
        while True:
            changed = self._event  # before looking: what changes meanwhile is looked at again
            try:
                await reconcile()
            except P2PBootError as error:
                log.error("%s: %s", what, error, extra=Event.TASK_FAILED(task=what))
                with trio.move_on_after(AGAIN_S):
                    await changed.wait()
            else:
                await changed.wait()
