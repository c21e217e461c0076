"""Of several ways to somebody the first that leads there: happy eyeballs, as RFC 8305 has it.

They are tried in their order, each a quarter of a second after the one before, or at once where that has failed; and
each has a limit of its own. So a dead address costs 250 ms, and one that takes the call and says nothing costs no more:
what is waited for is whatever the caller wants in the end, and not the TCP connection. Everything that dials goes
through here: a name with many addresses (`transport.tcp.endpoint`), and a peer with many (`fetch.asking.connecting`,
`dht.client`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Final, Generic, TypeVar

import trio

from p2pboot.errors import NotFoundError, P2PBootError
from p2pboot.transport.addresses import Address

ATTEMPT_DELAY_S: Final = 0.25
"""Until the next one is tried while one is under way; what RFC 8305, section 5, recommends."""

ATTEMPT_S: Final = 5.0
"""That one may take: a mute server would hold it for minutes."""

W = TypeVar("W")
R = TypeVar("R")


class NoneAnswers(NotFoundError):
    """None of the ways led anywhere.

    Args:
        failures: why, in the order in which they failed; empty where there was none to try.
    """

    def __init__(self, failures: Sequence[P2PBootError]) -> None:
        self.failures = tuple(failures)
        reasons = dict.fromkeys(failure.message for failure in self.failures)
        super().__init__("; ".join(reasons) or "there is no address to try")


async def race(
    ways: Callable[[trio.MemorySendChannel[W]], Awaitable[None]],
    attempt: Callable[[W], Awaitable[R]],
    discard: Callable[[R], object],
) -> R:
    """Try several ways, and return what the first that succeeds comes to. The others are cancelled.

    Args:
        ways: sends them, the best first, as they become known; it is cancelled when one succeeded. Where it can not
            tell any, it raises P2PBootError.
        attempt: tries one; it fails with P2PBootError, and where it takes longer than `ATTEMPT_S`.
        discard: is given what came of another one that succeeded in the same moment.

    Raises:
        NoneAnswers: none succeeded.
    """
    return await _Race(ways, attempt, discard).run()


async def race_of(
    ways: Iterable[W], attempt: Callable[[W], Awaitable[R]], discard: Callable[[R], object]
) -> R:
    """As `race`, of ways that are known."""

    async def tell(send: trio.MemorySendChannel[W]) -> None:
        for way in ways:
            await send.send(way)

    return await race(tell, attempt, discard)


class _Race(Generic[W, R]):
    def __init__(
        self,
        ways: Callable[[trio.MemorySendChannel[W]], Awaitable[None]],
        attempt: Callable[[W], Awaitable[R]],
        discard: Callable[[R], object],
    ) -> None:
        self._ways, self._attempt, self._discard = ways, attempt, discard
        self._won: list[R] = []
        self._failures: list[P2PBootError] = []
        self._scope = trio.CancelScope()

    async def run(self) -> R:
        send, ways = trio.open_memory_channel[W](0)  # the best way is chosen when it is about to be tried
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell, send)
                async for way in ways:
                    failed = trio.Event()
                    nursery.start_soon(self._try, way, failed)
                    with trio.move_on_after(ATTEMPT_DELAY_S):
                        await failed.wait()
        if not self._won:
            raise NoneAnswers(self._failures)
        return self._won[0]

    async def _tell(self, send: trio.MemorySendChannel[W]) -> None:
        with send:
            try:
                await self._ways(send)
            except P2PBootError as error:
                self._failures.append(error)

    async def _try(self, way: W, failed: trio.Event) -> None:
        try:
            with trio.fail_after(ATTEMPT_S):
                result = await self._attempt(way)
        except P2PBootError as error:
            self._failures.append(error)
        except trio.TooSlowError:
            self._failures.append(NotFoundError(f"no answer from {way} in {ATTEMPT_S:g} s"))
        else:
            if self._won:
                self._discard(result)
            else:
                self._won.append(result)
                self._scope.cancel()
        failed.set()


def interleaved(addresses: Iterable[Address]) -> list[Address]:
    """The order to try addresses in: by families in turns, IPv6 first, as RFC 8305, section 4, has it."""
    by_family: tuple[list[Address], list[Address]] = [], []
    for address in addresses:
        by_family[address.kind in {"ip4", "dns4"}].append(address)
    return [one for one in chain.from_iterable(zip_longest(*by_family)) if one is not None]
