"""The text of a `.sig` file as it was published, which no announcement carries.

An announcement has the signature alone, and signs it; a `.sig` file may have the version of the key before it, and a
newline after it, and the source system refuses a file without its version. Peers say the text with `info`. The
signature in it is checked; what stands around it nobody signed, so what most peers say counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import PublicKey
from p2pboot.core.timetoke.errors import SnapshotSignatureError
from p2pboot.core.timetoke.reader import Payload
from p2pboot.core.timetoke.signatures import PayloadSignature
from p2pboot.errors import RemoteProtocolError
from p2pboot.fetch.asking.requests import requests_to
from p2pboot.fetch.ledger import Ledger
from p2pboot.protocol.client import PeerRefused
from p2pboot.protocol.snapshot_client import ask_info
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL
from p2pboot.transport.interface import Connection, Transport

ASKED_CONNECTIONS: Final = 16


@dataclass(frozen=True, slots=True)
class Chosen:
    """The text that is kept.

    Args:
        text: for the `.sig` file; None where no peer has a good one.
        faults: peers whose text is no signature by a trusted signer, and why not.
    """

    text: str | None
    faults: Mapping[str, str] = field(default_factory=dict)


def choose_text(
    texts: Mapping[str, str], keys: Sequence[PublicKey], payload: Payload, *, known_good: Sequence[str] = ()
) -> Chosen:
    """Choose among what peers say that stands in the `.sig` file.

    Args:
        texts: by peer id, unchecked.
        keys: whose signature it must be.
        payload: the whole of it.
        known_good: signatures that were verified over the payload already, in base64; the first one, alone, is the
            choice where no peer has a better one.
    """
    votes: Counter[str] = Counter()
    faults: dict[str, str] = {}
    for peer_id, text in sorted(texts.items()):
        try:
            signature = PayloadSignature.parse(text, source="the signature that it sends")
            if text not in votes and signature.base64 not in known_good:
                signature.check(payload, keys, source="the signature that it sends")
        except SnapshotSignatureError as error:
            faults[peer_id] = error.message
        else:
            votes[text] += 1
    if not votes:
        return Chosen(known_good[0] if known_good else None, faults)
    # Of equally many the one that says more: a copy may have lost what stood around the signature.
    return Chosen(max(votes, key=lambda text: (votes[text], len(text), text)), faults)


def text_with_version(texts: Mapping[str, str], kept: PayloadSignature) -> str | None:
    """What to write in place of a signature that was kept without its key version; None: it stays.

    Args:
        texts: by peer id, unchecked. Only those with the very signature that is kept count.
        kept: a good one.
    """
    votes = Counter({kept.base64: 1})
    for text in texts.values():
        with suppress(SnapshotSignatureError):
            if PayloadSignature.parse(text).raw == kept.raw:
                votes[text] += 1
    chosen = max(votes, key=lambda text: (votes[text], len(text), text))
    return None if PayloadSignature.parse(chosen).key_version is None else chosen


async def ask_texts(root: str, transport: Transport, ledger: Ledger) -> dict[str, str]:
    """Ask connected peers, at most 16 and all at once, for the text of a snapshot's signature; the texts by peer id."""
    texts: dict[str, str] = {}

    async def ask(connection: Connection) -> None:
        try:
            async with requests_to(transport, connection, SNAPSHOT_PROTOCOL) as requests:
                info = await requests.ask(ask_info(root))
        except (PeerRefused, RemoteProtocolError) as error:
            ledger.note_error(connection.peer_id, error)
        else:
            if info.signature is not None:
                texts[connection.peer_id] = info.signature

    async with trio.open_nursery() as nursery:
        for connection in sorted(transport.connections(), key=str)[:ASKED_CONNECTIONS]:
            if ledger.usable(connection.peer_id):
                nursery.start_soon(ask, connection)
    return texts
