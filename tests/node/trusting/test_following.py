"""Trust documents on their way by sync: whole nodes, and peers that are not what they should be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio

from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import TrustedRoot
from p2pboot.core.trustdocs.chain import Anchor
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.yank import MAX_YANKS
from p2pboot.fetch.asking.requests import requests_to
from p2pboot.node.trusting import following, offered
from p2pboot.protocol import client, messages
from p2pboot.protocol.client import ask_heads, ask_manifest
from p2pboot.protocol.frames import decode_array
from p2pboot.protocol.messages import (
    SYNC_PROTOCOL,
    BadRequest,
    FreshnessRequest,
    HeadsRequest,
    Reply,
    RootsRequest,
    Status,
    YanksRequest,
    encode_documents,
    parse_request,
)
from p2pboot.store.trustgate import Fate
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.trustdocs import chain_of, next_root, root_body, signed_root, statement_of, yank_of
from p2pboot.transport.interface import Stream
from tests.node.world import PAIR, Mesh, Running, signed, trusting, until

SYNC_ONLY: dict[str, Any] = {"gossip": False, "sync_interval_s": 15.0}


def anchored(root: Root) -> tuple[TrustedRoot, ...]:
    """Knows the digest alone."""
    return (TrustedRoot(Anchor(root.digest)),)


def version_of(node: Running, index: int = 0) -> int:
    newest = node.node.catalogue.trust.roots[index].newest
    return 0 if newest is None else newest.version


def take_all(node: Running, roots: list[Root]) -> None:
    assert node.node.trust_gate.take_roots([root.raw for root in roots], source="a file").fate is Fate.NEWS


def told(node: Running, root: Root) -> list[bytes]:
    return node.node.documents.roots(root.digest, 0)


async def test_a_chain_walks_from_node_to_node_to_who_knows_a_digest_alone(
    mesh: Mesh, autojump_clock: None
) -> None:
    chain = chain_of(30)
    network = {**SYNC_ONLY}
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(mesh.node("first", roots=anchored(chain[0]), network=network))
        take_all(first, chain)
        second = await stack.enter_async_context(
            mesh.node("second", roots=anchored(chain[0]), network={**network, "bootstrap": (first.address,)})
        )
        await until(lambda: version_of(second) == 30)
        third = await stack.enter_async_context(
            mesh.node("third", roots=anchored(chain[11]), network={**network, "bootstrap": (second.address,)})
        )
        await until(lambda: version_of(third) == 30)
        raw = [root.raw for root in chain]
        assert told(second, chain[0]) == told(third, chain[0]) == told(third, chain[11]) == raw
        assert third.node.documents.roots(chain[0].digest, 28) == raw[28:]
        late = (TrustedRoot(Anchor.of_root(chain[20])),)
        fourth = await stack.enter_async_context(
            mesh.node("fourth", roots=late, network={**network, "bootstrap": (third.address,)})
        )
        await until(lambda: told(fourth, chain[0]) == raw)
        longer = next_root(chain[-1])
        take_all(first, [longer])
        await until(lambda: version_of(fourth) == 31)
        for node in (first, second, third, fourth):
            assert node.node.running().poisoners == 0


async def test_a_chain_that_takes_several_replies_is_walked_page_by_page(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = chain_of(20)
    raw = [root.raw for root in chain]
    monkeypatch.setattr(messages, "MAX_DOCUMENTS_BYTES", 3 * len(raw[0]) * 4 // 3 + 100)  # about three
    assert len(decode_array(bytearray(messages.encode_documents(raw)), 20)) < 4
    async with mesh.node("first", roots=anchored(chain[0]), network=SYNC_ONLY) as first:
        take_all(first, chain)
        network = {**SYNC_ONLY, "bootstrap": (first.address,)}
        for name, known in (("early", chain[0]), ("late", chain[15])):
            async with mesh.node(name, roots=anchored(known), network=network) as node:
                await until(lambda node=node: version_of(node) == 20)  # type: ignore[misc]
                assert node.store.documents.roots(chain[0].digest) == raw


async def test_the_history_of_hundreds_of_versions_is_filled_in_page_by_page(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = chain_of(300)
    raw = [root.raw for root in chain]
    for module in (messages, offered):
        monkeypatch.setattr(module, "MAX_DOCUMENTS_BYTES", 40 * len(raw[0]) * 4 // 3)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(
            mesh.node("first", roots=anchored(chain[0]), network=SYNC_ONLY)
        )
        take_all(first, chain)
        network = {**SYNC_ONLY, "bootstrap": (first.address,)}
        late = (TrustedRoot(Anchor.of_root(chain[280])),)
        second = await stack.enter_async_context(mesh.node("second", roots=late, network=network))
        await until(lambda: second.store.documents.roots(chain[0].digest) == raw)
        behind = {**SYNC_ONLY, "bootstrap": (second.address,)}
        third = await stack.enter_async_context(mesh.node("third", roots=anchored(chain[0]), network=behind))
        await until(lambda: version_of(third) == 300)
        for node in (first, second, third):
            assert node.node.running().poisoners == 0


async def test_who_was_given_a_file_gives_it_to_who_knows_its_digest(
    mesh: Mesh, autojump_clock: None
) -> None:
    root = signed_root()
    async with (
        mesh.node("first", roots=(TrustedRoot(Anchor.of_root(root)),), network=SYNC_ONLY) as first,
        mesh.node(
            "second", roots=anchored(root), network={**SYNC_ONLY, "bootstrap": (first.address,)}
        ) as second,
    ):
        await until(lambda: version_of(second) == 1)
        assert told(second, root) == [root.raw]


async def test_nobody_is_given_roots_with_a_gap(mesh: Mesh, autojump_clock: None) -> None:
    chain = chain_of(4)
    async with AsyncExitStack() as stack:
        documents = None
        for root in (chain[0], *chain[2:]):  # its operator gives it another file, and another
            await stack.aclose()
            given = (TrustedRoot(Anchor.of_root(root)),)
            node = mesh.node("publisher", roots=given, network=SYNC_ONLY)
            documents = (await stack.enter_async_context(node)).node.documents
        assert documents is not None
        assert documents.roots(chain[0].digest) == [chain[0].raw]
        assert documents.roots(chain[0].digest, 1) == []
        later = [root.raw for root in chain[2:]]
        assert documents.roots(chain[0].digest, 2) == documents.roots(chain[3].digest) == later


@dataclass
class Fake:
    """A peer that answers what it is told to, and counts what it is asked."""

    roots: dict[int, list[bytes]]
    freshness: list[bytes]
    yanks: list[bytes]
    is_older: bool = False
    endless: Callable[[int], list[bytes]] | None = None  # yanks, by how often it was asked for them before

    def __post_init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    async def serve(self, stream: Stream) -> None:
        received = bytearray()
        while data := await stream.read(4096):
            received += data
            while received and len(received) > received[0]:
                size, start = received[0], 1
                if size & 0x80:
                    size, start = (size & 0x7F) | (received[1] << 7), 2
                payload = bytes(received[start : start + size])
                del received[: start + size]
                reply = self._answer(stream.connection.peer_id, parse_request(SYNC_PROTOCOL, payload))
                await stream.write(reply.encode_header() + bytes(reply.body))
        await stream.close_write()

    def _answer(self, peer_id: str, request: object) -> Reply:
        self.asked.append((peer_id, request))
        if self.is_older and isinstance(request, RootsRequest | FreshnessRequest | YanksRequest | BadRequest):
            return Reply.refusal(Status.BAD_REQUEST, "op is not an operation of this protocol")
        match request:
            case RootsRequest():
                documents = self.roots.get(request.after or 0, [])
            case FreshnessRequest():
                documents = self.freshness
            case YanksRequest():
                before = sum(isinstance(one, YanksRequest) for _, one in self.asked) - 1
                documents = self.yanks if self.endless is None else self.endless(before)
            case HeadsRequest():
                documents = []
            case _:
                return Reply(Status.NOT_FOUND)
        return Reply(Status.OK, encode_documents(documents))

    def count(self, kind: type, who: str = "node") -> int:
        asker = key_of(who).public.peer_id
        return sum(isinstance(request, kind) for peer_id, request in self.asked if peer_id == asker)

    @property
    def yanks_of_first_round(self) -> int:
        """How often it was asked for yanks in one round; a round asks for heads first."""
        kinds = [type(request) for _, request in self.asked]
        first, second = [number for number, kind in enumerate(kinds) if kind is HeadsRequest][:2]
        return kinds[first:second].count(YanksRequest)


async def test_a_liar_is_dropped_and_the_others_are_used(mesh: Mesh, autojump_clock: None) -> None:
    chain = chain_of(4)
    forged = signed_root(
        root_body(version=3, fleet=chain[0].digest), [key_of("root 1")]
    )  # one signature, where two are needed
    liar = Fake({0: [chain[0].raw, chain[1].raw, forged.raw]}, [], [])
    async with (
        mesh.network.open(key_of("liar").public.peer_id) as peer,
        mesh.node("honest", roots=anchored(chain[0]), network=SYNC_ONLY) as honest,
    ):
        peer.handle(SYNC_PROTOCOL, liar.serve)
        take_all(honest, chain)
        async with mesh.node("node", roots=anchored(chain[0]), network=SYNC_ONLY) as node:
            await peer.dial(node.address)
            await until(lambda: node.node.running().poisoners == 1)
            await until(lambda: peer.peer_id not in node.transport.peers())
            assert version_of(node) == 2, "what came before the forged one is good"
            await node.transport.dial(honest.address)
            await until(lambda: version_of(node) == 4)
            asked = liar.count(RootsRequest)
            await peer.dial(node.address)
            await trio.sleep(100)
            assert liar.count(RootsRequest) == asked, "and it is not asked again for a while"
            assert liar.count(HeadsRequest) >= 1


async def test_who_sends_a_long_chain_that_leads_nowhere_is_not_asked_for_it_in_each_round(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LONG_WALK_BYTES", 3000)
    chain = chain_of(9, root_body(name="of nobody"))
    liar = Fake({after: [chain[after].raw] for after in range(9)}, [], [])
    async with (
        mesh.network.open(key_of("liar").public.peer_id) as peer,
        mesh.node("node", roots=anchored(signed_root()), network=SYNC_ONLY) as node,
    ):
        peer.handle(SYNC_PROTOCOL, liar.serve)
        await peer.dial(node.address)
        await until(lambda: liar.count(RootsRequest) == 10)
        await until(lambda: liar.count(HeadsRequest) >= 5)
        assert liar.count(RootsRequest) == 10
        assert node.node.running().poisoners == 0, "it may be that it knows no better"
        assert peer.peer_id in node.transport.peers()


async def test_what_one_round_has_no_room_for_is_asked_in_the_next(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "BYTES_PER_ROUND", 100)
    trust = trusting("publisher", channels=("edge", "stable", "testing"), archs=("x86_64",))
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(mesh.node("first", trust=trust, network=SYNC_ONLY))
        yanks = {channel: yank_of(signed(1), channel=channel) for channel in ("edge", "stable", "testing")}
        for yank in yanks.values():
            assert first.node.trust_gate.take_yank(yank.raw, source="a file").fate is Fate.NEWS
        network = {**SYNC_ONLY, "bootstrap": (first.address,)}
        second = await stack.enter_async_context(mesh.node("second", trust=trust, network=network))
        await until(lambda: all(second.node.documents.yanks(one, "x86_64") for one in yanks))


YANKS = [
    yank_of(signed(1), content=f"{number:064x}", created_at=NOW - 60 - number) for number in range(MAX_YANKS)
]


@pytest.fixture
def small_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen yanks fill a reply, as those of 60 KB do, which take seconds to make and to check."""
    for module in (messages, client):
        monkeypatch.setattr(module, "MAX_DOCUMENTS_BYTES", 11_000)
    monkeypatch.setattr(client, "MAX_DOCUMENT", 800)


