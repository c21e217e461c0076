"""Who is found in the end, by all ways together, as `discover` and `fetch` find them; and what they say."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

from p2pboot.core.identity import PublicKey
from p2pboot.doctor.findings import Code, Finding, State, failed, ok, warning
from p2pboot.doctor.patient import Patient, in_thread
from p2pboot.doctor.trust import known_policy
from p2pboot.fetch.asking.reasons import remedy_for
from p2pboot.fetch.asking.survey import Peer, Survey, Surveyor
from p2pboot.fetch.progress import NoProgress
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.mdns import open_mdns

ASK_S: Final = 6.0
"""For peers to be found, and to answer."""

_NAMED: Final = 4
_MAX_FINDINGS: Final = 8  # of one kind: of a thousand strangers all say the same
_SUBJECT: Final = "peers"


async def find_peers(patient: Patient, within_s: float) -> Survey:
    """Ask everybody who can be found. A node asks those with whom it is connected, and whom they know.

    Args:
        patient: who asks.
        within_s: seconds at most.
    """
    network = patient.settings.network
    if patient.is_node and not patient.transport.peers():
        return Survey({}, {}, {}, {}, {})  # it looks for others all the time, and has nobody
    async with AsyncExitStack() as stack:
        hints = None
        if network.mdns and not patient.is_node:
            discovery = open_mdns(
                patient.transport.peer_id, tuple, interfaces=patient.interfaces, report=lambda _reason: None
            )
            hints = await stack.enter_async_context(discovery)
        surveyor = Surveyor(
            patient.transport,
            patient.channel,
            patient.arch,
            NoProgress(),
            patient.wider(),
            policy=await in_thread(known_policy, patient),
            now=patient.wall,
        )
        named = () if patient.is_node else [one for one in network.bootstrap if _can_be_somebodys(one)]
        return await surveyor.run(named, hints, min(ASK_S, within_s))


def _can_be_somebodys(address: str) -> bool:
    """Whether the peer that it names, if it does, has a key of the kind that ours have; else no dial is tried."""
    peer_id = parse_address(address).peer_id
    try:
        return peer_id is None or bool(PublicKey.from_peer_id(peer_id))
    except ValueError:
        return False


def judge_survey(survey: Survey, patient: Patient, *, connected: int) -> list[Finding]:
    """Who was found.

    Args:
        survey: of those who were asked.
        patient: who has asked.
        connected: with how many peers a connection is up.
    """
    if not survey.providers:
        return _judge_nobody(survey, patient, connected=connected)
    found = [_judge_offers(survey, patient)]
    found += [
        warning(Code.WITHHELD, peer_id, f"it {sentence}", remedy_for([provider.word]))
        for peer_id, provider in survey.providers.items()
        if (sentence := provider.word.sentence()) and not provider.offers
    ][:_MAX_FINDINGS]
    found += _judge_failures(survey)
    return found


def _judge_nobody(survey: Survey, patient: Patient, *, connected: int) -> list[Finding]:
    network = patient.settings.network
    if not patient.is_node and not network.bootstrap and not network.mdns and not connected:
        text = "there is nobody to ask: no bootstrap address is named, mDNS is off, and nobody is remembered"
        remedy = "add --bootstrap MULTIADDR (the first line that `p2pboot serve` prints), or --mdns"
        return [failed(Code.NOBODY_TO_ASK, _SUBJECT, text, remedy)]
    how = "peers are connected, and none answers" if connected else "nobody was found"
    remedy = "see what the other checks say"
    if not connected:
        remedy += ", and that a provider runs; or name another one: --bootstrap MULTIADDR"
    heard_of = {one: why for one, why in survey.unreached.items() if one not in network.bootstrap}
    if heard_of:
        shown = "; ".join(list(heard_of.values())[:_NAMED])
        count = "1 address was" if len(heard_of) == 1 else f"{len(heard_of)} addresses were"
        how += f"; {count} told of, without a connection: {shown}"
        remedy = "on the machines there let in the TCP port that these addresses name"
    # Who only publishes may well be the first one.
    follows = not patient.is_node or not patient.settings.trusts_nobody
    finding = (failed if follows else warning)(Code.NOBODY, _SUBJECT, how, remedy)
    return [finding, *_judge_failures(survey)]


def _judge_offers(survey: Survey, patient: Patient) -> Finding:
    providers = survey.providers.values()
    offering = [provider for provider in providers if provider.offers]
    count = f"{len(providers)} peer{'s' * (len(providers) != 1)}"
    if not offering:
        wanted = "/".join(part or "any" for part in (patient.channel, patient.arch))
        what = f"a manifest for {wanted}" if patient.channel or patient.arch else "any manifest"
        text = f"{count} answered, and none offers {what}"
        remedy = remedy_for(provider.word for provider in providers)
        # To a node others need not offer what it publishes itself.
        follows = not patient.is_node or not patient.settings.trusts_nobody
        said = failed if follows else warning
        return said(Code.NO_MANIFEST, _SUBJECT, text, remedy or "ask others: --bootstrap MULTIADDR")
    named = ", ".join(map(_described, offering[:_NAMED]))
    more = f" and {len(offering) - _NAMED} more" if len(offering) > _NAMED else ""
    manifests = "1 manifest is" if len(survey.manifests) == 1 else f"{len(survey.manifests)} manifests are"
    text = f"{count} answered, {manifests} offered by {named}{more}"
    return ok(Code.PEERS, _SUBJECT, text)


def _described(peer: Peer) -> str:
    """Who it is, where, and how it was found first."""
    where = f" at {peer.addresses[0]}" if peer.addresses else ""
    found = f" (found by {peer.sources[0].label})" if peer.sources else ""
    return f"{peer.peer_id}{where}{found}"


def _judge_failures(survey: Survey) -> list[Finding]:
    remedy = "ask who runs it; others are asked instead"
    return [
        Finding(Code.PEER_FAILED, State.WARNING, peer_id, why, remedy)
        for peer_id, why in list(survey.failures.items())[:_MAX_FINDINGS]
    ]
