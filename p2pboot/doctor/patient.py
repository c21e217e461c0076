"""Who is examined: what it was told, and by which network it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from p2pboot.config.settings import NodeSettings
from p2pboot.core.dataclass import dataclass
from p2pboot.fetch.asking.wider import WiderSearch
from p2pboot.store.errors import NoState
from p2pboot.transport.interface import Transport
from p2pboot.transport.interfaces import Interfaces

if TYPE_CHECKING:
    from p2pboot.store.store import Store

R = TypeVar("R")

_AT_ONCE: Final = 4
_THREADS: Final = trio.CapacityLimiter(_AT_ONCE)
"""A look at a disk that hangs ends when that does: what asks again and again is not to fill the process with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """See above.

    Args:
        settings: that are in force, or would be.
        transport: its network.
        interfaces: tells the machine's addresses.
        wall: the machine's clock, unix seconds; called from any thread.
        channel: that is looked for; None for all.
        arch: likewise, canonical.
        is_node: whether it is a node that runs, and examines itself.
        running: process id of the node that runs with the same state directory, where another process does.
        store: the node's own, open.
        wider: what looks in the distributed hash table where nothing is found otherwise; None: nobody does.
    """

    settings: NodeSettings
    transport: Transport
    interfaces: Interfaces
    wall: Callable[[], float]
    channel: str | None = None
    arch: str | None = None
    is_node: bool = False
    running: int | None = None
    store: Store | None = None
    wider: Callable[[], WiderSearch | None] = lambda: None

    @contextmanager
    def memory(self) -> Iterator[Store | None]:
        """What the state remembers, in a copy of it; None where there is none yet. Blocking, for one thread.

        Raises:
            StoreError, MachineError: it can not be read.
        """
        path = self.settings.store.known
        if self.store is not None or path is None:
            yield self.store
            return
        from p2pboot.store.ondemand import copy_of_database  # who has no state need not load it
        from p2pboot.store.store import Store

        try:
            database = copy_of_database(path)
        except NoState:
            yield None
            return
        with Store(path, database, quota_bytes=self.settings.store.quota_bytes) as store:
            yield store


async def in_thread(look: Callable[..., R], *arguments: Any) -> R:
    """Run what blocks; where it is cancelled the thread is left to itself."""
    ask = partial(trio.to_thread.run_sync, look, *arguments, abandon_on_cancel=True)  # type: ignore[call-arg]
    return await ask(limiter=_THREADS)