async def test_yanks_that_take_several_replies_are_asked_for_page_by_page(
    mesh: Mesh, autojump_clock: None, small_replies: None
) -> None:
    trust, yanks = trusting("publisher", channels=("stable",), archs=("x86_64",)), YANKS
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(mesh.node("first", trust=trust, network=SYNC_ONLY))
        for yank in yanks:
            assert first.node.trust_gate.take_yank(yank.raw, source="a file").fate is Fate.NEWS
        network = {**SYNC_ONLY, "bootstrap": (first.address,)}
        second = await stack.enter_async_context(mesh.node("second", trust=trust, network=network))
        await until(lambda: len(second.node.documents.yanks(*PAIR)) == MAX_YANKS)
        assert second.node.documents.yanks(*PAIR) == [yank.raw for yank in yanks]
        assert second.node.documents.yanks(*PAIR, yanks[60].body.content) == [one.raw for one in yanks[61:]]
        assert second.node.documents.yanks(*PAIR, "f" * 64) == []
        assert second.node.running().poisoners == 0


@pytest.mark.parametrize(("who", "most"), [("older", 2), ("another's", 1), ("liar", 4)])
async def test_nobody_makes_a_node_ask_for_yanks_for_ever(
    mesh: Mesh, autojump_clock: None, small_replies: None, who: str, most: int
) -> None:
    yanks = [yank.raw for yank in YANKS[:16]]
    junk = [yank_of(signed(1), keys=[key_of("else")]).raw] * 15
    if who == "another's":  # of a key that nobody trusts
        yanks = junk
    peer = Fake({}, [], yanks)
    if who == "liar":  # always has more of them, of which one counts
        peer.endless = lambda number: [YANKS[number].raw, *junk]
    trust = trusting("publisher", channels=("stable",), archs=("x86_64",))
    async with (
        mesh.network.open(key_of("peer").public.peer_id) as end,
        mesh.node("node", trust=trust, network=SYNC_ONLY) as node,
    ):
        end.handle(SYNC_PROTOCOL, peer.serve)
        await node.transport.dial(end.addresses()[0])
        await until(lambda: peer.count(HeadsRequest) >= 2)
        assert peer.yanks_of_first_round == most
        assert node.node.running().poisoners == 0, "an older release, or one that trusts others"


