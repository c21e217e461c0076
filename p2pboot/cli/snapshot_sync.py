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
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.cli.network import Hints
    from p2pboot.core.policy import Publisher
    from p2pboot.fetch.snapshots.sync import SyncOrder, SyncResult
    from p2pboot.serving.accounts import Serving
    from p2pboot.serving.server import Server
    from p2pboot.transport.interface import Transport

LATEST = "latest"


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
    """
    root = _root(what)
    trusted = _trusted(params.pop("trust"), params.pop("threshold"))
    sharing = Sharing.of(params)
    settings = begin(params, config_path)
    client = Client.of(settings, client_key_path, sharing)
    from p2pboot.fetch.snapshots.sync import SyncOrder

    order = SyncOrder(
        root=root,
        trusted=trusted,
        directory=directory,
        timeout_s=timeout,
        bootstrap=settings.network.bootstrap,
        require_signatures=require_signatures,
    )

    def show(result: SyncResult) -> None:
        if not result.signed:
            warn(f"snapshot {result.root} has no signature: nobody can audit it")
        if as_json:
            emit_json({"ok": True, **result.to_json()})
        else:
            _say(result)

    _sync(order, client, show)


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


def _sync(order: SyncOrder, client: Client, show: Callable[[SyncResult], None]) -> None:
    import trio

    from p2pboot.fetch.snapshots.sync import open_output, sync_snapshot
    from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL
    from p2pboot.protocol.swarm import SWARM_PROTOCOL
    from p2pboot.transport.nearness import Nearness

    async def job(transport: Transport, hints: Hints, progress: PlainProgress) -> SyncResult:
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

    client.run(job, open_progress("fetching", "fetched", transfers=True), show)


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
