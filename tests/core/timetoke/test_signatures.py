"""Signatures over payloads, the text of `.sig` files, roots and chunk tables."""

from __future__ import annotations

import base64
import mmap
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.identity import PublicKey
from p2pboot.core.pieces import MIN_PIECE
from p2pboot.core.timetoke.chunks import ChunkTableBuilder, payload_root
from p2pboot.core.timetoke.errors import (
    KeyVersionInvalid,
    SignatureEmpty,
    SignatureLengthError,
    SignatureMismatch,
    SignatureUndecodable,
    SnapshotSignatureError,
)
from p2pboot.core.timetoke.signatures import MAX_SIGNATURE_TEXT, KeySigner, PayloadSignature, verify_payload
from tests.core.timetoke.samples import ALICE, BOB, INDEX, NAMES, VECTOR_KEY, VECTORS, payload_of, sign

GOOD = sign(b"payload")


@pytest.mark.parametrize("entry", INDEX["snapshots"], ids=NAMES)
def test_golden_signature_and_root_are_reproduced(entry: dict[str, Any]) -> None:
    payload = (VECTORS / f"{entry['name']}.json").read_bytes()
    text = (VECTORS / f"{entry['name']}.json.sig").read_bytes()
    assert payload_root(payload) == entry["root"]
    assert PayloadSignature(KeySigner(VECTOR_KEY).sign(payload)).base64.encode() == text
    assert VECTOR_KEY.public.hex == INDEX["public_key"]
    signature = PayloadSignature.parse(text)
    assert signature.check(payload, [ALICE.public, VECTOR_KEY.public]) == VECTOR_KEY.public
    for index in (0, len(payload) // 2, len(payload) - 1):
        changed = bytearray(payload)
        changed[index] ^= 1
        with pytest.raises(SignatureMismatch):
            signature.check(changed, [VECTOR_KEY.public])


@pytest.mark.parametrize("text", [GOOD, f"  {GOOD}\r\n", f"\t{GOOD}\n\n", f"{GOOD}\n".encode()])
def test_white_space_around_a_signature_is_taken(text: str | bytes) -> None:
    signature = PayloadSignature.parse(text)
    assert signature.base64 == GOOD
    assert signature.key_version is None


@pytest.mark.parametrize("version", ["0", "1", "17", str(2**32 - 1)])
def test_the_form_with_a_key_version_is_read_and_written(version: str) -> None:
    signature = PayloadSignature.parse(f"{version}:{GOOD}\n")
    assert (signature.key_version, signature.base64) == (version, GOOD)
    assert signature.text == f"{version}:{GOOD}"
    assert PayloadSignature.parse(GOOD).text == GOOD


@pytest.mark.parametrize("version", ["+1", "01", "+0001"])
def test_other_decimals_that_the_source_system_takes_are_the_same_key_version(version: str) -> None:
    assert PayloadSignature.parse(f"{version}:{GOOD}").key_version == "1"


@pytest.mark.parametrize(
    "version",
    ["v1", "-1", "", "+", " 1 ", "1 ", "1.0", "0x1", "1_0", "²", str(2**32), "9" * 500, "2025-11-26", "1:2"],
)
def test_what_is_no_u32_in_decimal_is_no_key_version(version: str) -> None:
    with pytest.raises(SignatureUndecodable, match=r"x\.sig"):
        PayloadSignature.parse(f"{version}:{GOOD}", source="x.sig")


@pytest.mark.parametrize("text", [f"\ufeff{GOOD}", f"\ufeff1:{GOOD}\r\n"])
def test_a_byte_order_mark_of_an_editor_is_passed_over(text: str) -> None:
    assert PayloadSignature.parse(text).base64 == GOOD
    assert PayloadSignature.parse(text.encode()).base64 == GOOD
    with pytest.raises(SignatureEmpty):
        PayloadSignature.parse("\ufeff\r\n")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", SignatureEmpty),
        (" \n\t\r\n", SignatureEmpty),
        ("hello world", SignatureUndecodable),
        (GOOD[:-1], SignatureUndecodable),
        (GOOD.rstrip("="), SignatureUndecodable),
        (GOOD[:40] + "\n" + GOOD[40:], SignatureUndecodable),
        (GOOD[:-3] + "h==", SignatureUndecodable),  # bits that decode to nothing
        (GOOD.replace(GOOD[0], "-", 1), SignatureUndecodable),
        (f"a b:{GOOD}", KeyVersionInvalid),
        (f":{GOOD}", KeyVersionInvalid),
        ("1:", SignatureUndecodable),
        (b"\xff\xfe", SignatureUndecodable),
        ("é" * 88, SignatureUndecodable),
        (GOOD + " " * MAX_SIGNATURE_TEXT, SignatureUndecodable),
        (base64.b64encode(bytes(63)).decode(), SignatureLengthError),
        (base64.b64encode(bytes(65)).decode(), SignatureLengthError),
        ("AAAA", SignatureLengthError),
    ],
)
def test_every_defect_of_a_signature_has_its_own_error(
    text: str, error: type[SnapshotSignatureError]
) -> None:
    with pytest.raises(error, match=r"s\.sig") as caught:
        PayloadSignature.parse(text, source="s.sig")
    assert type(caught.value) is error


def test_another_key_or_other_bytes_are_a_mismatch() -> None:
    signature = PayloadSignature.parse(GOOD)
    with pytest.raises(SignatureMismatch, match=BOB.public.keyid):
        signature.check(b"payload", [BOB.public])
    with pytest.raises(SignatureMismatch):
        signature.check(b"payloae", [ALICE.public])
    with pytest.raises(SignatureMismatch):
        signature.check(b"payload", [])


def test_a_key_with_which_anything_verifies_is_not_believed() -> None:
    identity_point = PublicKey(b"\x01" + bytes(31))
    assert not verify_payload(b"anything", b"\x01" + bytes(63), identity_point)


def test_a_mapped_file_is_signed_and_verified(tmp_path: Path) -> None:
    path = tmp_path / "payload"
    path.write_bytes(payload_of(1000))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        raw = KeySigner(ALICE).sign(mapped)
        assert raw == ALICE.sign(payload_of(1000))
        assert verify_payload(mapped, raw, ALICE.public)
        assert payload_root(mapped) == payload_root(payload_of(1000))


@pytest.mark.parametrize(
    "size", [1, MIN_PIECE - 1, MIN_PIECE, MIN_PIECE + 1, 3 * MIN_PIECE, 3 * MIN_PIECE + 7]
)
@pytest.mark.parametrize("part", [1000, MIN_PIECE, 1 << 20])
def test_root_and_table_do_not_depend_on_how_the_payload_comes(size: int, part: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    builder = ChunkTableBuilder(MIN_PIECE)
    for start in range(0, size, part):
        builder.update(payload[start : start + part])
    root, table = builder.finish()
    assert root == payload_root(payload)
    assert table.size == size
    for index in range(table.count):
        offset, length = table.span(index)
        assert table.matches(index, payload[offset : offset + length])


def test_nothing_has_no_table() -> None:
    with pytest.raises(ValueError, match="below 1 byte"):
        ChunkTableBuilder().finish()
