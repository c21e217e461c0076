"""How peers that were found are shown: as rows for people, and as documents for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from p2pboot.core.amounts import duration_text, size_text

if TYPE_CHECKING:
    from p2pboot.core.manifest import Manifest
    from p2pboot.core.verify import Verdict
    from p2pboot.fetch.asking.survey import Peer, Survey

Verdicts = Mapping[str, "Verdict"]  # by the manifest's digest

_HEAD = f"{'PEER':<52}  {'SOURCE':<12}  {'ROUND TRIP':>10}"


def judge_all(survey: Survey, now: int) -> dict[str, Verdict]:
    """The verdict on each manifest by its digest; none when nobody is trusted."""
    from p2pboot.core.clock import effective_now
    from p2pboot.core.verify import Question, judge

    hearing = survey.hearing
    if hearing is None or not hearing.policy.publishers:
        return {}
    clock = effective_now(now, None)
    return {
        digest: judge(
            one, hearing.question(Question(hearing.policy, clock, channel=one.channel, arch=one.arch))
        )
        for digest, one in survey.manifests.items()
    }


# Documents


def survey_document(survey: Survey, verdicts: Verdicts) -> dict[str, object]:
    """Who was reached, those who answered apart from those who did not."""
    peers = [peer_document(peer, survey, verdicts) for peer in survey.peers.values()]
    return {
        "providers": [peer for peer in peers if peer["failure"] is None],
        "other_peers": [peer for peer in peers if peer["failure"] is not None],
        "dropped_peers": survey.dropped,
    }


def peer_document(peer: Peer, survey: Survey, verdicts: Verdicts) -> dict[str, object]:
    """One peer."""
    took = peer.round_trip_s
    return {
        "peer_id": peer.peer_id,
        "addresses": list(peer.addresses),
        "sources": [source.value for source in peer.sources],
        "round_trip_ms": None if took is None else round(took * 1000, 3),
        "manifests": [_offer(survey.manifests[digest], verdicts.get(digest)) for digest in peer.offers],
        **peer.word.to_json(),
        "failure": peer.failure,
        "root_version": peer.told.root_version,
        "freshness": [
            {
                "channel": one.body.channel,
                "arch": one.body.arch,
                "created_at": one.body.created_at,
                "head_version": one.body.head_version,
                "minimum": one.body.minimum,
            }
            for one in peer.told.statements
        ],
    }


def _offer(manifest: Manifest, verdict: Verdict | None) -> dict[str, object]:
    from p2pboot.core.manifest.facts import facts

    return {
        **facts(manifest, "digest", "channel", "arch", "version", "manifest_version", "created_at"),
        **facts(manifest, "expires_at", "signers", "provider", "artifacts"),
        "accepted": None if verdict is None else verdict.ok,
        "reason": None if verdict is None else verdict.reason,
        "verdict": None if verdict is None else verdict.to_json(),
    }


# Lines


def survey_lines(survey: Survey, verdicts: Verdicts, now: int) -> Iterator[str]:
    """A table of the peers, and below each of them what it offers; each manifest at length where it comes first."""
    if survey.peers:
        yield _HEAD
    said: set[str] = set()
    for peer in survey.peers.values():
        yield f"{peer.peer_id:<52}  {source_of(peer):<12}  {round_trip_of(peer):>10}"
        yield from (f"  {address}" for address in peer.addresses)
        for digest in peer.offers:
            manifest = survey.manifests[digest]
            if digest in said:
                yield f"  {title_of(manifest)}, as above"
                yield f"    digest     sha256:{digest}"
            else:
                yield from _offer_lines(manifest, verdicts.get(digest), now)
            said.add(digest)
        yield from _told_lines(peer, now)
        for one in peer.word.withheld:
            yield f"  {one.channel}/{one.arch}  not offered, as it says: {one.text}"
        if peer.failure is not None:
            yield f"  {peer.failure}"
        elif not peer.offers and not peer.word.withheld:
            elsewhere = "".join(f" {pair}" for pair in peer.word.elsewhere)
            yield "  offers nothing of it" + (f", but{elsewhere}" if elsewhere else "")
    for peer_id, why in survey.dropped.items():
        if peer_id not in survey.peers or survey.peers[peer_id].failure is None:
            yield f"{peer_id}  dropped: {why}"


def _told_lines(peer: Peer, now: int) -> Iterator[str]:
    """What it has of trust: a peer whose statements are old has not heard of the publisher for so long."""
    if peer.told.root_version is not None:
        yield f"  root       version {peer.told.root_version}"
    for one in peer.told.statements:
        age = duration_text(max(0, now - one.body.created_at))
        pair, head = "/".join(one.pair), one.body.head_version
        yield f"  fresh      {pair}: {age} ago the newest was manifest version {head}"


def unreached_lines(survey: Survey, addresses: Iterable[str]) -> Iterator[str]:
    """Why some addresses could not be reached, each that was not."""
    return (f"not reached: {survey.unreached[one]}" for one in addresses if one in survey.unreached)


def source_of(peer: Peer) -> str:
    """What led to a peer first."""
    return peer.sources[0].label if peer.sources else "-"


def round_trip_of(peer: Peer) -> str:
    """Milliseconds, to three digits; "-" where they are not known."""
    if peer.round_trip_s is None:
        return "-"
    took_ms = peer.round_trip_s * 1000
    return f"{took_ms:.{0 if took_ms >= 99.95 else 1 if took_ms >= 9.995 else 2}f} ms"


def title_of(manifest: Manifest) -> str:
    """A manifest in a few words, which another one may have as well."""
    return (
        f"{manifest.channel}/{manifest.arch}  version {manifest.version}"
        f"  manifest version {manifest.manifest_version}"
    )


def judgement(verdict: Verdict | None) -> str | None:
    """Whether the trust that was given takes a manifest; None where none was."""
    if verdict is None:
        return None
    if verdict.failed is None:
        return "this trust takes it"
    return f"this trust refuses it: {verdict.failed.detail}"


def _offer_lines(manifest: Manifest, verdict: Verdict | None, now: int) -> Iterator[str]:
    left_s = manifest.expires_at - now
    age = duration_text(max(0, now - manifest.created_at))
    expiry = f"expires in {duration_text(left_s)}" if left_s > 0 else f"expired {duration_text(left_s)} ago"
    total = size_text(sum(artifact.size for artifact in manifest.artifacts.values()))
    yield f"  {title_of(manifest)}  {total}  {age} old, {expiry}"
    yield f"    digest     sha256:{manifest.digest}"
    yield from (f"    signed by  {keyid}" for keyid in manifest.signers)
    if (said := judgement(verdict)) is not None:
        yield f"    {said}"