@pytest.mark.parametrize("what", ["roots", "yanks", "base64"])
async def test_what_no_honest_node_sends_ends_the_connection(
    mesh: Mesh, autojump_clock: None, what: str
) -> None:
    root = signed_root()
    yank = yank_of(signed(1), root, channel="testing")
    liar = Fake({0: [b"{}"]}, [], [])
    trust: dict[str, Any] = {"roots": anchored(root)}
    if what != "roots":
        trust = {"roots": (TrustedRoot(Anchor.of_root(root)),)}
        liar = Fake({}, [], [yank.raw] if what == "yanks" else [b""])  # of another pair; of no bytes
    async with (
        mesh.network.open(key_of("liar").public.peer_id) as peer,
        mesh.node("node", **trust, network=SYNC_ONLY) as node,
    ):
        peer.handle(SYNC_PROTOCOL, liar.serve)
        await peer.dial(node.address)
        await until(lambda: node.node.running().poisoners == 1)
        await until(lambda: peer.peer_id not in node.transport.peers())


async def test_an_older_release_is_asked_once_is_no_liar_and_is_served(
    mesh: Mesh, autojump_clock: None
) -> None:
    old = Fake({}, [], [], is_older=True)
    root = signed_root()
    provider = {"channel": PAIR[0], "arch": PAIR[1]}
    trust = (TrustedRoot(Anchor.of_root(root)),)
    async with (
        mesh.network.open(key_of("old").public.peer_id) as peer,
        mesh.publisher(provider=provider, roots=trust, network=SYNC_ONLY) as node,
    ):
        peer.handle(SYNC_PROTOCOL, old.serve)
        connection = await peer.dial(node.address)
        await until(lambda: old.count(HeadsRequest, "publisher") >= 5 and node.version())
        assert old.count(RootsRequest, "publisher") == 1
        assert old.count(FreshnessRequest, "publisher") == old.count(YanksRequest, "publisher") == 0
        assert node.node.running().poisoners == 0
        assert peer.peer_id in node.transport.peers()
        async with requests_to(peer, connection, SYNC_PROTOCOL) as requests:
            (head,) = (await requests.ask(ask_heads(*PAIR))).heads
            raw, detached = await requests.ask(ask_manifest(head.digest))
        assert (Manifest.parse(raw).digest, detached is None) == (head.digest, False)


