"""Runs one job on the network for a command that ends, with a client's transport, discovery and signals."""

from __future__ import annotations

import secrets
import signal
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import trio

from p2pboot.cli.output import warn
from p2pboot.core.identity import KEY_BYTES, SecretKey
from p2pboot.errors import NotFoundError
from p2pboot.store.keyfiles import load_key
from p2pboot.transport.interface import Transport

T = TypeVar("T")
Hints = AsyncIterable[str] | None
Job = Callable[[Transport, Hints], Awaitable[T]]


def client_key(path: Path | None) -> SecretKey:
    """A client's identity: a key file, or a new one for each run, so that nobody can follow the machine."""
    return SecretKey(secrets.token_bytes(KEY_BYTES)) if path is None else load_key(path, warn=warn)


def check_somebody_to_ask(bootstrap: tuple[str, ...], *, mdns: bool) -> None:
    """Say at once what a search could only end with.

    Raises:
        NotFoundError: there are no addresses, and discovery is off.
    """
    if not bootstrap and not mdns:
        raise NotFoundError(
            "there is nobody to ask: no --bootstrap address, and mDNS is off",
            remedy="add --bootstrap MULTIADDR (the first line that `p2pboot serve` prints), or leave mDNS on",
        )


def run_job(job: Job[T], key: SecretKey, *, mdns: bool) -> T:
    """Run a job on a network of its own and return what it returns.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; everything was closed in order.
    """
    result: T = trio.run(_run, job, key, mdns)
    return result


async def _run(job: Job[T], key: SecretKey, mdns: bool) -> T:
    results: list[T] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
            async with _open_network(key, mdns=mdns) as (transport, hints):
                results.append(await job(transport, hints))
            nursery.cancel_scope.cancel()
    if not results:
        raise KeyboardInterrupt
    return results[0]


async def _cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


@asynccontextmanager
async def _open_network(key: SecretKey, *, mdns: bool) -> AsyncIterator[tuple[Transport, Hints]]:
    """A client's transport, which listens nowhere, and what discovery finds."""
    from p2pboot.transport.libp2p import open_libp2p

    async with open_libp2p(key, []) as transport:
        if not mdns:
            yield transport, None
            return
        from p2pboot.transport.mdns import open_mdns

        async with open_mdns(transport.peer_id, tuple) as found:
            yield transport, found


def open_another() -> AbstractAsyncContextManager[Transport]:
    """A further client's transport, which listens nowhere, under an identity of its own."""
    from p2pboot.transport.libp2p import open_libp2p

    return open_libp2p(client_key(None), [])
