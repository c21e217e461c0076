"""The exchanges in `docs/protocol-wire.md` are what the servers really say, and the limits are those of the code."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import trio
from blake3 import blake3

from p2pboot.core.changes import MAX_CHANGES, Change, Form
from p2pboot.core.manifest import Manifest
from p2pboot.core.pieces import PieceTable
from p2pboot.core.trustdocs.chain import MAX_CHAIN
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.withheld import Why, Withheld
from p2pboot.protocol import messages
from p2pboot.protocol import swarm as swarm_messages
from p2pboot.protocol.client import ask_peers
from p2pboot.protocol.frames import MAX_PAYLOAD, encode_prefix
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL, SNAPSHOT_TOPIC
from p2pboot.protocol.withheld import MAX_REASON, MAX_WITHHELD
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.serving.contents import Contents
from p2pboot.serving.heads import PEERS_PER_S, NoDocuments, SyncServer
from p2pboot.serving.limits import Limits
from p2pboot.serving.server import Server
from p2pboot.serving.swarm import SwarmServer
from p2pboot.store.manifests import HeadRow, Manifests, StoredManifest
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import artifact_of
from p2pboot.testing.stores import hold
from p2pboot.transport.interface import Connection, Stream, StreamReset, Transport
from p2pboot.transport.limits import HANDSHAKE_S, ConnectionLimits
from p2pboot.transport.records import read_record
from p2pboot.transport.tcp import connection, holdings
from p2pboot.wire import pubsub
from p2pboot.wire.yamux.frames import GATED, NO_ROOM
from tests.protocol.dumps import PAGE, Exchange, read_dump
from tests.protocol.streams import stream_pair

ROOT = Path(__file__).parents[2]
GOOD = ROOT / "tests" / "vectors" / "manifest" / "good"
MANIFEST = Manifest.parse((GOOD / "minimal.json").read_bytes())
DETACHED = (GOOD / "minimal.json.sig").read_text(encoding="ascii")
CONTENT = bytes((i + 6) % 251 for i in range(200_000))
PIECE = 65_536
TABLE = PieceTable(
    len(CONTENT),
    PIECE,
    b"".join(blake3(CONTENT[start : start + PIECE]).digest() for start in range(0, len(CONTENT), PIECE)),
)
SMALL = b"All at once, now"
"""Of one piece."""


def read_block(name: str) -> Exchange:
    return read_dump(f"wire: {name}", check_note)


def check_note(raw: bytes, note: str) -> None:
    """A note is the text of the bytes, the length that they encode, or says what the body is."""
    if length := re.fullmatch(r"frame of (\d+) bytes", note):
        assert raw == encode_prefix(int(length[1]))
    elif not note.startswith("body"):
        assert raw.decode("ascii").rstrip() == note  # spaces at the end of a line do not survive editors


ALL_BLOCKS = re.findall(r"<!-- wire: ([\w-]+) -->", PAGE)


@pytest.fixture
def artifacts(tmp_path: Path) -> Iterator[ArtifactServer]:
    """Holds the pieces 0 and 2 of the kernel of `minimal.json`, while it fetches it."""
    with Store.open(tmp_path / "state") as store:
        partial = store.blobs.begin(MANIFEST.artifacts["kernel"].sha256, TABLE)
        assert partial is not None
        for index in (0, 2):
            offset, length = TABLE.span(index)
            partial.write(index, CONTENT[offset : offset + length])
        yield ArtifactServer(store.blobs, Serving())


class OneManifest:
    """A catalogue that holds `minimal.json`."""

    def heads(self, channel: str | None, arch: str | None) -> list[HeadRow]:
        if (channel, arch) != ("stable", "x86_64"):
            return []
        m = MANIFEST
        return [
            HeadRow(
                m.channel,
                m.arch,
                m.signers,
                m.manifest_version,
                m.digest,
                len(m.raw),
                m.created_at,
                m.expires_at,
            )
        ]

    def get(self, digest: str) -> StoredManifest | None:
        return StoredManifest(MANIFEST.raw, DETACHED.strip()) if digest == MANIFEST.digest else None


def record() -> bytes:
    (encoded,) = json.loads(read_block("peers").server.partition(b"}")[2])
    return b64decode(encoded, validate=True)


class OnePeer:
    """A network of a server and one peer, who answers nothing."""

    def peers(self) -> frozenset[str]:
        return frozenset({"client"})

    async def open_stream(self, _connection: Connection, _protocol: str) -> Stream:
        raise StreamReset("it serves nothing")


@pytest.fixture
def swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SwarmServer]:
    """Fetches the kernel of `minimal.json`, and has an artifact of one piece."""
    monkeypatch.setattr("p2pboot.store.partials.secrets.randbelow", lambda _below: 997)
    with Store.open(tmp_path / "state") as store:
        partial = store.blobs.begin(MANIFEST.artifacts["kernel"].sha256, TABLE)
        assert partial is not None
        for index in (0, 2):
            offset, length = TABLE.span(index)
            partial.write(index, CONTENT[offset : offset + length])
        partial.changes.append(Change(Form.HELD, range(index, index + 1)) for index in (0, 2))
        partial.changes.append([Change(Form.COMING, range(3, 4))])
        hold(store, artifact_of("kernel", SMALL), SMALL)
        contents = Contents()
        contents.add(store.blobs)
        yield SwarmServer(cast(Transport, OnePeer()), Serving(), contents)


async def say(server: Server, data: bytes, client: str = "client") -> bytes:
    near, far = stream_pair(left=client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.handle, far)
        await near.write(data)
        await near.close_write()
        return await near.read_all()


ARTIFACT_BLOCKS = ["have", "pieces", "tables", "read", "refusals"]
SWARM_BLOCKS = ["changes", "deal", "some-pieces", "swarm-refusals"]
SYNC_BLOCKS = ["heads", "withheld", "peers", "no-documents", "bad-requests"]


@pytest.mark.parametrize("name", ARTIFACT_BLOCKS)
async def test_artifact_exchange_is_as_documented(artifacts: ArtifactServer, name: str) -> None:
    exchange = read_block(name)
    assert await say(artifacts, exchange.client) == exchange.server


@pytest.mark.parametrize("name", SWARM_BLOCKS)
async def test_swarm_exchange_is_as_documented(swarm: SwarmServer, name: str) -> None:
    exchange = read_block(name)
    assert await say(swarm, exchange.client) == exchange.server


def withheld(channel: str | None, arch: str | None) -> list[Withheld]:
    if (channel, arch) != ("testing", "x86_64"):
        return []
    text = "manifest version 3 expired at 2025-11-01T12:00:00Z"
    return [Withheld("testing", "x86_64", Why.EXPIRED, text)]


ROOT_DOCUMENT = (ROOT / "tests" / "vectors" / "trust" / "good" / "root-1.json").read_bytes()


class OneRoot(NoDocuments):
    """Has the first version of a fleet's root."""

    def roots(self, fleet: str, after: int) -> tuple[bytes, ...]:
        return (ROOT_DOCUMENT,) if (fleet, after) == (Root.parse(ROOT_DOCUMENT).digest, 0) else ()


