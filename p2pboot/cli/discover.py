"""`p2pboot discover`: providers within reach, and the manifests they offer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.network import Client, begin, dht_options, network_options
from p2pboot.cli.options import Command, max_lifetime_option
from p2pboot.cli.output import emit_json, human_duration, human_size, say
from p2pboot.cli.progress import PlainProgress
from p2pboot.cli.settings import setting_options, take_pair
from p2pboot.errors import NotFoundError

if TYPE_CHECKING:
    from p2pboot.cli.network import Hints
    from p2pboot.config.settings import NodeSettings
    from p2pboot.core.manifest import Manifest
    from p2pboot.core.policy import TrustPolicy
    from p2pboot.core.verify import Verdict
    from p2pboot.fetch.asking.survey import Survey
    from p2pboot.transport.interface import Transport


@click.command(cls=Command)
@setting_options("provider.channel", "provider.arch")
@max_lifetime_option
@network_options(
    timeout_s=5.0, timeout_help="Seconds to look around; without mDNS it ends as soon as everybody answered."
)
@dht_options
def discover(
    *, timeout: float, client_key_path: Path | None, config_path: Path | None, as_json: bool, **params: Any
) -> None:
    """List providers and what they offer, who signed it, and whether a given trust would take it."""
    channel, arch = take_pair(params)
    settings = begin(params, config_path)
    survey = _survey(settings, Client.of(settings, client_key_path), channel, arch, timeout)
    verdicts = _judge(survey, settings.policy)
    if not survey.manifests:
        raise nothing_found(survey, channel, arch, settings.network.bootstrap)
    if as_json:
        emit_json(_document(survey, verdicts))
    else:
        _say(survey, verdicts)


def _survey(
    settings: NodeSettings, client: Client, channel: str | None, arch: str | None, timeout_s: float
) -> Survey:
    from p2pboot.fetch.asking.survey import Surveyor

    async def job(transport: Transport, hints: Hints, progress: PlainProgress) -> Survey:
        wider = client.wider(transport, channel, arch)
        surveyor = Surveyor(transport, channel, arch, progress, wider)
        return await surveyor.run(settings.network.bootstrap, hints, timeout_s)

    found: list[Survey] = []
    client.run(job, PlainProgress("asking", "asked"), found.append)
    return found[0]


def _judge(survey: Survey, policy: TrustPolicy) -> dict[str, Verdict]:
    """The verdict on each manifest by its digest; none when nobody is trusted."""
    from p2pboot.core.clock import effective_now
    from p2pboot.core.verify import Question, judge

    if not policy.publishers:
        return {}
    question = Question(policy, effective_now(wall_now(), None))
    return {digest: judge(manifest, question) for digest, manifest in survey.manifests.items()}


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

    words = {peer_id: provider.word for peer_id, provider in survey.providers.items()}
    details = {"peers": peers_to_json(words, survey.failures), "addresses": survey.unreached}
    unreached = "; ".join(list(survey.unreached.values())[:MAX_NAMED])
    aside = f" ({unreached})" if unreached else ""
    if not survey.providers:
        because = describe_peers({}, survey.failures)
        return NotFoundError(
            f"no provider answered{': ' if because else ''}{because}{aside}",
            remedy=remedy_for_nobody(bootstrap),
            details=details,
        )
    wanted = " for " + "/".join(part or "any" for part in (channel, arch)) if channel or arch else ""
    because = describe_peers(words, survey.failures)
    return NotFoundError(
        f"none of {len(survey.providers)} peers offers a manifest{wanted}"
        f"{': ' if because else ''}{because}{aside}",
        remedy=remedy_for(words.values()) or _remedy(channel, arch),
        details=details,
    )


def _remedy(channel: str | None, arch: str | None) -> str:
    """Only options that were given can be left out."""
    given = [name for name, value in (("--channel", channel), ("--arch", arch)) if value is not None]
    others = "ask other peers: --bootstrap MULTIADDR"
    return f"leave {' and '.join(given)} out to see everything, or {others}" if given else others


def _document(survey: Survey, verdicts: dict[str, Verdict]) -> dict[str, object]:
    return {
        "ok": True,
        "providers": [
            {
                "peer_id": provider.peer_id,
                "addresses": list(provider.addresses),
                "manifests": [
                    _entry(survey.manifests[digest], verdicts.get(digest)) for digest in provider.offers
                ],
                **provider.word.to_json(),
            }
            for provider in survey.providers.values()
        ],
        "dropped_peers": survey.dropped,
    }


def _entry(manifest: Manifest, verdict: Verdict | None) -> dict[str, object]:
    from p2pboot.core.manifest.facts import facts

    return {
        **facts(manifest, "digest", "channel", "arch", "version", "manifest_version", "created_at"),
        **facts(manifest, "expires_at", "signers", "provider", "artifacts"),
        "accepted": None if verdict is None else verdict.ok,
        "reason": None if verdict is None else verdict.reason,
        "verdict": None if verdict is None else verdict.to_json(),
    }


def _say(survey: Survey, verdicts: dict[str, Verdict]) -> None:
    for provider in survey.providers.values():
        say(f"{provider.peer_id}  {' '.join(provider.addresses)}")
        for digest in provider.offers:
            _say_offer(survey.manifests[digest], verdicts.get(digest))
        for one in provider.word.withheld:
            say(f"  {one.channel}/{one.arch}  not offered, as it says: {one.text}")
        if not provider.offers and not provider.word.withheld:
            elsewhere = "".join(f" {pair}" for pair in provider.word.elsewhere)
            say("  offers nothing of it" + (f", but{elsewhere}" if elsewhere else ""))
    for peer_id, why in survey.dropped.items():
        say(f"{peer_id}  dropped: {why}")


def _say_offer(manifest: Manifest, verdict: Verdict | None) -> None:
    left_s = manifest.expires_at - wall_now()
    age = human_duration(max(0, wall_now() - manifest.created_at))
    expiry = f"expires in {human_duration(left_s)}" if left_s > 0 else f"expired {human_duration(left_s)} ago"
    total = human_size(sum(artifact.size for artifact in manifest.artifacts.values()))
    say(
        f"  {manifest.channel}/{manifest.arch}  version {manifest.version}"
        f"  manifest version {manifest.manifest_version}  {total}  {age} old, {expiry}"
    )
    say(f"    digest     sha256:{manifest.digest}")
    for keyid in manifest.signers:
        say(f"    signed by  {keyid}")
    if verdict is not None and verdict.failed is None:
        say("    this trust takes it")
    elif verdict is not None and verdict.failed is not None:
        say(f"    this trust refuses it: {verdict.failed.detail}")
