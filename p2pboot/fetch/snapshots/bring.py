"""Brings one snapshot into a store, whole, verified, its signature beside it.

It comes from all peers at once, every chunk checked when it arrives. What is announced says how it is cut; for what is
known by its root alone, see :mod:`.by_root`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import trio

from p2pboot.core.identity import PublicKey
from p2pboot.core.timetoke.agreement import Agreed
from p2pboot.core.timetoke.announcement import Announcement
from p2pboot.core.timetoke.chunks import payload_root
from p2pboot.core.timetoke.errors import (
    AnnouncedMismatch,
    RootMismatch,
    SignatureMismatch,
    SignatureMissing,
    SnapshotChanged,
    SnapshotError,
    SnapshotMalformed,
    SnapshotSignatureError,
)
from p2pboot.core.timetoke.reader import Payload, SnapshotReader
from p2pboot.core.timetoke.signatures import PayloadSignature
from p2pboot.errors import FetchError, P2PBootError
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.receiving.swarm import Network, fetch_wanted
from p2pboot.fetch.snapshots.chunks import SnapshotDialect, wanted_snapshot
from p2pboot.fetch.snapshots.signature_texts import Chosen, ask_texts, choose_text, text_with_version
from p2pboot.store.snapshots.disk import DiskSnapshotStore


async def fetch_snapshot(dialect: SnapshotDialect, store: DiskSnapshotStore, network: Network) -> None:
    """Have a snapshot wait in the store, complete and of the right root; raises what `fetch_wanted` raises."""
    await trio.to_thread.run_sync(store.blobs.drop_partials, {dialect.wanted.blob})
    await fetch_wanted([dialect.wanted], store.blobs, dialect, network)


def name_faults(chosen: Chosen, network: Network) -> None:
    """Say which peers sent another signature: no offence, it may be of a signer that we do not trust."""
    for peer_id, why in chosen.faults.items():
        network.ledger.progress.peer(peer_id, why)


async def hold_announced(
    agreed: Agreed,
    threshold: int,
    store: DiskSnapshotStore,
    network: Network,
    heard: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Have a snapshot that enough trusted signers announced in the store, with its signature as it was published.

    What is there is not fetched again; a signature that it lacks is written beside it, and a key version that a former
    version lost.

    Args:
        agreed: their announcements.
        threshold: how many of them must have signed the payload itself as well.
        store: gets it.
        network: whom to ask, and when to give up.
        heard: what peers said that stands in the signature file, when the payload was fetched before; by peer id.

    Returns:
        Whether it was fetched.

    Raises:
        NotFoundError: no peer was connected at the end of patience.
        FetchError: peers were, and did not deliver everything intact.
        SnapshotError, AnnouncedMismatch: the signers contradict themselves; no peer is to blame.
        SnapshotSignatureError: the file beside what is there is no signature.
        MachineError: disk full, or another process is fetching into this directory.
    """
    if not await trio.to_thread.run_sync(store.has_snapshot, agreed.root):
        await _bring(agreed, threshold, store, network, heard)
        return True
    if await trio.to_thread.run_sync(is_signed, store, agreed.root):
        await complete_held(agreed.root, store, network)
        for one in agreed.announcements:
            await trio.to_thread.run_sync(store.announcements.put, one)
    else:
        await _sign_held(agreed, threshold, store, network)
    return False


def is_signed(store: DiskSnapshotStore, root: str) -> bool:
    """Whether a signature lies beside a snapshot, whatever it is worth; blocking.

    Raises:
        SnapshotMissing: it is not here.
        MachineError: it can not be read.
    """
    try:
        return store.signature(root) is not None
    except SnapshotSignatureError as error:
        return not isinstance(error, SignatureMissing)  # that is: where one is required


async def _bring(
    agreed: Agreed, threshold: int, store: DiskSnapshotStore, network: Network, heard: Mapping[str, str]
) -> None:
    failure: P2PBootError | None = None
    for facts in agreed.variants:  # nearly always one
        dialect = SnapshotDialect(wanted_snapshot(facts))
        try:
            ledger = Ledger(network.ledger.progress) if failure else network.ledger
            await fetch_snapshot(dialect, store, dataclasses.replace(network, ledger=ledger))
        except (FetchError, RootMismatch) as error:  # one signer's table may be a lie, another's is not
            if failure is None or isinstance(failure, RootMismatch):  # what may yet be had is nobody's fault
                failure = error
        else:
            texts = {**heard, **dialect.signature_texts}
            if not texts:
                texts = await ask_texts(facts.root, network.transport, network.ledger)
            chosen = await trio.to_thread.run_sync(_settle, agreed, threshold, store, texts)
            name_faults(chosen, network)
            return
    assert failure is not None  # noqa: S101 - there is at least one variant
    if isinstance(failure, RootMismatch):  # of every table: nothing that came can be of use
        await trio.to_thread.run_sync(store.blobs.remove, agreed.root)
    raise failure


def _settle(agreed: Agreed, threshold: int, store: DiskSnapshotStore, texts: Mapping[str, str]) -> Chosen:
    """Verify what is complete and of the right root, then make it visible."""
    try:
        with store.arrived(agreed.root) as payload:
            chosen = _judge(agreed, threshold, store, payload, texts)
    except (SnapshotError, SnapshotSignatureError, SnapshotChanged):
        store.blobs.remove(agreed.root)
        raise
    store.expose_arrived(agreed.root, chosen.text)
    return chosen


async def _sign_held(agreed: Agreed, threshold: int, store: DiskSnapshotStore, network: Network) -> None:
    """Put the announced signature beside a payload that the store has without one."""
    texts = await ask_texts(agreed.root, network.transport, network.ledger)

    def sign() -> Chosen:
        with store.payload(agreed.root) as payload:
            chosen = _judge(agreed, threshold, store, payload, texts)
        if chosen.text is not None:
            store.keep_signature(agreed.root, chosen.text)
        return chosen

    name_faults(await trio.to_thread.run_sync(sign), network)


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


def _judge(
    agreed: Agreed, threshold: int, store: DiskSnapshotStore, payload: Payload, texts: Mapping[str, str]
) -> Chosen:
    """Keep the announcements whose payload signature is good, if there are enough; return the text to keep.

    What is wrong is the signers' fault: where the disk lost what had the right root, that is said instead.
    """
    try:
        good, chosen = _verify(agreed, threshold, payload, texts)
    except (SnapshotError, SnapshotSignatureError) as error:
        if payload_root(payload) != agreed.root:
            raise SnapshotChanged(agreed.root) from error
        raise
    for one in good:  # before the payload can be seen: they say into which chunks it is cut
        store.announcements.put(one)
    return chosen


def _verify(
    agreed: Agreed, threshold: int, payload: Payload, texts: Mapping[str, str]
) -> tuple[list[Announcement], Chosen]:
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
        raise AnnouncedMismatch(agreed.root, {one.signer for one in agreed.announcements} - signers)
    keys = [PublicKey.from_keyid(one.signer) for one in good]
    return good, choose_text(texts, keys, payload, known_good=[one.payload_signature for one in good])


def _signed(announcement: Announcement, payload: Payload) -> bool:
    signature = PayloadSignature.parse(announcement.payload_signature)
    try:
        signature.check(payload, [PublicKey.from_keyid(announcement.signer)])
    except SignatureMismatch:
        return False
    return True
