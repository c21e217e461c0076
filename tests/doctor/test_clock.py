"""The clock, beside all that there is to compare it with; and whom a stranger's manifest can not have us ask."""

from __future__ import annotations

from email.utils import formatdate

import pytest
import trio

from p2pboot import RELEASE_DATE
from p2pboot.core.clock import AcceptedTime, Clock, effective_now
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import TrustPolicy
from p2pboot.doctor.clock import MAX_GATEWAYS, Said, ask_dates, date_of, gateways_of, judge_clock
from p2pboot.doctor.findings import Code, Finding, State
from p2pboot.fetch.asking.survey import Peer, Survey
from p2pboot.testing.artifacts import artifact_of
from p2pboot.testing.manifests import ALICE, BOB, DAY_S, NOW, signed_manifest
from p2pboot.transport.interface import Connection
from tests.doctor.patients import short
from tests.fetch.world import POLICY, manifest_of

HOUR_S = 3600
PEER = BOB.public.peer_id


def said(by: int, name: str = "gateway:80") -> Said:
    return Said(name, NOW + by, NOW)


def judged(
    *dates: Said, wall: float = NOW, manifests: tuple[Manifest, ...] = (), policy: TrustPolicy = POLICY
) -> list[Finding]:
    clock = effective_now(int(wall), None)
    return judge_clock(clock, wall, dates, {one.digest: one for one in manifests}, policy)


def made_at(created_at: int) -> Manifest:
    return manifest_of(created_at=created_at, expires_at=created_at + DAY_S)


def test_a_clock_that_agrees() -> None:
    (finding,) = judged(said(-5), said(400))
    assert short([finding]) == [(Code.CLOCK, State.OK)]
    assert short(judged(manifests=(made_at(NOW - HOUR_S),))) == [(Code.CLOCK, State.OK)]
    assert short(judged()) == [(Code.CLOCK_UNCHECKED, State.SKIPPED)]


@pytest.mark.parametrize("wall", [0, -5, RELEASE_DATE - 1])
def test_a_clock_of_1970_is_seen_without_anybody(wall: int) -> None:
    (finding,) = judged(wall=wall)
    assert short([finding]) == [(Code.CLOCK_BEHIND, State.FAILED)]
    assert finding.remedy is not None


def test_a_trusted_manifest_of_the_future_is_this_clocks_fault_and_a_strangers_may_be() -> None:
    ahead = made_at(NOW + HOUR_S)
    (finding,) = judged(manifests=(ahead,))
    assert short([finding]) == [(Code.CLOCK_BEHIND, State.FAILED)]
    (finding,) = judged(manifests=(ahead,), policy=TrustPolicy(()))
    assert short([finding]) == [(Code.CLOCK_BEHIND, State.WARNING)]
    assert short(judged(manifests=(made_at(NOW + 500),))) == [
        (Code.CLOCK, State.OK)
    ]  # clocks differ by minutes


def test_what_was_accepted_before_holds_the_clock() -> None:
    held = AcceptedTime(NOW + 2 * HOUR_S, "stable", "x86_64", (ALICE.public.keyid,), "state")
    clock = Clock(held.created_at, trusted=False, wall=NOW, held_by=held)
    (finding,) = judge_clock(clock, NOW, [], {}, POLICY)
    assert short([finding]) == [(Code.CLOCK_BEHIND, State.FAILED)]
    assert "state recover" in str(finding.remedy)


def test_gateways_that_agree_with_each_other_outweigh_this_clock() -> None:
    assert short(judged(said(HOUR_S), said(HOUR_S + 9))) == [(Code.CLOCK_DIFFERS, State.FAILED)]
    assert short(judged(said(-HOUR_S))) == [(Code.CLOCK_DIFFERS, State.FAILED)]
    assert short(judged(said(HOUR_S), said(0))) == [(Code.CLOCK_DIFFERS, State.WARNING)]
    assert short(judged(said(HOUR_S), said(-HOUR_S))) == [(Code.CLOCK_DIFFERS, State.WARNING)]


