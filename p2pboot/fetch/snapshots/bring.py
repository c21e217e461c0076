"""Brings one snapshot into a store, whole, verified, its signature beside it.

An announced one comes from all peers at once, every chunk checked when it arrives. One that nobody announced is
known by its root alone: it comes from one peer after the other, in order, and is judged as a whole, so that a
liar costs a whole transfer there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from p2pboot.core.identity import PublicKey
from p2pboot.core.timetoke.agreement import Agreed
from p2pboot.core.timetoke.announcement import Announcement
from p2pboot.core.timetoke.chunks import SnapshotChunk
from p2pboot.core.timetoke.errors import (
    RootMismatch,
    SignatureMismatch,
    SignatureMissing,
    SnapshotError,
    SnapshotMalformed,
    SnapshotSignatureError,
)
from p2pboot.core.timetoke.reader import Payload, SnapshotReader
from p2pboot.core.timetoke.signatures import PayloadSignature
from p2pboot.errors import FetchError, NotFoundError, P2PBootError, RemoteProtocolError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import Progress
from p2pboot.fetch.receiving.swarm import fetch_wanted
from p2pboot.fetch.snapshots.chunks import SnapshotDestination, SnapshotDialect, wanted_snapshot
from p2pboot.fetch.snapshots.signature_texts import Chosen, ask_texts, choose_text, text_with_version
from p2pboot.protocol.client import PeerBusy, PeerRefused
from p2pboot.protocol.snapshot_client import SnapshotInfo, ask_chunk, ask_info
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL
from p2pboot.store.snapshots.arriving import ArrivingSnapshots
from p2pboot.store.snapshots.consumer import TimetokeSnapshotConsumer
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.transport.interface import StreamReset, Transport

MAX_SAID = 4
"""Peers of which an error says why they gave nothing; the others say the same."""

ASK_TIMEOUT_S = 10.0
"""For one chunk of at most 16 MiB of an unannounced snapshot, and for what comes before the first."""


@dataclass(frozen=True, slots=True)
class Network:
    """What a transfer needs of its job.

    Args:
        transport: connected peers are asked.
        ledger: who lied is noted there, and not asked again.
        progress: told how far it is.
        patience_s: give up when nothing arrived for so long.
        hopeless: whether whoever could be reached was dropped.
    """

    transport: Transport
    ledger: Ledger
    progress: Progress
    patience_s: float = math.inf
    hopeless: Callable[[], bool] = lambda: False


async def bring_announced(
    agreed: Agreed, threshold: int, arriving: ArrivingSnapshots, network: Network
) -> Path:
    """Bring a snapshot that enough trusted signers announced; return its path.

    Args:
        agreed: their announcements.
        threshold: how many of them must have signed the payload itself as well.
        arriving: of the store that gets it.
        network: see there.

    Raises:
        NotFoundError: no peer was connected at the end of patience.
        FetchError: peers were, and did not deliver everything intact.
        SnapshotError, SnapshotSignatureError: the signers contradict themselves; no peer is to blame.
        MachineError: disk full, or another process is fetching into this directory.
    """
    failure: P2PBootError | None = None
    for facts in agreed.variants:  # nearly always one
        dialect = SnapshotDialect(facts)
        try:
            await fetch_wanted(
                [wanted_snapshot(facts)],
                destination=SnapshotDestination(arriving),
                dialect=dialect,
                transport=network.transport,
                ledger=network.ledger if failure is None else Ledger(network.progress),
                progress=network.progress,
                patience_s=network.patience_s,
                hopeless=network.hopeless,
            )
        except (FetchError, RootMismatch) as error:  # one signer's table may be a lie, another's is not
            failure = failure or _with_refusals(error, dialect.refusals)
        else:
            texts = dialect.signature_texts or await ask_texts(facts.root, network.transport, network.ledger)
            settle = partial(_settle, agreed, threshold, arriving, texts)
            path, chosen = await trio.to_thread.run_sync(settle)
            _name(chosen, network)
            return path
    assert failure is not None  # noqa: S101 - there is at least one variant
    raise failure


def _with_refusals(error: FetchError | RootMismatch, refusals: Mapping[str, str]) -> P2PBootError:
    """Add what peers said why they do not give it."""
    said = [f"peer {peer}: {why}" for peer, why in sorted(refusals.items()) if why not in error.message]
    if not said or not isinstance(error, FetchError):
        return error
    return FetchError("; ".join([error.message, *said[:MAX_SAID]]), remedy=error.remedy)


def _name(chosen: Chosen, network: Network) -> None:
    """Say which peers sent another signature: no offence, since theirs may be of a signer that we do not trust."""
    for peer_id, why in chosen.faults.items():
        network.progress.peer(peer_id, why)


def _settle(
    agreed: Agreed, threshold: int, arriving: ArrivingSnapshots, texts: Mapping[str, str]
) -> tuple[Path, Chosen]:
    """Verify what is complete and of the right root, then make it visible."""
    try:
        with arriving.complete(agreed.root) as payload:
            good = _judge(agreed, threshold, payload)
            chosen = choose_text(texts, good, payload)
    except (SnapshotError, SnapshotSignatureError):
        arriving.discard(agreed.root)
        raise
    for one in good:  # first: they say into which chunks it is cut
        arriving.store.announcements.put(one)
    return arriving.expose(agreed.root, chosen.text), chosen


async def sign_held(agreed: Agreed, threshold: int, store: DiskSnapshotStore, network: Network) -> None:
    """Put the announced signature beside a payload that the store has without one.

    Raises:
        SnapshotError, SnapshotSignatureError: the signers contradict themselves.
        MachineError: the disk is full or fails.
    """
    texts = await ask_texts(agreed.root, network.transport, network.ledger)

    def sign() -> Chosen:
        with store.payload(agreed.root) as payload:
            good = _judge(agreed, threshold, payload)
            chosen = choose_text(texts, good, payload)
        for one in good:
            store.announcements.put(one)
        store.keep_signature(agreed.root, chosen.text)
        return chosen

    _name(await trio.to_thread.run_sync(sign), network)


async def complete_held(root: str, store: DiskSnapshotStore, network: Network) -> bool:
    """Write the signature of a payload that the store has with its key version, where the copy lost it.

    Versions before this one wrote the announcement's bare form, which the source system refuses.

    Returns:
        Whether anything was written.

    Raises:
        SnapshotMissing, SnapshotSignatureError: the snapshot is not here, or its signature is none.
        MachineError: the disk is full or fails.
    """
    text = await trio.to_thread.run_sync(store.signature, root)
    kept = None if text is None else PayloadSignature.parse(text)
    if kept is None or kept.key_version is not None:
        return False
    better = text_with_version(await ask_texts(root, network.transport, network.ledger), kept)
    if better is not None:
        await trio.to_thread.run_sync(store.keep_signature, root, better)
    return better is not None


def _judge(agreed: Agreed, threshold: int, payload: Payload) -> list[Announcement]:
    """Return the announcements whose payload signature is good; there are enough of them."""
    announced = agreed.announcements[0].facts
    stated = SnapshotReader(payload).timetoke_root
    if stated != announced.timetoke_root:
        raise SnapshotMalformed(
            f"snapshot {agreed.root} has timetoke root {stated}, announced is {announced.timetoke_root}",
            remedy="tell its signers: they announced something else than they signed",
        )
    good = [one for one in agreed.announcements if _signed(one, payload)]
    signers = {one.signer for one in good}
    if len(signers) < threshold:
        bad = ", ".join(sorted({one.signer for one in agreed.announcements} - signers))
        raise SignatureMismatch(
            f"the payload signature in the announcement of {bad} is not theirs over snapshot {agreed.root}",
            remedy="tell that signer: the announcement contradicts itself",
        )
    return good


def _signed(announcement: Announcement, payload: Payload) -> bool:
    signature = PayloadSignature.parse(announcement.payload_signature)
    try:
        signature.check(payload, [PublicKey.from_keyid(announcement.signer)])
    except SignatureMismatch:
        return False
    return True


async def bring_unannounced(
    root: str,
    keys: Sequence[PublicKey],
    store: DiskSnapshotStore,
    network: Network,
    *,
    require_signature: bool,
) -> str:
    """Bring a snapshot that is known by its root only, from the first peer that gives all of it.

    Args:
        root: 64 hex digits.
        keys: whose signature it must be, where it has one.
        store: gets it.
        network: see there.
        require_signature: refuse it without one.

    Returns:
        The peer that gave it.

    Raises:
        NotFoundError: no peer has it.
        FetchError: peers have it, and none gave all of it intact.
    """
    asked: dict[str, str] = {}
    unsigned = False
    for peer_id in sorted(network.transport.peers()):
        if not network.ledger.usable(peer_id):
            continue
        try:
            await _from_peer(peer_id, root, keys, store, network, require_signature=require_signature)
        except PeerRefused as error:
            if error.reason or isinstance(error, PeerBusy):
                asked[peer_id] = error.reason or "it serves others first"
            # otherwise it does not have it
        except SignatureMissing:
            unsigned = True
            asked[peer_id] = "it has no signature"
        except (StreamReset, trio.TooSlowError) as error:
            asked[peer_id] = str(error) or "no answer in time"
        except (RemoteProtocolError, SnapshotError, SnapshotSignatureError) as error:
            asked[peer_id] = error.message
            network.ledger.drop(peer_id, error.message)
        else:
            return peer_id
    if asked:
        reasons = "; ".join(f"peer {peer}: {why}" for peer, why in list(asked.items())[:MAX_SAID])
        remedy = "get it from who signs it, or take it as it is: --allow-unsigned" if unsigned else None
        raise FetchError(f"no peer delivers snapshot {root} intact: {reasons}", remedy=remedy)
    raise NotFoundError(
        f"no peer has snapshot {root}", remedy="check the root, or ask other peers: --bootstrap MULTIADDR"
    )


async def _from_peer(
    peer_id: str,
    root: str,
    keys: Sequence[PublicKey],
    store: DiskSnapshotStore,
    network: Network,
    *,
    require_signature: bool,
) -> None:
    with trio.fail_after(ASK_TIMEOUT_S):
        stream = await network.transport.open_stream(peer_id, SNAPSHOT_PROTOCOL)
    async with RequestStream(stream) as requests:
        with trio.fail_after(ASK_TIMEOUT_S):
            info = await requests.ask(ask_info(root))
        if require_signature and info.signature is None:
            raise SignatureMissing(f"snapshot {root}")
        with TimetokeSnapshotConsumer(
            store,
            root,
            total_chunks=info.total,
            signature=info.signature,
            keys=keys,
            require_signature=require_signature,
        ) as consumer:
            for index in range(info.total):
                chunk = await _ask_chunk(requests, root, index, info)
                network.ledger.received[peer_id] += len(chunk.data)
                await trio.to_thread.run_sync(consumer.ingest_chunk, chunk)
                network.ledger.stored_bytes += len(chunk.data)
                done = min(info.size, (index + 1) * info.chunk_length)
                network.progress.artifact(f"snapshot {root}", done, info.size)


async def _ask_chunk(requests: RequestStream, root: str, index: int, info: SnapshotInfo) -> SnapshotChunk:
    length = min(info.chunk_length, info.size - index * info.chunk_length)
    with trio.fail_after(ASK_TIMEOUT_S):
        data = await requests.ask(ask_chunk(root, index, total=info.total, length=length))
    return SnapshotChunk(root, index, info.total, bytes(data))
