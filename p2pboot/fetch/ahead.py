"""Transfers what is likely to be wanted while it is not yet decided: a search goes on beside the transfer.

Most searches end with what they found first. So its bytes are brought at once, into the store only, and what others
answer meanwhile costs no time; if they know better, what was begun ends, and is of no consequence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from p2pboot.errors import P2PBootError

T = TypeVar("T")


class Ahead(Generic[T]):
    """One transfer at a time: of what is suggested now, and in the end of what was decided on.

    Args:
        bring: brings something, wholly; it may be cancelled at any moment, and called again. It may leave nothing
            behind that is seen from outside.
    """

    def __init__(self, bring: Callable[[T], Awaitable[None]]) -> None:
        self._bring = bring
        self._wanted: T | None = None
        self._failure: P2PBootError | None = None
        self._scope = trio.CancelScope()
        self._changed = trio.Event()
        self._over = trio.Event()

    def suggest(self, candidate: T | None) -> None:
        """Bring this from now on, and nothing else; None: nothing. Nothing happens when it is the same as before."""
        if candidate == self._wanted:
            return
        self._wanted = candidate
        self._scope.cancel()
        self._over = trio.Event()
        self._changed.set()

    async def run(self) -> None:
        """Transfer until cancelled; what goes wrong is raised by `finish`, if that is what was decided on."""
        while True:
            self._changed = trio.Event()
            if self._wanted is None:
                self._over.set()
            else:
                with trio.CancelScope() as self._scope:
                    await self._transfer(self._wanted)
                if self._scope.cancelled_caught:  # something else is wanted now
                    continue
            await self._changed.wait()

    async def _transfer(self, wanted: T) -> None:
        over, failure = self._over, None
        try:
            await self._bring(wanted)
        except P2PBootError as error:
            failure = error
        if over is self._over:  # otherwise it ended just when something else was suggested
            self._failure = failure
            over.set()

    async def stop(self) -> None:
        """End whatever was begun; it has ended when this returns."""
        self.suggest(None)
        await self._over.wait()

    async def finish(self, decided: T) -> None:
        """Have everything of what was decided on.

        Raises:
            P2PBootError: what `bring` raised.
        """
        self.suggest(decided)
        await self._over.wait()
        if self._failure is not None:
            raise self._failure
