"""Whoever fetches hears why peers offer nothing, or do not deliver: of whom, in whose words, and within bounds."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.verify import Refused
from p2pboot.core.withheld import Why, Withheld
from p2pboot.errors import FetchError, NotFoundError, P2PBootError
from p2pboot.fetch.asking.reasons import PeerWord, describe_peers, remedy_for
from p2pboot.fetch.client import fetch
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import STALLED_S, NoProgress
from p2pboot.protocol.frames import encode_frame
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL, Reply, Request, Status
from p2pboot.protocol.withheld import WithheldHead
from p2pboot.serving.accounts import Serving
from p2pboot.serving.conversation import Reserve, serve_stream
from p2pboot.store.blobs import BlobStore
from p2pboot.store.errors import BlobGone
from p2pboot.testing.artifacts import PIECE
from p2pboot.testing.manifests import NOW
from p2pboot.transport.interface import Stream
from tests.fetch.world import (
    FILES,
    OTHER_KEY,
    QUESTION,
    BlobsProxy,
    CorruptBlobs,
    PartialBlobs,
    Provider,
    Search,
    World,
    client_of,
    manifest_of,
)

EXPIRED = Withheld("stable", "x86_64", Why.EXPIRED, "manifest version 7 expired at 2026-01-01T00:00:00Z")
REFUSED = Withheld("stable", "x86_64", Why.REFUSED, "what others offer is refused here")
INCOMPLETE = Withheld("stable", "x86_64", Why.INCOMPLETE, "manifest version 8 is not complete here")
Says = Callable[[str | None, str | None], Sequence[Withheld]]


def saying(*entries: Withheld) -> Says:
    return lambda channel, arch: [
        one for one in entries if channel in (None, one.channel) and arch in (None, one.arch)
    ]


async def told_by(world: World, *providers: Provider) -> NotFoundError:
    """What is said when these peers have nothing."""
    async with world.client() as (transport, _):
        found = await Search(world, transport).run(*providers, timeout_s=5)
        with pytest.raises(NotFoundError) as caught:
            found.choose(QUESTION)
    return caught.value


def served_by(*replies: dict[str, Any]) -> Callable[[Stream], Awaitable[None]]:
    """A server of another make: answers each request with the next header and an empty list, and the last for ever."""

    async def handle(stream: Stream) -> None:
        left = list(replies)
        while await stream.read(4096):
            header = left.pop(0) if len(left) > 1 else left[0]
            await stream.write(encode_frame({"status": "ok", "length": 2, **header}) + b"[]")

    return handle


# -- finding a manifest


async def test_expired_manifest_is_told_with_the_peer_that_withholds_it_and_what_helps(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(withheld=saying(EXPIRED)) as mirror:
        error = await told_by(world, mirror)
    assert error.message == (
        f"none of 1 peers has a manifest for stable/x86_64: peer {mirror.peer_id} knows stable/x86_64 but does not"
        " offer it: manifest version 7 expired at 2026-01-01T00:00:00Z"
    )
    assert error.remedy is not None
    assert "publisher" in error.remedy
    assert "--channel" not in error.remedy
    assert error.details == {
        "peers": {
            mirror.peer_id: {
                "withheld": [
                    {
                        "channel": "stable",
                        "arch": "x86_64",
                        "reason": "expired",
                        "text": "manifest version 7 expired at 2026-01-01T00:00:00Z",
                    }
                ],
                "elsewhere": [],
                "failure": None,
            }
        }
    }
    assert error.exit_status == 3


async def test_manifest_that_is_on_its_way_is_told_with_another_remedy(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        world.provider(withheld=saying(INCOMPLETE)) as fetching,
        world.provider(withheld=saying(EXPIRED)) as behind,
    ):
        error = await told_by(world, fetching, behind)
    assert f"peer {fetching.peer_id} knows stable/x86_64" in error.message
    assert f"peer {behind.peer_id} knows stable/x86_64" in error.message
    assert error.remedy is not None
    assert error.remedy.startswith("wait a moment and run it again")


async def test_what_a_mirror_refuses_is_its_operators_matter(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(withheld=saying(REFUSED)) as mirror:
        error = await told_by(world, mirror)
    assert (
        f"peer {mirror.peer_id} knows stable/x86_64 but does not offer it: what others offer" in error.message
    )
    assert error.remedy is not None
    assert error.remedy.startswith("ask who runs it")


async def test_peer_that_has_something_else_is_told_with_what_it_has(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        world.provider(manifest_of(channel="testing")) as other,
        world.provider() as empty,
    ):
        error = await told_by(world, other, empty)
    assert error.message == (
        f"none of 2 peers has a manifest for stable/x86_64: peer {other.peer_id} has testing/x86_64"
    )
    assert error.remedy is not None
    assert error.remedy.startswith("check --channel and --arch")


async def test_peers_that_have_nothing_at_all_are_no_reason_to_check_options(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider() as one, world.provider() as other:
        error = await told_by(world, one, other)
    assert error.message == "none of 2 peers has a manifest for stable/x86_64"
    assert error.remedy == "ask other peers: --bootstrap MULTIADDR"


async def test_many_peers_and_many_channels_make_one_bounded_line(
    autojump_clock: MockClock, world: World
) -> None:
    long = Withheld("stable", "x86_64", Why.EXPIRED, "x" * 5000)
    async with (
        world.provider(withheld=saying(long)) as first,
        world.provider(withheld=saying(long)) as b,
        world.provider(withheld=saying(long)) as c,
        world.provider(withheld=saying(long)) as d,
        world.provider(withheld=saying(long)) as e,
        world.provider(withheld=saying(long)) as f,
    ):
        error = await told_by(world, first, b, c, d, e, f)
    assert error.message.count("peer 12D3") == 4
    assert error.message.endswith("; and 2 more")
    assert len(error.message) < 1500
    assert len(error.details["peers"]) == 6  # type: ignore[arg-type]


def test_what_was_taken_back_is_waited_for_and_nobody_is_to_renew_it() -> None:
    yanked = WithheldHead("stable", "x86_64", "yanked", "manifest version 7 was yanked")
    assert "taken back" in (remedy_for([PeerWord((yanked,)), PeerWord((yanked,))]) or "")
    others = WithheldHead("stable", "x86_64", "expired", "manifest version 6 expired")
    assert "renews" in (remedy_for([PeerWord((yanked,)), PeerWord((others,))]) or "")


def test_what_one_peer_says_takes_a_bounded_part_of_the_line() -> None:
    many = PeerWord(
        tuple(WithheldHead("c" * 64, "a" * 64, "expired", "x" * 200) for _ in range(16)), ("y" * 129,) * 16
    )
    line = describe_peers({f"peer{number}": many for number in range(100)}, {"other": "z" * 5000})
    assert len(line) < 4 * 400 + 20
    assert line.endswith("…; and 97 more")


async def test_peer_that_does_not_answer_is_not_said_to_have_nothing(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(manifest_of()) as mute, world.client() as (transport, _):
        await transport.dial(mute.address)
        world.network.freeze(mute.peer_id)
        found = await Search(world, transport).run(timeout_s=20)
        with pytest.raises(NotFoundError, match=f"peer {mute.peer_id}: no answer in 5 s"):
            found.choose(QUESTION)


async def test_refused_manifest_and_withheld_one_are_both_told(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        world.provider(manifest_of(key=OTHER_KEY)) as stranger,
        world.provider(withheld=saying(EXPIRED)) as mirror,
        world.client() as (transport, _),
    ):
        found = await Search(world, transport).run(stranger, mirror, timeout_s=5)
        with pytest.raises(Refused) as caught:
            found.choose(QUESTION)
    assert caught.value.verdict.reason == "untrusted"
    assert (
        f"(peer {mirror.peer_id} knows stable/x86_64 but does not offer it: manifest" in caught.value.message
    )
    assert list(caught.value.details["peers"]) == [mirror.peer_id]  # type: ignore[call-overload]


async def test_what_is_withheld_by_one_peer_is_taken_from_another(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        world.provider(withheld=saying(EXPIRED)) as mirror,
        world.provider(manifest_of()) as publisher,
        world.client() as (transport, _),
    ):
        found = await Search(world, transport).run(mirror, publisher, timeout_s=5)
        assert found.choose(QUESTION).manifest == manifest_of()


@pytest.mark.parametrize(
    "withheld",
    [None, 7, "x" * 3000, [[[[]]]], [1] * 1500, [{"channel": "stable"}], {"a": {}}],
    ids=["null", "number", "text", "nested", "numbers", "half an entry", "object"],
)
async def test_garbage_in_place_of_reasons_is_no_offence_and_says_nothing(
    autojump_clock: MockClock, world: World, withheld: object
) -> None:
    async with world.provider() as odd:
        odd.transport.handle(SYNC_PROTOCOL, served_by({"withheld": withheld}))
        error = await told_by(world, odd)
    assert error.message == "none of 1 peers has a manifest for stable/x86_64"
    assert world.watcher.peers == []


async def test_server_that_knows_no_reasons_is_asked_as_before(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider() as old:
        old.transport.handle(SYNC_PROTOCOL, served_by({}))
        error = await told_by(world, old)
    assert error.message == "none of 1 peers has a manifest for stable/x86_64"


async def test_reasons_for_what_was_not_asked_are_passed_over(
    autojump_clock: MockClock, world: World
) -> None:
    other = Withheld("testing", "arm64", Why.EXPIRED, "manifest version 3 expired")
    async with world.provider(withheld=lambda _channel, _arch: [other]) as odd:
        error = await told_by(world, odd)
    assert "testing" not in error.message


async def test_search_says_after_a_while_why_it_has_nothing_and_once(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.provider(withheld=saying(EXPIRED)) as mirror, world.client() as (transport, _):
        await Search(world, transport).run(mirror, timeout_s=STALLED_S - 1)
        assert world.watcher.stalls == []
        await Search(world, transport).run(mirror, timeout_s=10 * STALLED_S)
    (told,) = world.watcher.stalls
    assert told is not None
    assert told.startswith("no manifest for stable/x86_64 yet: peer ")
    assert "expired at" in told


async def test_nobody_on_the_local_network_is_not_an_address_to_check(
    autojump_clock: MockClock, world: World
) -> None:
    async def nothing() -> Any:
        return
        yield

    async with world.client() as (transport, store):
        searches: list[tuple[tuple[str, ...], Any, str]] = [
            ((), nothing(), "on this network"),
            (("/ip4/10.9.9.9/tcp/1",), None, "addresses"),
        ]
        for bootstrap, hints, said in searches:
            with pytest.raises(NotFoundError) as caught:
                await fetch(
                    world.order(bootstrap=bootstrap, timeout_s=1),
                    transport=transport,
                    store=store,
                    progress=world.watcher,
                    wall=lambda: NOW,
                    hints=hints,
                )
            assert caught.value.remedy is not None
            assert said in caught.value.remedy


# -- fetching what it names


class GoneBlobs(BlobsProxy):
    """What was held changed on the disk, after a while."""

    def __init__(self, blobs: BlobStore) -> None:
        super().__init__(blobs)
        self.left = 3
        self.is_gone = False

    def held(self, sha256: str, table_digest: str | None = None) -> Any:
        return None if self.is_gone else super().__getattr__("held")(sha256)

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        if self.left == 0:
            self.is_gone = True
            raise BlobGone(sha256)
        self.left -= 1
        return super().read(sha256, offset, length)


class NoBlobs(BlobsProxy):
    """Nothing of it is here."""

    def held(self, sha256: str, table_digest: str | None = None) -> None:
        return None

    def table(self, sha256: str, table_digest: str | None = None) -> None:
        return None


async def bring(world: World, *providers: Provider, patience_s: float = 30.0) -> P2PBootError:
    """Fetch from these peers, in vain; returns what is said of it."""
    async with client_of(world) as client:
        await client.connect(*providers)
        with pytest.raises(P2PBootError) as caught:
            await client.fetch(manifest_of(), patience_s)
    return caught.value


def answering(status: Status, reason: str) -> Callable[[Stream], Awaitable[None]]:
    """A server of artifacts that gives nothing."""

    async def handle(stream: Stream) -> None:
        async def answer(_request: Request, _reserve: Reserve) -> Reply:
            return Reply(status, extra={"reason": reason} if reason else None)

        await serve_stream(stream, ARTIFACT_PROTOCOL, answer, Serving())

    return handle


async def test_changed_file_and_missing_pieces_are_told_of_each_peer(
    autojump_clock: MockClock, world: World
) -> None:
    manifest = manifest_of()
    async with (
        world.provider(manifest, blobs=GoneBlobs) as changed,
        world.provider(manifest, blobs=lambda blobs: PartialBlobs(blobs, lambda index: index == 1)) as part,
        world.provider(manifest, blobs=NoBlobs) as without,
    ):
        error = await bring(world, changed, part, without)
    assert type(error) is FetchError
    assert error.message.startswith("no peer delivers ")
    assert "of 3932 kB are here)" in error.message
    examined = "its file changed on this node's disk and is being examined"
    reasons = {
        changed.peer_id: f"does not have these pieces any more ({examined})",
        part.peer_id: "has none of the missing pieces",
        without.peer_id: "does not have these pieces",
    }
    for peer_id, reason in reasons.items():
        assert f"peer {peer_id}: {reason}" in error.message
        assert error.details["peers"][peer_id]["failure"] == reason  # type: ignore[index]
    missing = error.details["missing"]["rootfs"]  # type: ignore[index]
    assert missing["size"] == len(FILES["rootfs"])
    assert 0 <= missing["done_bytes"] < missing["size"]


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (Status.BUSY, "too many requests", "is busy (too many requests)"),
        (Status.BUSY, "", "is busy"),
        (Status.NOT_FOUND, "", "does not have these pieces"),
        (Status.GONE, "", "does not have these pieces any more (its file changed)"),
        (Status.BAD_REQUEST, "no", "answers bad_request (no)"),
        (Status.NOT_FOUND, "\x1b[31mred\n", "does not have these pieces ([31mred)"),
    ],
)
async def test_refusing_peer_is_told_in_its_own_words(
    autojump_clock: MockClock, world: World, status: Status, reason: str, said: str
) -> None:
    async with world.provider(manifest_of()) as peer:
        peer.transport.handle(ARTIFACT_PROTOCOL, answering(status, reason))
        error = await bring(world, peer)
    assert error.message.endswith(f"peer {peer.peer_id}: {said}")


async def test_stream_that_is_refused_or_broken_off_is_told(autojump_clock: MockClock, world: World) -> None:
    async def break_off(stream: Stream) -> None:
        await stream.read(1)
        await stream.reset()

    async def close(stream: Stream) -> None:
        await stream.read(1)

    async with (
        world.network.open(world.new_peer_id()) as deaf,
        world.network.open(world.new_peer_id()) as rude,
        world.network.open(world.new_peer_id()) as leaving,
        client_of(world) as client,
    ):
        rude.handle(ARTIFACT_PROTOCOL, break_off)
        leaving.handle(ARTIFACT_PROTOCOL, close)
        for peer in (deaf, rude, leaving):
            await client.transport.dial(peer.addresses()[0])
        with pytest.raises(FetchError) as caught:
            await client.fetch(manifest_of(), 20)
        message = caught.value.message
        assert f"peer {deaf.peer_id}: opens no stream for {ARTIFACT_PROTOCOL}" in message
        assert f"peer {rude.peer_id}: the stream broke off" in message
        assert f"peer {leaving.peer_id}: closed the stream in the middle" in message


async def test_peer_that_falls_silent_is_told(autojump_clock: MockClock, world: World) -> None:
    async with world.provider(manifest_of()) as frozen:
        world.network.limit_upload(frozen.peer_id, 1 << 20)
        world.watcher.on_artifact = lambda key, done: (
            world.network.freeze(frozen.peer_id) if key == "rootfs" and done > 10 * PIECE else None
        )
        error = await bring(world, frozen, patience_s=12)
    assert f"peer {frozen.peer_id}: owes a reply and sends nothing" in error.message


async def test_lost_peer_is_told_beside_one_that_lies(autojump_clock: MockClock, world: World) -> None:
    manifest = manifest_of()
    async with (
        world.provider(manifest) as lost,
        world.provider(manifest, blobs=CorruptBlobs) as liar,
        client_of(world) as client,
    ):
        await client.connect(lost, liar)
        for peer in (lost, liar):
            world.network.limit_upload(peer.peer_id, 1 << 20)
        world.watcher.on_artifact = lambda key, done: (
            world.network.cut(lost.peer_id, client.transport.peer_id)
            if key == "rootfs" and done > 10 * PIECE
            else None
        )
        with pytest.raises(FetchError) as caught:
            await client.fetch(manifest, 20)
    assert f"peer {lost.peer_id}: connection lost" in caught.value.message
    assert f"peer {liar.peer_id}: dropped: piece " in caught.value.message


async def test_fetch_says_after_a_while_why_nothing_comes_and_when_it_goes_on(
    autojump_clock: MockClock, world: World
) -> None:
    manifest = manifest_of()
    held = {0}
    async with (
        world.provider(
            manifest, blobs=lambda blobs: PartialBlobs(blobs, lambda index: index in held)
        ) as part,
        client_of(world) as client,
        trio.open_nursery() as nursery,
    ):
        await client.connect(part)
        nursery.start_soon(client.fetch, manifest, math.inf)
        await trio.sleep(STALLED_S / 2)
        assert world.watcher.stalls == []
        await trio.sleep(10 * STALLED_S)
        (told,) = world.watcher.stalls
        assert told is not None
        assert told.startswith("no peer delivers ")
        assert told.endswith(f"peer {part.peer_id}: has none of the missing pieces")
        world.network.limit_upload(part.peer_id, 1 << 20)
        held.update(range(100))
    assert world.watcher.stalls == [told, None]


def test_of_very_many_that_were_dropped_the_last_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch may last for weeks, and liars come under ever new names."""
    monkeypatch.setattr("p2pboot.fetch.ledger._MAX_DROPPED", 2)
    ledger = Ledger(NoProgress())
    for peer in ("one", "two", "three"):
        ledger.drop(peer, "it lies")
    assert set(ledger.dropped) == {"two", "three"}
    assert ledger.usable("one")
