"""`p2pboot fetch`: the newest trusted manifest and its artifacts, verified, in a directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_clock
from p2pboot.cli.machine import machine_of, machine_options
from p2pboot.cli.network import (
    Client,
    begin,
    dht_options,
    is_told_of_nobody,
    network_options,
    nobody_to_ask,
)
from p2pboot.cli.options import FILE, Command, max_lifetime_option, min_version_option, staleness_options
from p2pboot.cli.output import counted, emit_json, say
from p2pboot.cli.progress import PlainProgress, open_progress
from p2pboot.cli.settings import rate_options, setting_options
from p2pboot.cli.sharing import Sharing, sharing_options
from p2pboot.core.amounts import size_text
from p2pboot.core.headway import shares_of, shares_text
from p2pboot.errors import UsageError
from p2pboot.store.filenames import DATABASE_NAME

if TYPE_CHECKING:
    from p2pboot.cli.network import Hints
    from p2pboot.config.settings import NodeSettings
    from p2pboot.fetch.client import FetchOrder
    from p2pboot.fetch.ledger import Ledger
    from p2pboot.fetch.result import FetchedFile, FetchResult
    from p2pboot.serving.accounts import Serving
    from p2pboot.serving.server import Server
    from p2pboot.transport.interface import Transport


@click.command(cls=Command)
@setting_options("provider.channel", "provider.arch")
@click.option(
    "--artifact",
    "artifacts",
    multiple=True,
    metavar="NAME",
    help="Fetch only this one (kernel, initramfs, …); repeatable.  [default: all]",
)
@click.option(
    "--state",
    "state_path",
    type=FILE,
    metavar="DIR",
    help="Memory of accepted versions, and store.  [default: .p2pboot in the output directory]",
)
@max_lifetime_option
@min_version_option
@staleness_options
@machine_options
@click.option(
    "-o", "--output", "directory", type=FILE, required=True, metavar="DIR", help="Where the files go."
)
@network_options()
@dht_options
@sharing_options
@rate_options
def fetch(
    *,
    artifacts: tuple[str, ...],
    state_path: Path | None,
    min_version: int,
    directory: Path,
    timeout: float,
    client_key_path: Path | None,
    config_path: Path | None,
    as_json: bool,
    **params: Any,
) -> None:
    """Fetch the newest manifest that a trusted publisher signed for a channel and arch, and its artifacts.

    All peers that can be reached are asked. Nothing gets its final name in DIR before it is verified. A fetch
    that was killed goes on where it was, and one that finds everything there downloads nothing. What is here
    and verified is given to others meanwhile, and with --linger also afterwards.
    """
    if params["provider_channel"] is None or params["provider_arch"] is None:
        raise UsageError("fetch needs to know what for", remedy="give both --channel and --arch")
    sharing = Sharing.of(params)
    settings = begin(params, config_path)
    order = replace(
        _order(settings, directory, artifacts, min_version=min_version, timeout_s=timeout),
        accept_stale=params["accept_stale"],
        require_clock=params["require_clock"],
        machine=machine_of(params["machine_id"], params["wariness"], canary=params["canary"]),
    )
    state = state_path or directory / ".p2pboot"
    client = Client.of(settings, client_key_path, sharing, knows_peers=(state / DATABASE_NAME).exists())
    began = time.monotonic()

    def show(result: FetchResult) -> None:
        if as_json:
            emit_json({"ok": True, **result.to_json()})
        else:
            _say(result, time.monotonic() - began)

    _fetch(order, state, client, show, needs_book=is_told_of_nobody(settings))


def _order(
    settings: NodeSettings, directory: Path, artifacts: tuple[str, ...], *, min_version: int, timeout_s: float
) -> FetchOrder:
    from p2pboot.core.policy import no_trust
    from p2pboot.fetch.client import FetchOrder

    channel, arch = settings.provider.channel, settings.provider.arch
    assert channel is not None  # noqa: S101 - the caller saw both on the command line
    assert arch is not None  # noqa: S101
    if settings.trusts_nobody:
        raise no_trust()
    return FetchOrder(
        channel=channel,
        arch=arch,
        policy=settings.policy,
        directory=directory,
        artifacts=artifacts,
        min_version=min_version,
        timeout_s=timeout_s,
        bootstrap=settings.network.bootstrap,
    )


def _fetch(
    order: FetchOrder,
    state: Path,
    client: Client,
    show: Callable[[FetchResult], None],
    *,
    needs_book: bool,
) -> None:
    from p2pboot.fetch.client import fetch as fetch_into
    from p2pboot.protocol.messages import ARTIFACT_PROTOCOL
    from p2pboot.protocol.swarm import SWARM_PROTOCOL
    from p2pboot.store.durable import make_directory
    from p2pboot.store.ownership import OUTPUT, opened_directory
    from p2pboot.store.store import Store
    from p2pboot.transport.nearness import Nearness

    make_directory(order.directory, 0o755)  # before the store makes it 0700 on the way to its own
    with opened_directory(order.directory, OUTPUT, follow=True):
        pass  # before anything is made in it
    with Store.open(state) as store:
        if needs_book and not store.peers_of(client.mesh).load():
            raise nobody_to_ask()

        def artifacts(serving: Serving) -> Server:
            from p2pboot.serving.artifacts import ArtifactServer

            return ArtifactServer(store.blobs, serving)

        async def job(transport: Transport, hints: Hints, progress: PlainProgress) -> FetchResult:
            def swarm(serving: Serving) -> Server:
                from p2pboot.serving.contents import Contents
                from p2pboot.serving.swarm import SwarmServer

                contents = Contents()
                contents.add(store.blobs)
                return SwarmServer(transport, serving, contents, client.sharing.serves)

            nearness = Nearness(client.site)
            client.sharing.offer(transport, ARTIFACT_PROTOCOL, artifacts)
            client.sharing.offer(transport, SWARM_PROTOCOL, swarm, tells=True)
            client.sharing.introduce(transport, nearness, store.manifests, wall_clock())
            result = await fetch_into(
                order,
                transport=transport,
                store=store,
                progress=progress,
                hints=hints,
                nearness=nearness,
                wider=client.wider(transport, order.channel, order.arch),
                wall=wall_clock(),
            )
            if result.verdict.manifest is not None:
                client.stay_known(transport, nearness, result.verdict.manifest.digest)
            return result

        client.run(job, open_progress("fetching", "fetched", transfers=True), show)


def _say(result: FetchResult, took_s: float) -> None:
    manifest = result.verdict.manifest
    assert manifest is not None  # noqa: S101 - a result has an accepted manifest
    say(
        f"{manifest.channel}/{manifest.arch}  version {manifest.version}"
        f"  manifest version {manifest.manifest_version}  sha256:{manifest.digest}"
    )
    say(result.basis.dates())
    for keyid in manifest.signers:
        say(f"signed by  {keyid}")
    for line in result.basis.lines():
        say(line)
    if result.rollout is not None:
        taken = "taken" if result.rollout.takes_next else "not taken"
        say(f"roll-out   {taken}: {result.rollout.why}")
    width = max(len(file.key) for file in result.files)
    for file in result.files:
        state = "written" if file.written else "present"
        say(f"{state:<9}  {file.key:<{width}}  {size_text(file.size):>8}  {file.path}")
    if result.unchanged:
        say("nothing to do: everything was there already")
        return
    say(bytes_text(result.files, result.ledger, took_s))


def bytes_text(files: Sequence[FetchedFile], ledger: Ledger, took_s: float) -> str:
    """What came, of what, and from where: "fetched 12.3 MB of 600.0 MB in 4.1 s (587.7 MB were here) …"."""
    total = sum({file.sha256: file.size for file in files}.values())
    peers = sum(1 for count in ledger.received.values() if count)
    here = max(0, total - ledger.stored_bytes - ledger.zero_bytes)
    apart = [f"{size_text(here)} were here"] if here else []
    if ledger.zero_bytes:
        apart.append(f"{size_text(ledger.zero_bytes)} are zeros, which nobody sends")
    if ledger.wasted_bytes > 0:
        apart.append(f"{size_text(ledger.wasted_bytes)} came for nothing")
    line = f"fetched {size_text(ledger.stored_bytes)} of {size_text(total)} in {took_s:.1f} s"
    line += f" ({', '.join(apart)})" if apart else ""
    return line + (
        f" from {counted(peers, 'peer')}: {shares_text(shares_of(ledger.sources))}" if peers else ""
    )