async def test_two_roots_of_one_version_are_evidence_and_the_first_stays(
    mesh: Mesh, autojump_clock: None
) -> None:
    chain = chain_of(2)
    other = next_root(chain[0], name="another")
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(mesh.node("one", roots=anchored(chain[0]), network=SYNC_ONLY))
        two = await stack.enter_async_context(mesh.node("two", roots=anchored(chain[0]), network=SYNC_ONLY))
        take_all(one, chain)
        take_all(two, [chain[0], other])
        await two.transport.dial(one.address)
        await until(lambda: one.store.documents.evidence() and two.store.documents.evidence())
        assert (version_of(one), version_of(two)) == (2, 2)
        assert one.node.catalogue.trust.roots[0].newest == chain[1]
        assert two.node.catalogue.trust.roots[0].newest == other
        row = one.store.documents.evidence()[0]
        assert {row.first, row.second} == {chain[1].raw, other.raw}
        assert one.node.running().poisoners == two.node.running().poisoners == 0


async def test_statements_and_yanks_reach_a_mirror_of_a_mirror_by_sync_alone(
    mesh: Mesh, autojump_clock: None
) -> None:
    root = signed_root()
    trust = (TrustedRoot(Anchor.of_root(root)),)
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(
            mesh.publisher(provider={"channel": PAIR[0], "arch": PAIR[1]}, roots=trust, network=SYNC_ONLY)
        )
        await until(lambda: publisher.version() == 1)
        first = await stack.enter_async_context(
            mesh.node("first", roots=trust, network={**SYNC_ONLY, "bootstrap": (publisher.address,)})
        )
        second = await stack.enter_async_context(
            mesh.node("second", roots=anchored(root), network={**SYNC_ONLY, "bootstrap": (first.address,)})
        )
        await until(lambda: second.version() == 1)
        head = publisher.head()
        assert head is not None
        manifest = publisher.node.catalogue.manifest(head.digest)
        statement = statement_of(manifest, root)
        other = yank_of(manifest, root, content="a" * 64)
        assert publisher.node.trust_gate.take_freshness(statement.raw, source="a file").fate is Fate.NEWS
        assert publisher.node.trust_gate.take_yank(other.raw, source="a file").fate is Fate.NEWS
        await until(lambda: second.node.documents.freshness(*PAIR) and second.node.documents.yanks(*PAIR))
        assert second.node.documents.freshness(*PAIR) == [statement.raw]
        assert second.node.documents.yanks(*PAIR) == [other.raw]