def sync() -> SyncServer:
    catalogue = cast(Manifests, OneManifest())
    now = lambda: MANIFEST.created_at  # noqa: E731
    return SyncServer(catalogue, lambda: [record()], now, Serving(), withheld, documents=OneRoot())


@pytest.mark.parametrize("name", SYNC_BLOCKS)
async def test_sync_exchange_is_as_documented(name: str) -> None:
    exchange = read_block(name)
    assert await say(sync(), exchange.client) == exchange.server


async def test_the_exchange_of_who_fetches_the_same_is_as_documented() -> None:
    exchange = read_block("peers-of-a-manifest")
    catalogue = cast(Manifests, OneManifest())
    server = SyncServer(catalogue, lambda: (), lambda: MANIFEST.created_at, Serving(), withheld)
    told = read_record(record())
    assert told is not None
    before = ask_peers(digest=MANIFEST.digest, record=record()).frame
    await say(server, before, told.peer_id)
    asked = messages.parse_request(messages.SYNC_PROTOCOL, exchange.client[2:])
    assert isinstance(asked, messages.PeersRequest)
    asker = read_record(asked.record_bytes or b"")
    assert asker is not None
    assert asker.peer_id != told.peer_id
    assert await say(server, exchange.client, asker.peer_id) == exchange.server


async def test_manifest_exchange_is_as_documented_up_to_the_body() -> None:
    exchange = read_block("manifest")
    assert await say(sync(), exchange.client) == exchange.server + MANIFEST.raw


async def test_roots_exchange_is_as_documented_up_to_the_body() -> None:
    exchange = read_block("roots")
    assert await say(sync(), exchange.client) == exchange.server + messages.encode_documents([ROOT_DOCUMENT])


def test_every_exchange_is_checked() -> None:
    assert sorted(ALL_BLOCKS) == sorted(
        [*ARTIFACT_BLOCKS, *SWARM_BLOCKS, *SYNC_BLOCKS, "manifest", "roots", "peers-of-a-manifest"]
    )


def broken_prefixes() -> list[str]:
    table = PAGE.split("<!-- broken prefixes -->")[1].split("\n\n")[1]
    return re.findall(r"^\| `([0-9a-f ]+)`", table, re.MULTILINE)


@pytest.mark.parametrize("prefix", broken_prefixes())
async def test_broken_prefix_is_reset_as_documented(artifacts: ArtifactServer, prefix: str) -> None:
    near, far = stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(artifacts.handle, far)
        await near.write(bytes.fromhex(prefix) + b"{}" * 5000)
    assert near.was_reset


