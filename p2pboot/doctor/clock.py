"""Is this machine's clock right: beside the dates of gateways, of the newest manifest, and of this program's release?

A gateway's `Date` is nobody's signed word, and neither is a stranger's manifest; so both only count together with
others, or where a trusted key signed. And only such gateways are asked as a trusted key names, or as are where their
peer was reached: a stranger's manifest is not to have this machine speak to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import trio

from p2pboot import RELEASE_DATE
from p2pboot.core.clock import Clock, effective_now
from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Policy
from p2pboot.core.timestamps import MAX_TIME, clock_text, format_time
from p2pboot.core.trust import Trust
from p2pboot.core.verify import MAX_AHEAD_S, clock_problem
from p2pboot.doctor.findings import Code, Finding, failed, ok, skipped, warning
from p2pboot.doctor.patient import Patient
from p2pboot.fetch.asking.survey import Survey
from p2pboot.store.catalogue import Catalogue
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Connection

MAX_GATEWAYS: Final = 8
ANSWER_S: Final = 3.0
_HEAD_BYTES: Final = 8192
_SET: Final = "set this machine's clock (timedatectl set-ntp true, chronyd -q, or date -s)"
_SUBJECT: Final = "clock"


@dataclass(frozen=True, slots=True)
class Said:
    """What a gateway says what time it is.

    Args:
        gateway: host and port.
        date: its `Date`, unix seconds; None where it does not say.
        wall: this machine's clock meanwhile.
        failure: why it does not say.
    """

    gateway: str
    date: int | None
    wall: float
    failure: str = ""


def remembered(patient: Patient) -> Clock:
    """The time by what was accepted before; blocking, raises as the store does."""
    with patient.memory() as store:
        if store is None:
            return effective_now(int(patient.wall()), None)
        return Catalogue(store, Trust(patient.settings.policy), patient.wall).clock()


def is_trusted(manifest: Manifest, policy: Policy) -> bool:
    """Whether enough keys signed that the operator believes for its channel and arch."""
    publisher = policy.publisher_for(manifest.channel, manifest.arch)
    return publisher is not None and len(set(publisher.keys) & set(manifest.signers)) >= publisher.threshold


def gateways_of(survey: Survey, policy: Policy, connections: Iterable[Connection]) -> list[tuple[str, int]]:
    """Hosts and ports of the gateways that may be asked what time it is.

    Args:
        survey: what was found.
        policy: whom to believe.
        connections: where peers are, by what this end sees of them and not by their word.
    """
    hosts = {connection.peer_id: _host(connection.address) for connection in connections}
    found: dict[tuple[str, int], None] = {}
    for digest, manifest in survey.manifests.items():
        near = {hosts.get(peer_id) for peer_id, one in survey.providers.items() if digest in one.offers}
        for host, port in _http_hosts(manifest):
            if is_trusted(manifest, policy) or host in near:
                found[host, port] = None
    return list(found)[:MAX_GATEWAYS]


def _host(address: str) -> str:
    return parse_address(address).host.partition("%")[0]


def _http_hosts(manifest: Manifest) -> Iterable[tuple[str, int]]:
    for artifact in manifest.artifacts.values():
        for url in artifact.urls:
            try:
                split = urlsplit(url)
                host, port = split.hostname, split.port or 80
            except ValueError:
                continue
            if split.scheme == "http" and host:
                yield host, port


async def ask_dates(gateways: Sequence[tuple[str, int]], wall: Callable[[], float]) -> list[Said]:
    """Ask gateways what time it is, all at once."""
    said: list[Said] = []

    async def ask(host: str, port: int) -> None:
        said.append(await _ask(host, port, wall))

    async with trio.open_nursery() as nursery:
        for host, port in gateways:
            nursery.start_soon(ask, host, port)
    return sorted(said, key=lambda one: one.gateway)


async def _ask(host: str, port: int, wall: Callable[[], float]) -> Said:
    name = f"{f'[{host}]' if ':' in host else host}:{port}"
    before = wall()
    try:
        with trio.fail_after(ANSWER_S):
            async with await trio.open_tcp_stream(host, port) as stream:
                request = (
                    f"HEAD / HTTP/1.1\r\nHost: {name}\r\nUser-Agent: p2pboot\r\nConnection: close\r\n\r\n"
                )
                await stream.send_all(request.encode("ascii", "replace"))
                head = await _read_head(stream)
    except trio.TooSlowError:
        return Said(name, None, before, f"no answer in {ANSWER_S:g} s")
    except (OSError, trio.BrokenResourceError) as error:
        return Said(name, None, before, str(error) or "it hung up")
    date = date_of(head)
    return Said(name, date, (before + wall()) / 2, "" if date is not None else "it sends no Date")


async def _read_head(stream: trio.SocketStream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
        chunk = await stream.receive_some(_HEAD_BYTES)
        if not chunk:
            break
        head += chunk
    return head[:_HEAD_BYTES]


def date_of(head: bytes) -> int | None:
    """The `Date` of an HTTP answer's head, unix seconds; None where there is none that is one."""
    if not head.startswith(b"HTTP/1."):
        return None
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"date":
            try:
                date = parsedate_to_datetime(value.decode("ascii").strip()).timestamp()
            except (ValueError, TypeError, OverflowError):
                return None
            return int(date) if 0 <= date <= MAX_TIME else None
    return None