async def test_two_fleets_in_one_mesh_do_not_disturb_each_other(mesh: Mesh, autojump_clock: None) -> None:
    one = chain_of(3)
    role = root_body().publish[0]
    keys = [key_of("other root 1"), key_of("other root 2")]
    other = chain_of(
        5,
        root_body(keys=keys, name="other", publish=(replace(role, channels=("edge",)),)),
        keys,
    )
    both = (*anchored(other[0]), *anchored(one[0]))
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(mesh.node("first", roots=anchored(one[0]), network=SYNC_ONLY))
        second = await stack.enter_async_context(
            mesh.node("second", roots=anchored(other[0]), network=SYNC_ONLY)
        )
        take_all(first, one)
        take_all(second, other)
        bootstrap = (first.address, second.address)
        mirror = await stack.enter_async_context(
            mesh.node("mirror", roots=both, network={**SYNC_ONLY, "bootstrap": bootstrap})
        )
        await first.transport.dial(second.address)
        await until(lambda: (version_of(mirror), version_of(mirror, 1)) == (5, 3))
        await trio.sleep(60)
        for node in (first, second, mirror):
            assert node.node.running().poisoners == 0
        assert version_of(first) == 3
        take_all(mirror, [next_root(one[-1])])
        await until(lambda: version_of(first) == 4)
