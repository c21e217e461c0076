"""`p2pboot discover`: providers within reach, and the manifests they offer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_clock, wall_now
from p2pboot.cli.network import Client, begin, dht_options, network_options
from p2pboot.cli.options import FILE, Command, max_lifetime_option
from p2pboot.cli.output import emit_json, say
from p2pboot.cli.peers import judge_all, survey_document, survey_lines, unreached_lines
from p2pboot.cli.progress import PlainProgress
from p2pboot.cli.settings import setting_options, take_pair
from p2pboot.errors import NotFoundError

if TYPE_CHECKING:
    from p2pboot.cli.network import Hints
    from p2pboot.cli.watching import Show
    from p2pboot.config.settings import NodeSettings
    from p2pboot.fetch.asking.survey import Survey, Surveyor
    from p2pboot.store.peers import Peers
    from p2pboot.transport.interface import Transport

DEFAULT_S = 5.0


@click.command(cls=Command)
@setting_options("provider.channel", "provider.arch")
@max_lifetime_option
@network_options(
    timeout_s=DEFAULT_S,
    timeout_help="Seconds to look around; without mDNS it ends as soon as everybody answered. With --watch no end"
    " unless it is given.",
)
@dht_options
@click.option(
    "--state",
    "state_path",
    type=FILE,
    metavar="DIR",
    help="Ask those too who are in the address book there, of a node or a fetch. It is only read.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Go on looking, and show what changes, until it is ended; with --json a document for each event.",
)
def discover(
    *,
    timeout: float,
    client_key_path: Path | None,
    config_path: Path | None,
    state_path: Path | None,
    watch: bool,
    as_json: bool,
    **params: Any,
) -> None:
    """List peers: how each was found, where it is, how far away, what it offers and whether a given trust takes it.

    How it was found (its source) is bootstrap, LAN (multicast DNS), DHT (the distributed hash table), peers (others
    told of it) or address book (--state); of several ways the first.
    """
    channel, arch = take_pair(params)
    settings = begin(params, config_path)
    client = Client.of(settings, client_key_path, knows_peers=state_path is not None)
    book = None if state_path is None else _address_book(state_path, client.mesh)
    named = settings.network.bootstrap

    def surveyor_on(transport: Transport, progress: PlainProgress) -> Surveyor:
        from p2pboot.fetch.asking.survey import Surveyor

        wider = client.wider(transport, channel, arch)
        policy, now = settings.policy, wall_clock()
        return Surveyor(transport, channel, arch, progress, wider, book=book, policy=policy, now=now)

    if watch:
        given = click.get_current_context().get_parameter_source("timeout")
        limit_s = float("inf") if given is click.core.ParameterSource.DEFAULT else timeout
        show = _show_of(settings, as_json=as_json)
        _watch(client, surveyor_on, show, pair=(channel, arch), named=named, limit_s=limit_s)
        return

    async def job(transport: Transport, hints: Hints, progress: PlainProgress) -> Survey:
        return await surveyor_on(transport, progress).run(named, hints, timeout)

    found: list[Survey] = []
    client.run(job, PlainProgress("asking", "asked"), found.append)
    _report(found[0], settings, (channel, arch), as_json=as_json)


def _address_book(state: Path, mesh: str | None) -> Peers:
    """A copy: what becomes of those who are in it is no business of the node's whose it is."""
    from p2pboot.store.ondemand import copy_of_database
    from p2pboot.store.peers import Peers

    return Peers(copy_of_database(state), mesh)


def _report(
    survey: Survey, settings: NodeSettings, pair: tuple[str | None, str | None], *, as_json: bool
) -> None:
    now = wall_now()
    verdicts = judge_all(survey, now)
    document = survey_document(survey, verdicts)
    named = settings.network.bootstrap
    if not as_json:
        for line in survey_lines(survey, verdicts, now):
            say(line)
    if not survey.manifests:
        error = nothing_found(survey, *pair, named)
        raise NotFoundError(error.message, remedy=error.remedy, details={**error.details, **document})
    if as_json:
        unreached = {address: survey.unreached[address] for address in named if address in survey.unreached}
        emit_json({"ok": True, **document, "addresses": unreached})
        return
    for line in unreached_lines(survey, named):
        say(line)


def _watch(
    client: Client,
    surveyor_on: Callable[[Transport, PlainProgress], Surveyor],
    show: Show,
    *,
    pair: tuple[str | None, str | None],
    named: Sequence[str],
    limit_s: float,
) -> None:
    def nobody(survey: Survey) -> None:
        error = nothing_found(survey, *pair, named)
        show.nobody(f"{error.message}; {error.remedy}")

    async def job(transport: Transport, hints: Hints, progress: PlainProgress) -> None:
        import trio

        with trio.move_on_after(limit_s):
            await surveyor_on(transport, progress).watch(named, hints, show.show, nobody)

    with show.in_use():
        client.run(job, PlainProgress("asking", "asked"), is_endless=True)


def _show_of(settings: NodeSettings, *, as_json: bool) -> Show:
    from p2pboot.cli.watching import Documents, Lines, Screen

    now = wall_clock()
    if as_json:
        return Documents(now)
    return Screen(now, settings.network.bootstrap) if sys.stdout.isatty() else Lines(now)


def nothing_found(
    survey: Survey, channel: str | None, arch: str | None, bootstrap: Sequence[str]
) -> NotFoundError:
    """The error of a survey without any manifest: what the peers say of it, and what helps.

    Args:
        survey: what was found instead.
        channel: that was asked for, None for all.
        arch: likewise.
        bootstrap: the addresses that were given.
    """
    from p2pboot.fetch.asking.reasons import (
        MAX_NAMED,
        describe_peers,
        peers_to_json,
        remedy_for,
        remedy_for_nobody,
    )

    providers = survey.providers
    words = {peer_id: provider.word for peer_id, provider in providers.items()}
    details = {"peers": peers_to_json(words, survey.failures), "addresses": survey.unreached}
    unreached = "; ".join(list(survey.unreached.values())[:MAX_NAMED])
    aside = f" ({unreached})" if unreached else ""
    if not providers:
        because = describe_peers({}, survey.failures)
        return NotFoundError(
            f"no provider answered{': ' if because else ''}{because}{aside}",
            remedy=remedy_for_nobody(bootstrap),
            details=details,
        )
    wanted = " for " + "/".join(part or "any" for part in (channel, arch)) if channel or arch else ""
    because = describe_peers(words, survey.failures)
    return NotFoundError(
        f"none of {len(providers)} peers offers a manifest{wanted}{': ' if because else ''}{because}{aside}",
        remedy=remedy_for(words.values()) or _remedy(channel, arch),
        details=details,
    )


def _remedy(channel: str | None, arch: str | None) -> str:
    """Only options that were given can be left out."""
    given = [name for name, value in (("--channel", channel), ("--arch", arch)) if value is not None]
    others = "ask other peers: --bootstrap MULTIADDR"
    return f"leave {' and '.join(given)} out to see everything, or {others}" if given else others
