"""`p2pboot fetch`: the newest trusted manifest and its artifacts, verified, in a directory."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli import logs, output
from p2pboot.cli.clock import wall_now
from p2pboot.cli.options import (
    FILE,
    Command,
    config_option,
    json_option,
    min_version_option,
    timeout_option,
    trust_options,
    verbosity_options,
)
from p2pboot.cli.output import counted, emit_json, human_size, say
from p2pboot.cli.progress import open_progress
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.cli.network import Hints
    from p2pboot.config.settings import NodeSettings
    from p2pboot.core.identity import SecretKey
    from p2pboot.fetch.client import FetchOrder
    from p2pboot.fetch.result import FetchResult
    from p2pboot.transport.interface import Transport


@click.command(cls=Command)
@setting_options("provider.channel", "provider.arch")
@trust_options
@setting_options("network.bootstrap", "network.mdns")
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
@min_version_option
@click.option(
    "-o", "--output", "directory", type=FILE, required=True, metavar="DIR", help="Where the files go."
)
@timeout_option
@click.option("--key", "client_key_path", type=FILE, metavar="PATH", help="Identity.  [default: a new one]")
@config_option
@json_option
@verbosity_options
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
    that was killed goes on where it was, and one that finds everything there downloads nothing.
    """
    from p2pboot.config.load import load_settings

    meta = click.get_current_context().meta
    logs.configure(verbose=logs.VERBOSE in meta, quiet=output.QUIET in meta, usual=logging.WARNING)
    if params["provider_channel"] is None or params["provider_arch"] is None:
        raise UsageError("fetch needs to know what for", remedy="give both --channel and --arch")
    settings = load_settings(overrides_of(params), config_path)
    order = _order(settings, directory, artifacts, min_version=min_version, timeout_s=timeout)
    from p2pboot.cli.network import check_somebody_to_ask, client_key

    check_somebody_to_ask(order.bootstrap, mdns=settings.network.mdns)
    key = client_key(client_key_path)
    began = time.monotonic()
    result = _fetch(order, state_path or directory / ".p2pboot", key, mdns=settings.network.mdns)
    if as_json:
        emit_json({"ok": True, **result.to_json()})
    else:
        _say(result, time.monotonic() - began)


def _order(
    settings: NodeSettings, directory: Path, artifacts: tuple[str, ...], *, min_version: int, timeout_s: float
) -> FetchOrder:
    from p2pboot.core.policy import no_trust
    from p2pboot.fetch.client import FetchOrder

    channel, arch = settings.provider.channel, settings.provider.arch
    assert channel is not None  # noqa: S101 - the caller saw both on the command line
    assert arch is not None  # noqa: S101
    if not settings.trust:
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


def _fetch(order: FetchOrder, state: Path, key: SecretKey, *, mdns: bool) -> FetchResult:
    from p2pboot.cli.network import open_another, run_job
    from p2pboot.fetch.client import fetch as fetch_into
    from p2pboot.protocol.messages import ARTIFACT_PROTOCOL
    from p2pboot.serving.accounts import Serving
    from p2pboot.serving.artifacts import ArtifactServer
    from p2pboot.store.durable import make_directory
    from p2pboot.store.store import Store

    make_directory(order.directory, 0o755)  # before the store makes it 0700 on the way to its own
    with Store.open(state) as store, open_progress("fetching", "fetched") as progress:

        async def job(transport: Transport, hints: Hints) -> FetchResult:
            # Whoever is connected and fetches the same may have the pieces that are here already.
            transport.handle(ARTIFACT_PROTOCOL, ArtifactServer(store.blobs, Serving()).handle)
            return await fetch_into(
                order,
                transport=transport,
                store=store,
                progress=progress,
                hints=hints,
                open_another=open_another,
                wall=wall_now,
            )

        return run_job(job, key, mdns=mdns)


def _say(result: FetchResult, took_s: float) -> None:
    manifest = result.verdict.manifest
    assert manifest is not None  # noqa: S101 - a result has an accepted manifest
    say(
        f"{manifest.channel}/{manifest.arch}  version {manifest.version}"
        f"  manifest version {manifest.manifest_version}  sha256:{manifest.digest}"
    )
    for keyid in manifest.signers:
        say(f"signed by  {keyid}")
    width = max(len(file.key) for file in result.files)
    for file in result.files:
        state = "written" if file.written else "present"
        say(f"{state:<9}  {file.key:<{width}}  {human_size(file.size):>8}  {file.path}")
    if result.unchanged:
        say("nothing to do: everything was there already")
        return
    peers = sum(1 for count in result.received.values() if count)
    say(f"downloaded {human_size(result.downloaded_bytes)} from {counted(peers, 'peer')} in {took_s:.1f} s")
    if result.resumed_bytes:
        say(f"resumed: {human_size(result.resumed_bytes)} were on the disk from an earlier run")
