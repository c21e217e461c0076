"""Multicast, on sockets that are not there: what leaves, what comes back, and who answers."""

from __future__ import annotations

import errno
import os
import socket

import pytest
import trio
from trio.testing import MockClock

from p2pboot.doctor.findings import Code, Finding, State
from p2pboot.doctor.multicast import Heard, judge_multicast, listen
from p2pboot.testing.manifests import ALICE, BOB
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interfaces import Listing
from p2pboot.transport.mdns.links import Link
from p2pboot.transport.mdns.records import QUESTION, announcement
from tests.doctor.patients import LISTING, short

LAN, SIX = Link(socket.AF_INET, 2, "eth0"), Link(socket.AF_INET6, 2, "eth0")
LO = Link(socket.AF_INET, 1, "lo", is_loopback=True)
OWN = ALICE.public.peer_id
OTHER = announcement(b"o" * 32, [parse_address("/ip4/192.0.2.9/tcp/4001").with_peer(BOB.public.peer_id)])
OURS = announcement(b"w" * 32, [parse_address("/ip4/192.0.2.7/tcp/4001").with_peer(OWN)])


class Wire:
    """A link: gives back what is sent, if it does, and has others answer."""

    def __init__(
        self,
        *,
        echoes: bool = True,
        answers: tuple[tuple[bytes, str], ...] = (),
        refuses: int = 0,
        flood: bool = False,
    ) -> None:
        self._send, self._receive = trio.open_memory_channel[tuple[bytes, str]](10_000)
        self._echoes, self._answers, self._refuses = echoes, answers, refuses
        self.sent: list[bytes] = []
        self.received = 0
        self.closed = False
        for _ in range(5_000 * flood):
            self._send.send_nowait((b"junk", "192.0.2.66"))

    def send(self, packet: bytes) -> None:
        if self._refuses:
            raise OSError(self._refuses, os.strerror(self._refuses))
        self.sent.append(packet)
        if self._echoes:
            self._send.send_nowait((packet, "192.0.2.7"))
        if packet == QUESTION:
            for answer in self._answers:
                self._send.send_nowait(answer)

    async def receive(self) -> tuple[bytes, tuple[str, int]]:
        packet, host = await self._receive.receive()
        self.received += 1
        return packet, (host, 5353)

    def close(self) -> None:
        self.closed = True


async def heard_on(wire: Wire, link: Link = LAN) -> Heard:
    (heard,) = await listen([link], lambda _link: wire)
    assert wire.closed
    return heard


def judged(*heard: Heard, listing: Listing = LISTING) -> list[Finding]:
    return judge_multicast(heard, listing, own_id=OWN)


async def test_who_answers_is_named(autojump_clock: MockClock) -> None:
    heard = await heard_on(Wire(answers=((OTHER, "192.0.2.9"), (OURS, "192.0.2.7"))))
    (finding,) = judged(heard)
    assert short([finding]) == [(Code.MULTICAST, State.OK)]
    assert f"{BOB.public.peer_id} from 192.0.2.9" in finding.text
    assert OWN not in finding.text
    assert "on this machine" not in finding.text


async def test_who_answers_on_this_machine_only_is_said_to(autojump_clock: MockClock) -> None:
    (finding,) = judged(await heard_on(Wire(answers=((OTHER, "192.0.2.7"),))))
    assert finding.state is State.OK
    assert finding.text.endswith("all on this machine")


async def test_a_question_comes_back_and_nobody_answers(autojump_clock: MockClock) -> None:
    wire = Wire(answers=((OURS, "192.0.2.7"),))
    (finding,) = judged(await heard_on(wire))
    assert short([finding]) == [(Code.MULTICAST_ALONE, State.WARNING)]
    assert QUESTION in wire.sent  # which real peers answer


async def test_what_does_not_come_back_is_dropped_by_this_machine(autojump_clock: MockClock) -> None:
    (finding,) = judged(await heard_on(Wire(echoes=False)))
    assert short([finding]) == [(Code.MULTICAST_NOT_HEARD, State.FAILED)]
    assert finding.remedy is not None
    assert "5353" in finding.remedy


async def test_another_ones_question_is_not_taken_for_the_own(autojump_clock: MockClock) -> None:
    (finding,) = judged(await heard_on(Wire(echoes=False, answers=((QUESTION, "192.0.2.9"),))))
    assert finding.code is Code.MULTICAST_NOT_HEARD


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EPERM, "firewall"), (errno.ENETUNREACH, "route for multicast")]
)
async def test_what_can_not_be_sent_says_why(autojump_clock: MockClock, number: int, said: str) -> None:
    (finding,) = judged(await heard_on(Wire(refuses=number)))
    assert short([finding]) == [(Code.MULTICAST_NOT_SENT, State.FAILED)]
    assert os.strerror(number) in finding.text
    assert finding.remedy is not None
    assert said in finding.remedy


@pytest.mark.parametrize(("number", "said"), [(errno.EADDRINUSE, "5353"), (errno.ENODEV, "MULTICAST")])
async def test_where_it_can_not_take_part(autojump_clock: MockClock, number: int, said: str) -> None:
    def refuse(_link: Link) -> Wire:
        raise OSError(number, os.strerror(number))

    (finding,) = judged(*await listen([LAN], refuse))
    assert short([finding]) == [(Code.MULTICAST_NOT_JOINED, State.FAILED)]
    assert finding.remedy is not None
    assert said in finding.remedy


async def test_one_link_that_is_well_makes_the_others_a_warning(autojump_clock: MockClock) -> None:
    wires = {LAN: Wire(answers=((OTHER, "192.0.2.9"),)), SIX: Wire(refuses=errno.EPERM), LO: Wire()}
    found = judged(*await listen([LAN, SIX, LO], lambda link: wires[link]))
    assert short(found) == [(Code.MULTICAST, State.OK), (Code.MULTICAST_NOT_SENT, State.WARNING)]


def test_without_any_link_that_is_said() -> None:
    assert short(judged(Heard(LO, own=True))) == [(Code.MULTICAST_NOWHERE, State.FAILED)]


async def test_a_flood_is_not_listened_to(autojump_clock: MockClock) -> None:
    wire = Wire(flood=True)
    await heard_on(wire)
    assert wire.received <= 300