def test_broken_prefixes_are_listed() -> None:
    assert len(broken_prefixes()) >= 4


LIMITS, CONNECTIONS = Limits(), ConnectionLimits()
NUMBERS = {
    "payload of a frame": MAX_PAYLOAD,
    "`length` of a `read`": messages.MAX_READ,
    "requests in flight on a stream": messages.MAX_IN_FLIGHT,
    "entries of `heads`": messages.MAX_HEADS,
    "body of `heads`": messages.MAX_HEADS_BYTES,
    "documents of a reply to `roots`, `freshness`, `yanks`": MAX_CHAIN,
    "body of `roots`, `freshness`, `yanks`": messages.MAX_DOCUMENTS_BYTES,
    "entries of `peers`": messages.MAX_PEERS,
    "one peer record": messages.MAX_PEER_RECORD,
    "how long a `record` is told": int(messages.TOLD_S),
    "`detached`": messages.MAX_DETACHED,
    "entries of `withheld`": MAX_WITHHELD,
    "`reason`, and `text` of `withheld`": MAX_REASON,
    "runs in `want`": swarm_messages.MAX_RUNS,
    "`wait_ms`": swarm_messages.MAX_WAIT_MS,
    "pieces of one reply": swarm_messages.MAX_BODY,
    "a `deal` that is not begun": int(swarm_messages.MAX_DEAL_S),
    "peers in `ask`": swarm_messages.MAX_ASK,
    "`retry_ms`": swarm_messages.MAX_RETRY_MS,
    "changes that are remembered": MAX_CHANGES,
    "streams from one peer": LIMITS.streams_per_peer,
    "streams of all peers": LIMITS.streams,
    **{
        f"requests from one peer on `{protocol}`": int(LIMITS.artifact_requests_per_s)
        for protocol in (messages.ARTIFACT_PROTOCOL, SNAPSHOT_PROTOCOL, swarm_messages.SWARM_PROTOCOL)
    },
    "requests from one peer on `/p2pboot/sync/1`": int(LIMITS.sync_requests_per_s),
    "`peers` asked from one address": int(PEERS_PER_S),
    "requests that can not be read, from all peers at one address": int(LIMITS.bad_requests_per_s),
    "connections that were accepted": CONNECTIONS.max_inbound,
    "connections with one peer": CONNECTIONS.max_connections_per_peer,
    "handshakes under way": CONNECTIONS.max_handshakes,
    "a handshake": int(HANDSHAKE_S),
    "streams that a peer has open on one connection": CONNECTIONS.max_inbound_streams,
    "streams that a peer has open on all of its connections": CONNECTIONS.max_inbound_streams
    * holdings._CONNECTIONS,
    "streams that all peers have open": holdings._STREAMS,
    "a stream whose window is kept at zero": int(connection._HANGING_S),
    f"silence after a Yamux ping, of which one is sent in {connection._PING_EVERY_S:.0f} seconds": int(
        connection._SILENCE_S
    ),
    "a request's arrival": int(LIMITS.frame_s),
    "a stream without requests": int(LIMITS.idle_s),
    "a reader that takes nothing": int(LIMITS.stall_s),
    "messages in an RPC": pubsub.MAX_MESSAGES,
    "fields of an RPC": pubsub.MAX_FIELDS,
}


@pytest.mark.parametrize(("what", "number"), NUMBERS.items(), ids=NUMBERS)
def test_limits_are_those_of_the_code(what: str, number: int) -> None:
    row = re.search(rf"^\| {re.escape(what)} \| ([\d,]+)", PAGE, re.MULTILINE)
    assert row, what
    assert int(row[1].replace(",", "")) == number


def test_page_names_every_status_and_protocol() -> None:
    for status in messages.Status:
        assert f"`{status.value}`" in PAGE
    for protocol in (
        messages.SYNC_PROTOCOL,
        messages.ARTIFACT_PROTOCOL,
        SNAPSHOT_PROTOCOL,
        swarm_messages.SWARM_PROTOCOL,
    ):
        assert f"`{protocol}`" in PAGE
    assert f"`{messages.manifest_topic('<channel>', '<arch>')}`" in PAGE
    assert f"`{SNAPSHOT_TOPIC}`" in PAGE
    pair = "<fleet>", "<channel>", "<arch>"
    for topic in (
        messages.roots_topic("<fleet>"),
        messages.freshness_topic(*pair),
        messages.yanks_topic(*pair),
    ):
        assert f"`{topic}`" in PAGE


def test_page_names_the_codes_of_refused_connections() -> None:
    assert f"code 0x{NO_ROOM:04x} where there is no room for it and 0x{GATED:04x}" in PAGE
