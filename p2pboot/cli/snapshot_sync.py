"""`p2pboot snapshot sync`: a snapshot that trusted signers announced, verified, in a directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.network import Client, begin, network_options
from p2pboot.cli.options import FILE, Command
from p2pboot.cli.output import emit_json, say, warn
from p2pboot.cli.progress import PlainProgress, open_progress
from p2pboot.cli.settings import rate_options
from p2pboot.cli.sharing import Sharing, sharing_options
from p2pboot.core.amounts import size_text
from p2pboot.core.dataclass import dataclass
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.cli.network import Hints
    from p2pboot.core.policy import Policy, Publisher, TrustPolicy
    from p2pboot.fetch.snapshots.sync import SyncOrder, SyncResult
    from p2pboot.serving.accounts import Serving
    from p2pboot.serving.server import Server
    from p2pboot.transport.interface import Transport

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class RootTrust:
    """What is said where a root says whose announcements count.

    Args:
        policy: the root.
        bootstrap: multiaddrs to dial.
        timeout_s: to find the newest root.
        order_of: makes the order, once the signers are known.
    """

    policy: TrustPolicy
    bootstrap: tuple[str, ...]
    timeout_s: float
    order_of: Callable[[Publisher], SyncOrder]


@click.command(cls=Command)
@click.argument("what", metavar="[ROOT|latest]", default=LATEST)
@click.option(
    "--require-signatures/--allow-unsigned",
    default=True,
    help="Refuse a snapshot by ROOT that no trusted key has signed, or take it.  [default: refuse]",
)
@click.option(
    "-o", "--output", "directory", type=FILE, required=True, metavar="DIR", help="Where the files go."
)
@network_options()
@sharing_options
@rate_options
def sync(
    *,
    what: str,
    require_signatures: bool,
    directory: Path,
    timeout: float,
    client_key_path: Path | None,
    config_path: Path | None,
    as_json: bool,
    **params: Any,
) -> None:
    """Fetch the latest snapshot that the trusted keys announced, or the one with this ROOT.

    All peers that can be reached are asked, and every chunk is checked when it arrives. DIR gets the payload as
    ROOT.json and its signature as ROOT.json.sig, byte for byte as they were published. Without an announcement
    how a ROOT is cut is its peers' word, and it is checked as a whole; one that nobody signed needs --allow-unsigned.
    With --root the fleet's newest root says whose announcements count.
    """
    root = _root(what)
    trusted = None if params["root"] else _trusted(params.pop("trust"), params.pop("threshold"))
    sharing = Sharing.of(params)
    settings = begin(params, config_path)
    client = Client.of(settings, client_key_path, sharing)
    bootstrap = settings.network.bootstrap

    def order_of(trusted: Publisher) -> SyncOrder:
        from p2pboot.fetch.snapshots.sync import SyncOrder

        return SyncOrder(
            root=root,
            trusted=trusted,
            directory=directory,
            timeout_s=timeout,
            bootstrap=bootstrap,
            require_signatures=require_signatures,
        )

    def show(result: SyncResult) -> None:
        if not result.signed:
            warn(f"snapshot {result.root} has no signature: nobody can audit it")
        if as_json:
            emit_json({"ok": True, **result.to_json()})
        else:
            _say(result)

    if trusted is not None:
        order = order_of(trusted)

        async def job(transport: Transport, hints: Hints, progress: PlainProgress) -> SyncResult:
            return await _sync(order, client, transport, hints, progress)

    else:

        async def job(transport: Transport, hints: Hints, progress: PlainProgress) -> SyncResult:
            trust = RootTrust(settings.policy, bootstrap, timeout, order_of)
            return await _sync_by_root(trust, client, transport, hints, progress)

    client.run(job, open_progress("fetching", "fetched", transfers=True), show)


def _root(what: str) -> str | None:
    from p2pboot.core.digests import is_digest

    if what == LATEST:
        return None
    if not is_digest(what):
        raise UsageError(f"{what[:80]!r} is neither `latest` nor a root of 64 lowercase hex digits")
    return what


def _trusted(keys: tuple[str, ...], threshold: int | None) -> Publisher:
    from p2pboot.config.trust import publisher_of_options
    from p2pboot.core.policy import no_trust

    if not keys:
        raise no_trust()
    return publisher_of_options(keys, threshold)


async def _sync(
    order: SyncOrder, client: Client, transport: Transport, hints: Hints, progress: PlainProgress
) -> SyncResult:
    import trio

    from p2pboot.fetch.snapshots.sync import open_output, sync_snapshot
    from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL
    from p2pboot.protocol.swarm import SWARM_PROTOCOL
    from p2pboot.transport.nearness import Nearness

    store = await trio.to_thread.run_sync(open_output, order)

    def snapshots(serving: Serving) -> Server:
        from p2pboot.serving.snapshots import SnapshotServer

        return SnapshotServer(store, serving)

    def swarm(serving: Serving) -> Server:
        from p2pboot.serving.contents import Contents
        from p2pboot.serving.swarm import SwarmServer

        contents = Contents()
        contents.add(store.blobs, store.check_signature)
        return SwarmServer(transport, serving, contents, client.sharing.serves)

    client.sharing.offer(transport, SNAPSHOT_PROTOCOL, snapshots)
    nearness = Nearness(client.site)
    client.sharing.offer(transport, SWARM_PROTOCOL, swarm, tells=True)
    client.sharing.introduce(transport, nearness)
    result = await sync_snapshot(
        order, store, transport=transport, progress=progress, hints=hints, nearness=nearness
    )
    client.stay_known(transport, nearness, result.root)
    return result


async def _sync_by_root(
    trust: RootTrust, client: Client, transport: Transport, hints: Hints, progress: PlainProgress
) -> SyncResult:
    """The same with whom the newest root names; who is found on the way to that stays connected."""
    import trio

    from p2pboot.errors import first_error
    from p2pboot.fetch.asking.dialling import Dialler
    from p2pboot.fetch.asking.newest_roots import newest_roots
    from p2pboot.fetch.ledger import Ledger

    ledger = Ledger(progress)
    dialler = Dialler(transport, trust.bootstrap, ledger, hints)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dialler.run)
            policy = await newest_roots(trust.policy, transport, ledger, dialler.settle, trust.timeout_s)
            order = trust.order_of(_announcer(policy))
            result = await _sync(order, client, transport, None, progress)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    return result


def _announcer(policy: Policy) -> Publisher:
    from p2pboot.core.policy import Publisher

    for trusted in policy.roots:
        role = None if trusted.newest is None else trusted.newest.body.snapshots
        if role is not None:
            return Publisher(role.keys, role.threshold)
    raise UsageError(
        "the root names nobody who announces snapshots",
        remedy="have its owners add a key (p2pboot root set --snapshot-key), or name one in place of --root: --trust",
    )


def _say(result: SyncResult) -> None:
    say(f"root        {result.root}")
    for one in result.announcements:
        say(f"signed by   {one.signer}")
    if not result.signed:
        say("signed by   nobody")
    if result.sequence is not None:
        say(f"sequence    {result.sequence}")
    say(f"{'present' if result.unchanged else 'written':<10}  {result.path}")
    ledger = result.ledger
    say(f"downloaded  {size_text(ledger.downloaded_bytes)}, resumed {size_text(ledger.resumed_bytes)}")
