"""Nobody is there, the publisher is not, or nobody comes in: told after a while, and over at once."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trust import Pair, Trust
from p2pboot.node.contact import (
    ALONE_S,
    INCOMING_S,
    LOOK_S,
    OUTGOING_PEERS,
    OUTGOING_S,
    SILENT_S,
    UNMET_S,
    Contact,
)
from p2pboot.node.observing import OBSERVE_S
from p2pboot.store.manifests import HeadRow
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.interface import Gossip
from tests.node.test_node import TRUST, to
from tests.node.world import PAIR, Mesh, Running, until

PUBLISHER = key_of("publisher").public
STARTED = "2027-01-15T08:00:00Z"


def row_of(version: int) -> HeadRow:
    return HeadRow(*PAIR, (PUBLISHER.keyid,), version, f"digest {version}", 1000, NOW, NOW + 30 * 86_400)


@dataclass
class World:
    """A contact, what it is asked with, and the network on which it looks."""

    contact: Contact
    transport: Gossip
    network: MemoryNetwork
    nursery: trio.Nursery
    rows: list[HeadRow] = field(default_factory=list)
    addressed: set[str] = field(default_factory=set)
    followed: list[Pair] = field(default_factory=list)
    expects: bool = False

    def problems(self) -> dict[str, str]:
        trust = Trust(TrustPolicy(TRUST), key=key_of("mirror").public.keyid)
        return {problem.code.value: problem.text for problem in self.contact.problems(self.rows, trust)}

    async def dialled(self, names: Sequence[str]) -> None:
        """Dial nodes of these names, which come up for it."""
        for name in names:
            other = await self.nursery.start(self._others, name)
            await self.transport.dial(other.addresses()[0])

    async def dials(self, name: str) -> None:
        """Have a node dial here."""
        other = await self.nursery.start(self._others, name)
        await other.dial(self.transport.addresses()[0])

    def leaves(self, name: str) -> None:
        self.network.disconnect(self.transport.peer_id, key_of(name).public.peer_id)

    async def _others(self, name: str, *, task_status: Any) -> None:
        async with self.network.open(key_of(name).public.peer_id) as transport:
            task_status.started(transport)
            await trio.sleep_forever()


@asynccontextmanager
async def looking() -> AsyncIterator[World]:
    network, started = MemoryNetwork(), trio.current_time()
    async with network.open(key_of("mirror").public.peer_id) as transport, trio.open_nursery() as nursery:
        contact = Contact(
            transport,
            expects_peers=lambda: world.expects,
            addressed=lambda: world.addressed,
            syncs=True,
            followed=lambda: world.followed,
            wall=lambda: NOW + trio.current_time() - started,
        )
        world = World(contact, transport, network, nursery)
        nursery.start_soon(contact.run)
        yield world
        nursery.cancel_scope.cancel()


async def test_nobody_for_ten_minutes_is_a_problem_of_a_node_that_is_to_have_peers(
    autojump_clock: None,
) -> None:
    async with looking() as world:
        await trio.sleep(UNMET_S - 1)
        world.expects = True
        assert world.problems() == {}
        world.expects = False
        await trio.sleep(2)
        assert world.problems() == {}  # the first of its network, perhaps
        world.expects = True
        assert world.problems() == {"no-peers": f"nobody is connected, since {STARTED}"}
        await world.dials("another")
        await trio.sleep(2 * LOOK_S)
        assert world.problems() == {}
        world.leaves("another")
        await trio.sleep(ALONE_S - 2 * LOOK_S)
        assert world.problems() == {}
        await trio.sleep(3 * LOOK_S)
        text = world.problems()["no-peers"]
        assert text.startswith("nobody is connected, since 2027-01-15T08:")
        await trio.sleep(10 * ALONE_S)
        assert world.problems()["no-peers"] == text  # else every look would be news for the log


async def test_a_publisher_whose_address_is_named_is_missed_whatever_others_say(autojump_clock: None) -> None:
    async with looking() as world:
        world.rows, world.addressed = [row_of(7)], {PUBLISHER.peer_id}
        await world.dialled(["publisher", "another"])
        await trio.sleep(2 * SILENT_S)
        assert world.problems() == {}
        world.leaves("publisher")
        await trio.sleep(SILENT_S - 2 * LOOK_S)
        assert world.problems() == {}
        world.contact.offered(["digest 7"])
        await trio.sleep(3 * LOOK_S)
        (text,) = world.problems().values()
        left = r"2027-01-15T(09:59:5|10:00:0)\dZ"  # at the last look
        assert re.fullmatch(
            f"its publisher, peer {PUBLISHER.peer_id}, has not been connected since {left}", text
        )
        await world.dialled(["publisher"])
        await trio.sleep(2 * LOOK_S)
        assert world.problems() == {}


async def test_where_the_publisher_is_not_named_anybodys_word_counts(autojump_clock: None) -> None:
    async with looking() as world:
        world.rows = [row_of(6), row_of(7)]
        for _ in range(3):
            assert world.problems() == {}
            await trio.sleep(SILENT_S - 1)
            world.contact.offered(["digest 7"])
        await trio.sleep(SILENT_S - 1)
        assert world.problems() == {}
        world.contact.offered(["digest 6", "digest 8"])  # an older one, and one that nobody has seen
        await trio.sleep(1)
        assert world.problems() == {
            "publisher-unreachable": "nobody has said since 2027-01-15T10:59:57Z that version 7 is the newest"
        }
        world.contact.offered(["digest 7"])
        assert world.problems() == {}


async def test_what_strangers_make_up_is_not_remembered(autojump_clock: None) -> None:
    async with looking() as world:
        world.rows = [row_of(7)]
        world.problems()
        world.contact.offered(f"digest {number}" for number in range(100_000))
        assert set(world.contact._offered) == {"digest 7"}


async def test_a_mirror_that_never_heard_of_anything_says_so(autojump_clock: None) -> None:
    async with looking() as world:
        world.followed = [PAIR, ("stable", "aarch64")]
        await trio.sleep(SILENT_S - 1)
        assert world.problems() == {}
        await trio.sleep(1)
        assert world.problems() == {
            "publisher-unreachable": "nobody has offered anything that is followed here since this node started,"
            f" {STARTED}"
        }
        world.rows = [row_of(1)]
        assert "that version 1 is the newest" in world.problems()["publisher-unreachable"]


async def test_a_node_that_nobody_ever_dials_says_that_its_port_may_be_closed(autojump_clock: None) -> None:
    async with looking() as world:
        await world.dialled([f"peer {number}" for number in range(OUTGOING_PEERS)])
        await trio.sleep(OUTGOING_S - 1)
        assert world.problems() == {}
        await trio.sleep(1 + LOOK_S)
        text = f"all peers were dialled from here: nobody has connected from outside since {STARTED}"
        assert world.problems() == {"port-unreachable": text}
        await world.dials("newcomer")
        await trio.sleep(3 * LOOK_S)
        assert world.problems() == {}
        world.leaves("newcomer")
        await trio.sleep(INCOMING_S - 2 * LOOK_S)
        assert world.problems() == {}
        await trio.sleep(3 * LOOK_S)
        assert set(world.problems()) == {"port-unreachable"}


async def test_with_few_peers_nothing_is_known_of_the_port(autojump_clock: None) -> None:
    async with looking() as world:
        await world.dialled([f"peer {number}" for number in range(OUTGOING_PEERS - 1)])
        await trio.sleep(2 * OUTGOING_S)
        assert world.problems() == {}
        await world.dialled(["another"])
        await trio.sleep(OUTGOING_S - 1)
        assert world.problems() == {}
        await trio.sleep(1 + LOOK_S)
        assert set(world.problems()) == {"port-unreachable"}


# -- whole nodes


def problems(node: Running) -> dict[str, str]:
    return {problem.code.value: problem.text for problem in node.node.problems.all()}


async def test_a_mirror_says_once_that_it_is_alone(
    mesh: Mesh, autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        await trio.sleep(ALONE_S + 5 * OBSERVE_S)
        (told,) = [one for one in caplog.records if "no-peers" in one.getMessage()]
        assert told.levelno == logging.WARNING
        assert told.getMessage() == (
            f"network: no-peers: nobody is connected, since {STARTED} (`p2pboot doctor` dials every address that is"
            " known here and says what fails); see docs/troubleshooting.md#no-peers"
        )
        async with mesh.publisher(network=to(mirror)):
            await until(lambda: "no-peers" not in problems(mirror))


@pytest.mark.parametrize("syncs", [True, False], ids=["sync", "gossip"])
async def test_heads_that_are_compared_say_that_a_version_is_the_newest(
    mesh: Mesh, autojump_clock: None, syncs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gossip alone does not, and so nothing is concluded from it."""
    monkeypatch.setattr("p2pboot.node.contact.SILENT_S", 900.0)
    network = {"gossip": True, "sync": syncs}
    async with mesh.node("mirror", trust=TRUST, network=network) as mirror:
        async with mesh.publisher(network=to(mirror, **network)):
            await until(lambda: mirror.version() == 1)
            await trio.sleep(2000)
            assert problems(mirror) == {}
        await trio.sleep(900 + 2 * OBSERVE_S)
        said = f"nobody has said since {STARTED} that version 1 is the newest"
        assert problems(mirror).get("publisher-unreachable") == (said if syncs else None)
