"""Announcements: one form, a signature that covers everything, and nothing else is read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.core.jsonform import canonical
from p2pboot.core.timetoke.announcement import MAX_ANNOUNCEMENT, Announcement, claim
from p2pboot.errors import Malformed, SignatureError
from tests.core.timetoke.samples import ALICE, BOB, CREATED_AT, announce, facts_of, payload_of, sign

PAYLOAD = payload_of(10)


def members() -> dict[str, Any]:
    document = json.loads(announce(PAYLOAD).raw)
    assert isinstance(document, dict)
    return document


def signed(document: dict[str, Any], key: SecretKey = ALICE) -> bytes:
    """A document with a right signature over whatever it says."""
    body = {name: value for name, value in document.items() if name != "sig"}
    sig = key.sign(b"timetoke-announcement/1\0" + canonical(body))
    return canonical(body | {"sig": base64.b64encode(sig).decode()})


def test_what_is_made_is_read_back() -> None:
    made = announce(PAYLOAD, sequence=7)
    read = Announcement.parse(made.raw)
    assert read == made
    assert (read.sequence, read.signer, read.created_at) == (7, ALICE.public.keyid, CREATED_AT)
    assert read.facts == facts_of(PAYLOAD)
    assert read.payload_signature == sign(PAYLOAD)
    assert len(made.raw) < 1000


def test_the_signature_is_domain_separated_and_over_the_canonical_form() -> None:
    document = members()
    sig = base64.b64decode(document.pop("sig"))
    assert ALICE.public.verify(b"timetoke-announcement/1\x00" + canonical(document), sig)
    assert not ALICE.public.verify(canonical(document), sig)


@pytest.mark.parametrize("name", sorted(members()))
def test_every_member_is_needed_and_covered(name: str) -> None:
    document = members()
    value = document.pop(name)
    with pytest.raises(Malformed, match=name):
        claim(canonical(document))
    if name in ("sig", "spec", "signer"):
        return
    other = value + 1 if isinstance(value, int) else value
    changed = {**members(), name: other}
    if name == "chunk_length":
        changed[name] = value * 2
    elif name == "created_at":
        changed[name] = "2025-11-26T12:00:01Z"
    elif name == "payload_signature":
        changed[name] = sign(b"other")
    elif isinstance(value, str):
        changed[name] = "0" * 64
    with pytest.raises(SignatureError, match=ALICE.public.keyid):
        Announcement.parse(canonical(changed))


def test_a_signature_of_somebody_else_is_refused() -> None:
    with pytest.raises(SignatureError):
        Announcement.parse(signed(members(), BOB))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d | {"spec": "timetoke-announcement/2"},
        lambda d: d | {"root": d["root"].upper()},
        lambda d: d | {"root": d["root"][:-1]},
        lambda d: d | {"chunk_table": "blake3:" + d["chunk_table"]},
        lambda d: d | {"timetoke_root": ""},
        lambda d: d | {"size": 0},
        lambda d: d | {"size": -1},
        lambda d: d | {"size": 2**53},
        lambda d: d | {"size": True},
        lambda d: d | {"size": "1"},
        lambda d: d | {"size": 65_536 * 65_536 + 1},
        lambda d: d | {"chunk_length": 65_537},
        lambda d: d | {"chunk_length": 1 << 25},
        lambda d: d | {"record_count": -1},
        lambda d: d | {"sequence": -1},
        lambda d: d | {"sequence": 2**53 - 1 + 1},
        lambda d: d | {"created_at": "2025-11-26T12:00:00+00:00"},
        lambda d: d | {"created_at": "2025-02-30T12:00:00Z"},
        lambda d: d | {"signer": d["signer"].removeprefix("ed25519:")},
        lambda d: d | {"signer": d["signer"].upper()},
        lambda d: d | {"payload_signature": d["payload_signature"].rstrip("=")},
        lambda d: d | {"payload_signature": "AAAA"},
        lambda d: d | {"more": 1},
    ],
)
def test_a_wrong_value_is_refused_whoever_signed_it(
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    document = change(members())
    try:
        raw = signed(document)
    except ValueError:  # it has no canonical form
        raw = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(Malformed):
        claim(raw)


def test_only_the_canonical_form_is_an_announcement() -> None:
    raw = announce(PAYLOAD).raw
    for other in (
        raw + b"\n",
        b" " + raw,
        json.dumps(json.loads(raw)).encode(),
        raw[:-1] + b',"size":1}',
        raw.replace(b'"sequence":1', b'"sequence":1.0'),
        raw.replace(b'"sequence":1', b'"sequence":1e0'),
        raw[:-1],
        b"",
        b"null",
        b"[" * 4000,
        raw + b" " * MAX_ANNOUNCEMENT,
    ):
        with pytest.raises(Malformed):
            claim(other)


def test_a_value_without_a_place_is_not_signed() -> None:
    with pytest.raises(ValueError, match="sequence"):
        announce(PAYLOAD, sequence=-1)