def judge_clock(
    clock: Clock, wall: float, said: Sequence[Said], manifests: Mapping[str, Manifest], policy: Policy
) -> list[Finding]:
    """What this machine's clock is worth.

    Args:
        clock: by what was accepted before.
        wall: this machine's clock, unix seconds.
        said: by gateways.
        manifests: that were found, by digest.
        policy: whom to believe.
    """
    now = clock_text(wall)
    found: list[Finding] = []
    problem = clock_problem(clock)
    if wall < RELEASE_DATE:
        text = f"it says {now}, which is before this program was released ({format_time(RELEASE_DATE)})"
        found.append(failed(Code.CLOCK_BEHIND, _SUBJECT, text, _SET))
    elif problem is not None:
        found.append(failed(Code.CLOCK_BEHIND, _SUBJECT, problem.text, problem.remedy))
    found += _judge_manifests(wall, now, manifests, policy)
    found += _judge_gateways(said, now)
    if found and any(finding.code is not Code.GATEWAY_SILENT for finding in found):
        return found
    dates = [one for one in said if one.date is not None]
    if dates:
        named = ", ".join(one.gateway for one in dates)
        return [ok(Code.CLOCK, _SUBJECT, f"it says {now}, as {named} does, within minutes"), *found]
    if manifests:
        newest = format_time(max(manifest.created_at for manifest in manifests.values()))
        return [ok(Code.CLOCK, _SUBJECT, f"it says {now}, after the newest manifest ({newest})"), *found]
    text = (
        f"it says {now}, after this program's release; there is no gateway and no manifest to compare it with"
    )
    return [skipped(Code.CLOCK_UNCHECKED, _SUBJECT, text), *found]


def _judge_manifests(
    wall: float, now: str, manifests: Mapping[str, Manifest], policy: Policy
) -> list[Finding]:
    ahead = [one for one in manifests.values() if one.created_at > wall + MAX_AHEAD_S]
    if not ahead or wall < RELEASE_DATE:
        return []
    newest = max(ahead, key=lambda one: (is_trusted(one, policy), one.created_at))
    text = f"it says {now}, and a manifest of {newest.channel}/{newest.arch} is of {format_time(newest.created_at)}"
    if is_trusted(newest, policy):
        return [failed(Code.CLOCK_BEHIND, _SUBJECT, f"{text}, signed by a trusted key", _SET)]
    remedy = f"compare this machine's clock with another one; if it is behind, {_SET}"
    return [warning(Code.CLOCK_BEHIND, _SUBJECT, f"{text}, by keys that are not trusted here", remedy)]


def _judge_gateways(said: Sequence[Said], now: str) -> list[Finding]:
    told = [(one, one.date - one.wall) for one in said if one.date is not None]
    apart = [(one, by) for one, by in told if abs(by) > MAX_AHEAD_S]
    found = [
        warning(Code.GATEWAY_SILENT, one.gateway, f"it does not say what time it is: {one.failure}")
        for one in said
        if one.date is None
    ]
    if not apart:
        return found
    shown = "; ".join(f"{one.gateway} says {format_time(one.date or 0)}" for one, _ in apart)
    agreed = len(apart) == len(told) and (all(by > 0 for _, by in apart) or all(by < 0 for _, by in apart))
    text = f"this machine's says {now}, and {shown}"
    if agreed:
        return [failed(Code.CLOCK_DIFFERS, _SUBJECT, text, _SET), *found]
    remedy = "compare both with a third one: either a gateway's clock is wrong, or this machine's"
    return [warning(Code.CLOCK_DIFFERS, _SUBJECT, text, remedy), *found]
