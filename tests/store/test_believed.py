"""Trust documents that are read as often as somebody asks: what it costs, and that the disk is believed nothing."""

from __future__ import annotations

import pytest

from p2pboot.core.identity import PublicKey
from p2pboot.core.policy import Publisher
from p2pboot.core.trustdocs.rootbody import NO_FLEET
from p2pboot.core.trustdocs.yank import MAX_YANKS, Yank, YankBody
from p2pboot.store.believed import yank_counts, yanks_of
from p2pboot.store.store import Store
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.trustdocs import signed_document

PAIRS = tuple((f"channel-{number}", "x86_64") for number in range(5))
PUBLISHER = Publisher((key_of("publisher").public.keyid,))


def fill(store: Store) -> None:
    """What a thief does with the key of a publisher of any channel: as many yanks as may be of each."""
    for channel, arch in PAIRS:
        for number in range(MAX_YANKS):
            body = YankBody(
                fleet=NO_FLEET,
                channel=channel,
                arch=arch,
                content=f"{number:064x}",
                reason=channel,
                created_at=NOW,
            )
            store.documents.put_yank(Yank.parse(signed_document(body.document(), [key_of("publisher")])))


def test_yanks_are_checked_once_however_many_there_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 64 KiB takes 20 ms: a second for each request of a stranger, and for each yank that gossip brings."""
    fill(store)
    first = [yanks_of(store.documents, pair, PUBLISHER) for pair in PAIRS]
    assert [len(found) for found in first] == [MAX_YANKS] * len(PAIRS)
    checks: list[bytes] = []

    def verify(_key: PublicKey, message: bytes, _signature: bytes) -> bool:
        checks.append(message)
        return True

    monkeypatch.setattr(PublicKey, "verify", verify)
    assert [yanks_of(store.documents, pair, PUBLISHER) for pair in PAIRS] == first
    assert not checks


def test_a_yank_that_the_disk_changed_counts_no_more_though_it_counted(store: Store) -> None:
    fill(store)
    raw = store.documents.yanks(NO_FLEET, *PAIRS[0])[0]
    assert yank_counts(raw, PUBLISHER)
    assert not yank_counts(raw.replace(b'"reason":"channel-0"', b'"reason":"channel-9"'), PUBLISHER)
