"""No signature that p2pboot makes means anything in another form: the table of `docs/protocol.md`, tried out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.core.jsonform import canonical
from p2pboot.core.manifest import Manifest, check_detached, sign_detached
from p2pboot.core.timetoke.announcement import Announcement
from p2pboot.core.timetoke.reader import SnapshotReader
from p2pboot.core.timetoke.signatures import KeySigner, PayloadSignature
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.errors import P2PBootError
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.records import read_record, sign_record
from p2pboot.wire.noise.payload import decode_payload, encode_payload, encode_public_key
from p2pboot.wire.protobuf import bytes_field, read_fields
from p2pboot.wire.pubsub import signed_bytes as gossip_bytes
from tests.core.timetoke.samples import announce, payload_of
from tests.vectors.trust import form

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
VECTORS = Path(form.__file__).parent / "good"
KEY = SecretKey(form.P1.seed)
KEYID = KEY.public.keyid


class Refused(P2PBootError):
    pass


class Form(NamedTuple):
    """A kind of signature.

    message: what was really signed, of one example.
    sig: the signature.
    begins: how all that is signed in this form begins; None where it is 32 bytes.
    accept: takes bytes that somebody signed and the signature for one in this form; raises where it is none.
    """

    message: bytes
    sig: bytes
    begins: bytes | None
    accept: Callable[[bytes, bytes], object]


def text(sig: bytes) -> str:
    return base64.b64encode(sig).decode()


def after_nul(message: bytes) -> bytes:
    return message.partition(b"\0")[2] or message


def as_object(message: bytes) -> dict[str, object]:
    try:
        found = json.loads(after_nul(message))
    except ValueError:
        raise Refused("nothing of it is JSON") from None
    if not isinstance(found, dict):
        raise Refused("no object")
    return found


def trust_document(parse: Callable[[bytes], object], spec: str) -> Callable[[bytes, bytes], object]:
    def accept(message: bytes, sig: bytes) -> object:
        body = as_object(message)
        raw = [
            canonical(body | said | {"signatures": [{"keyid": KEYID, "sig": text(sig)}]})
            for said in ({}, {"spec": spec})
        ]
        try:
            return parse(raw[0])
        except P2PBootError:
            return parse(raw[1])

    return accept


MANIFEST = Manifest.parse((VECTORS / "into.json").read_bytes())
PAYLOAD = payload_of(2)


def manifest(message: bytes, sig: bytes) -> object:
    document = json.loads(MANIFEST.raw)
    if message != hashlib.sha256(MANIFEST.data).digest():
        document["signed"]["data"] = base64.b64encode(message).decode()
    document["signatures"][0]["sig"] = text(sig)
    return Manifest.parse(canonical(document))


def detached(message: bytes, sig: bytes) -> object:
    return check_detached(Manifest.parse(message).raw, text(sig), [KEYID])


def payload(message: bytes, sig: bytes) -> object:
    SnapshotReader(message).count()
    return PayloadSignature(sig).check(message, [KEY.public])


def announcement(message: bytes, sig: bytes) -> object:
    body = as_object(message)
    return Announcement.parse(canonical(body | {"sig": text(sig)}))


NOISE = b"noise-libp2p-static-key:"
RECORD = b"\x12libp2p-peer-record"
GOSSIP = b"libp2p-pubsub:"


def noise(message: bytes, sig: bytes) -> object:
    raw = bytes_field(1, encode_public_key(KEY.public)) + bytes_field(2, sig)
    return decode_payload(raw, message.removeprefix(NOISE))


def record(message: bytes, sig: bytes) -> object:
    body = message.removeprefix(RECORD + b"\x02\x03\x01")
    inner = body[2:] if body[1:2] == b"\x01" else body[1:]  # behind its length, of one byte or two
    raw = bytes_field(1, encode_public_key(KEY.public)) + bytes_field(2, b"\x03\x01")
    found = read_record(raw + bytes_field(3, inner) + bytes_field(5, sig))
    if found is None:
        raise Refused("no record")
    return found


def gossip(message: bytes, sig: bytes) -> object:
    sender, data, seqno = KEY.public.peer_id_bytes, b"x" * 40, bytes(8)
    shaped = [
        message,
        *(gossip_bytes(sender=sender, data=one, seqno=seqno, topic="t") for one in (message, data)),
    ]
    if not any(one.startswith(GOSSIP) and KEY.public.verify(one, sig) for one in shaped):
        raise Refused("no message")
    return sig


def forms() -> dict[str, Form]:
    digest = hashlib.sha256(MANIFEST.data).digest()
    own = announce(PAYLOAD, KEY)
    body = {name: value for name, value in json.loads(own.raw).items() if name != "sig"}
    envelope = dict(read_fields(sign_record(KEY, [parse_address("/ip4/192.0.2.7/tcp/4001")], 7)))
    inner = envelope[3]
    assert isinstance(inner, bytes)
    signed_record = RECORD + b"\x02\x03\x01" + bytes([len(inner)]) + inner
    handshake = dict(read_fields(encode_payload(KEY, b"\x07" * 32, [])))
    message = gossip_bytes(sender=KEY.public.peer_id_bytes, data=b"x" * 40, seqno=bytes(8), topic="t")
    found = {
        "manifest": Form(
            digest, base64.b64decode(json.loads(MANIFEST.raw)["signatures"][0]["sig"]), None, manifest
        ),
        "detached": Form(MANIFEST.raw, base64.b64decode(sign_detached(MANIFEST.raw, KEY)), b"{", detached),
        "payload": Form(PAYLOAD, KeySigner(KEY).sign(PAYLOAD), b"{", payload),
        "announcement": Form(
            b"timetoke-announcement/1\0" + canonical(body),
            base64.b64decode(json.loads(own.raw)["sig"]),
            b"timetoke-announcement/1\0",
            announcement,
        ),
        "noise": Form(NOISE + b"\x07" * 32, _bytes(handshake[2]), NOISE, noise),
        "record": Form(signed_record, _bytes(envelope[5]), RECORD, record),
        "gossip": Form(message, KEY.sign(message), GOSSIP, gossip),
    }
    for spec, said, parse in (
        ("p2pboot-root/1", form.root(roles={"root": form.role(form.P1), "publish": []}), Root.parse),
        ("p2pboot-freshness/1", form.freshness(form.P1), Freshness.parse),
        ("p2pboot-yank/1", form.yank(), Yank.parse),
    ):
        sig = base64.b64decode(json.loads(form.document(said, form.P1))["signatures"][0]["sig"])
        accept = trust_document(parse, spec)
        found[spec] = Form(form.message(said), sig, spec.encode() + b"\0", accept)
    return found


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


FORMS = forms()


@pytest.mark.parametrize("name", FORMS)
def test_each_signature_is_good_in_its_own_form(name: str) -> None:
    one = FORMS[name]
    assert KEY.public.verify(one.message, one.sig)
    assert one.accept(one.message, one.sig)


@pytest.mark.parametrize("name", FORMS)
def test_no_signature_means_anything_in_another_form(name: str) -> None:
    one = FORMS[name]
    for other_name, other in FORMS.items():
        if other_name == name:
            continue
        for message in (one.message, after_nul(one.message), other.message):
            with pytest.raises((P2PBootError, ValueError)):
                other.accept(message, one.sig)


def test_what_is_signed_in_two_forms_never_begins_alike() -> None:
    """So no bytes are signed in two forms, whatever a document says; but for the two that begin with {."""
    begins = {name: one.begins for name, one in FORMS.items() if one.begins is not None}
    for name, one in FORMS.items():
        assert one.begins is None or one.message.startswith(one.begins)
        for other, start in begins.items():
            if name != other and one.begins is not None and {name, other} != {"detached", "payload"}:
                assert not start.startswith(one.begins)
    assert len(FORMS["manifest"].message) == 32
    assert all(len(one.message) > 32 for name, one in FORMS.items() if name != "manifest")


def test_a_manifest_is_no_payload_and_a_payload_no_manifest() -> None:
    with pytest.raises(P2PBootError):
        SnapshotReader(MANIFEST.raw).count()
    with pytest.raises(P2PBootError):
        Manifest.parse(PAYLOAD)
    with pytest.raises(P2PBootError):
        sign_detached(PAYLOAD, KEY)


def test_the_table_of_signed_forms_is_complete() -> None:
    table = PAGE.split("## 8. Signed forms")[1].split("\n## ")[0]
    said = {
        start.replace(r"\0", "\0") for start in re.findall(r"^\| [^|]+ \| `([^`]+)`", table, re.MULTILINE)
    }
    assert said == {one.begins.decode().lstrip("\x12") for one in FORMS.values() if one.begins is not None}
    assert table.count("\n| ") - 1 == len(FORMS)