def test_a_gateway_that_does_not_say_is_a_warning() -> None:
    found = judged(said(3), Said("[::1]:80", None, NOW, "no answer"))
    assert short(found) == [(Code.CLOCK, State.OK), (Code.GATEWAY_SILENT, State.WARNING)]


@pytest.mark.parametrize(
    ("head", "date"),
    [
        (b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:09 GMT\r\n\r\n", 9),
        (b"HTTP/1.1 404 Not Found\r\nX: y\r\ndate:Thu, 01 Jan 1970 00:00:09 GMT\r\n\r\n", 9),
        (b"HTTP/1.1 200 OK\r\nDate: tomorrow\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nDate: Thu, 99 Jan 1970 00:00:09 GMT\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nDate: \xff\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"SSH-2.0-OpenSSH\r\nDate: Thu, 01 Jan 1970 00:00:09 GMT\r\n", None),
        (b"", None),
    ],
)
def test_a_date_is_read_or_it_is_none(head: bytes, date: int | None) -> None:
    assert date_of(head) == date


def with_urls(*urls: str) -> Manifest:
    artifacts = [artifact_of(key, urls=urls) for key in ("kernel", "initramfs")]
    return signed_manifest(artifacts, [ALICE], expires_at=NOW + DAY_S)


def asked(manifest: Manifest, policy: TrustPolicy, *addresses: str) -> list[tuple[str, int]]:
    told = ("/ip4/127.0.0.1/tcp/9", "/ip4/169.254.169.254/tcp/80")  # what the peer says of itself
    provider = Peer(PEER, told, offers=(manifest.digest,))
    survey = Survey({PEER: provider}, {manifest.digest: manifest}, {}, {}, {})
    return gateways_of(survey, policy, [Connection(PEER, address, 1) for address in addresses])


def test_a_strangers_manifest_does_not_have_us_speak_to_others() -> None:
    manifest = with_urls(
        "http://192.0.2.9:8080/a",
        "http://127.0.0.1:9/",
        "http://169.254.169.254/",
        "http://boot.example.net/",
    )
    nobody = TrustPolicy(())
    assert asked(manifest, nobody, f"/ip4/192.0.2.9/tcp/4001/p2p/{PEER}") == [("192.0.2.9", 8080)]
    assert asked(manifest, nobody) == []
    assert ("boot.example.net", 80) in asked(manifest, POLICY)


def test_gateways_are_few_and_speak_http() -> None:
    assert asked(with_urls("https://boot.example.net/a"), POLICY) == []
    manifest = with_urls(*(f"http://192.0.2.{i}/a" for i in range(1, 17)))
    assert len(asked(manifest, POLICY)) == MAX_GATEWAYS


async def test_gateways_are_asked_and_none_holds_us_up() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        request = await stream.receive_some(4096)
        assert request.startswith(b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1:")
        await stream.send_all(f"HTTP/1.1 404 No\r\nDate: {formatdate(NOW, usegmt=True)}\r\n\r\n".encode())

    async def babble(stream: trio.SocketStream) -> None:
        await stream.send_all(b"x" * 100_000)

    async with trio.open_nursery() as nursery:
        ports = []
        for handler in (answer, babble):
            listeners = await nursery.start(trio.serve_tcp, handler, 0)
            ports.append(listeners[0].socket.getsockname()[1])
        dates = await ask_dates(
            [("127.0.0.1", ports[0]), ("127.0.0.1", ports[1]), ("127.0.0.1", 1)], lambda: NOW
        )
        nursery.cancel_scope.cancel()
    found = {one.gateway: one for one in dates}
    assert found[f"127.0.0.1:{ports[0]}"].date == NOW
    assert found[f"127.0.0.1:{ports[1]}"].date is None
    assert found["127.0.0.1:1"].failure
