"""Payloads: the writer's exact bytes, and a reader that takes what the source system takes."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.timetoke.errors import SnapshotMalformed
from p2pboot.core.timetoke.numbers import U64_MAX, U128_MAX, f32_bits, f32_of_bits
from p2pboot.core.timetoke.reader import MAX_VALUE_BYTES, SnapshotReader, decode_record
from p2pboot.core.timetoke.records import TimetokeRecord
from p2pboot.core.timetoke.snapshot import TimetokeSnapshot
from p2pboot.core.timetoke.writer import encode_record, encode_snapshot
from tests.core.timetoke.samples import INDEX, NAMES, TIMETOKE_ROOT, VECTORS, payload_of, record

u64 = st.integers(0, U64_MAX)
floats = st.integers(0, 2**32 - 1).filter(lambda bits: (bits >> 23) & 0xFF != 0xFF).map(f32_of_bits)
records = st.builds(
    TimetokeRecord,
    identity=st.text(),
    balance=st.integers(0, U128_MAX),
    epoch_accrual=u64,
    decay_rate=floats,
    last_update=u64,
    last_sync=u64,
    last_decay=u64,
)


def bits_of(snapshot: TimetokeSnapshot) -> list[int]:
    return [f32_bits(one.decay_rate) for one in snapshot]


@pytest.mark.parametrize("entry", INDEX["snapshots"], ids=NAMES)
def test_golden_payload_is_read_and_written_byte_for_byte(entry: dict[str, Any]) -> None:
    payload = (VECTORS / f"{entry['name']}.json").read_bytes()
    snapshot = TimetokeSnapshot.from_bytes(payload)
    assert snapshot.timetoke_root == entry["timetoke_root"]
    assert len(snapshot) == entry["records"]
    assert bits_of(snapshot) == entry["decay_rate_bits"]
    assert snapshot.to_bytes() == payload
    assert len(payload) == entry["bytes"]


@given(st.lists(records, max_size=5))
def test_what_is_written_is_read_back_to_the_bit(values: list[TimetokeRecord]) -> None:
    payload = TimetokeSnapshot(TIMETOKE_ROOT, tuple(values)).to_bytes()
    back = TimetokeSnapshot.from_bytes(payload)
    assert back.records == tuple(values)
    assert bits_of(back) == [f32_bits(one.decay_rate) for one in values]
    assert payload.isascii() or payload.decode()


@given(records)
def test_both_ways_of_reading_a_record_agree(value: TimetokeRecord) -> None:
    """The quick way for the writer's own form, and the JSON parser for everything else."""
    text = encode_record(value).encode()
    quick = next(
        iter(SnapshotReader(b'{"timetoke_root":"%b","records":[%b]}' % (TIMETOKE_ROOT.encode(), text)))
    )
    assert quick == decode_record(text) == decode_record(b" " + text.replace(b":", b" : ", 1))
    assert f32_bits(quick.decay_rate) == f32_bits(value.decay_rate)


@given(st.integers(0, U128_MAX))
def test_every_u128_survives(balance: int) -> None:
    assert decode_record(encode_record(record(balance=balance)).encode()).balance == balance


def test_controls_are_escaped_as_the_source_system_does() -> None:
    text = encode_record(record(identity='\x00\x08\t\n\x0b\x0c\r\x1f"\\/\x7f\u2028é🦀'))
    assert r'"\u0000\b\t\n\u000b\f\r\u001f\"\\/' in text
    assert "\x7f\u2028é🦀" in text


def test_large_snapshots_are_written_in_parts_of_bounded_size() -> None:
    parts = list(encode_snapshot((record(number) for number in range(20_000)), TIMETOKE_ROOT))
    assert len(parts) > 5
    assert max(map(len, parts)) < 300_000
    assert b"".join(parts) == payload_of(20_000)


def rendered(**members: str) -> bytes:
    """A record as JSON text, members given as they shall stand there."""
    texts = {
        "identity": '"x"',
        "balance": "1",
        "epoch_accrual": "2",
        "decay_rate": "0.5",
        "last_update": "3",
        "last_sync": "4",
        "last_decay": "5",
        **members,
    }
    return ("{" + ",".join(f'"{name}":{text}' for name, text in texts.items() if text) + "}").encode()


def snapshot_with(*raw: bytes) -> bytes:
    return b'{"timetoke_root":"%b","records":[%b]}' % (TIMETOKE_ROOT.encode(), b",".join(raw))


@pytest.mark.parametrize(
    "raw",
    [
        rendered(decay_rate="1"),
        rendered(decay_rate="5e-1"),
        rendered(decay_rate="0.50000"),
        rendered(decay_rate="1E+13"),
        rendered(identity=r'"\u00e9\ud83e\udd80"'),
        rendered(later='[{"more":[1,2.5,null,true,"]}"]}]'),
        json.dumps(json.loads(rendered()), indent=2).encode(),
        json.dumps(dict(reversed(json.loads(rendered()).items()))).encode(),
    ],
)
def test_any_valid_form_of_a_record_is_read(raw: bytes) -> None:
    (found,) = SnapshotReader(snapshot_with(raw))
    assert found.last_decay == 5


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (rendered(decay_rate="NaN"), "NaN"),
        (rendered(decay_rate="-Infinity"), "NaN and infinities"),
        (rendered(decay_rate="1e39"), "range"),
        (rendered(decay_rate='"0.5"'), "not a number"),
        (rendered(decay_rate="01.5"), "JSON"),
        (rendered(decay_rate=".5"), "JSON"),
        (rendered(decay_rate="null"), "not a number"),
        (rendered(balance=str(U128_MAX + 1)), "balance"),
        (rendered(balance="-1"), "unsigned"),
        (rendered(balance="-0"), "unsigned"),
        (rendered(balance="1.0"), "unsigned"),
        (rendered(balance="1e3"), "unsigned"),
        (rendered(balance='"1"'), "unsigned"),
        (rendered(balance="true"), "unsigned"),
        (rendered(balance="9" * 5000), "128 bits"),
        (rendered(epoch_accrual=str(U64_MAX + 1)), "epoch_accrual"),
        (rendered(last_update=str(U64_MAX + 1)), "last_update"),
        (rendered(last_sync=str(U64_MAX + 1)), "last_sync"),
        (rendered(last_decay=str(U64_MAX + 1)), "last_decay"),
        (rendered(identity="5"), "not a text"),
        (rendered(identity="null"), "not a text"),
        (rendered(identity=r'"\ud800"'), "surrogate"),
        (rendered(identity='"a\nb"'), "no JSON"),
        (rendered(identity=""), "identity is missing"),
        (rendered(last_decay=""), "last_decay is missing"),
        (rendered().replace(b'"last_sync"', b'"last_update"'), "twice"),
        (rendered(deep="[" * 40_000 + "]" * 40_000), "deep"),
        (b"[]", "not an object"),
        (b'"x"', "not an object"),
        (rendered(identity='"\xff"').replace("ÿ".encode(), b"\xff"), "utf-8|UTF-8"),
    ],
)
def test_a_record_that_is_none_is_refused_with_its_number_and_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(SnapshotMalformed, match=reason) as caught:
        list(SnapshotReader(snapshot_with(rendered(), raw)))
    assert "record 1" in caught.value.message


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "expected '{'"),
        (b"null", "expected '{'"),
        (b"[]", "expected '{'"),
        (b"{}", "records is missing"),
        (b'{"records":[]}', "timetoke_root is missing"),
        (snapshot_with() + b"x", "after the end"),
        (snapshot_with() + b"\n{}", "after the end"),
        (snapshot_with()[:-1], "expected ','"),
        (snapshot_with(rendered())[:-3], "no JSON value"),
        (snapshot_with(rendered() + b" " + rendered()), "expected ','"),
        (snapshot_with(rendered() + b","), "no JSON value"),
        (b'{"timetoke_root":"xx","records":[]}', "64 lowercase"),
        (b'{"timetoke_root":7,"records":[]}', "64 lowercase"),
        (snapshot_with().replace(b'"records"', b'"timetoke_root":"%b","records"' % (b"0" * 64)), "twice"),
        (snapshot_with().replace(b'"records":[]', b'"records":{}'), "expected '\\['"),
        (snapshot_with().replace(b",", b",,"), "name of a member"),
        (b"\xef\xbb\xbf" + snapshot_with(), "expected '{'"),
        (snapshot_with(rendered(identity='"' + "x" * MAX_VALUE_BYTES + '"')), "longer than"),
    ],
)
def test_what_is_no_payload_is_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(SnapshotMalformed, match=reason):
        list(SnapshotReader(payload))


def test_order_and_white_space_of_the_payload_do_not_matter() -> None:
    payload = b' { "later" : {"a":[]} , "records" : [ %b , %b ] , "timetoke_root" : "%b" } \n' % (
        rendered(),
        rendered(),
        TIMETOKE_ROOT.encode(),
    )
    reader = SnapshotReader(payload)
    assert reader.timetoke_root == TIMETOKE_ROOT
    assert reader.count() == 2


def test_records_of_a_mapped_file_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_bytes(payload_of(5000))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        reader = SnapshotReader(mapped)
        first = next(iter(reader))
        assert first == record(0)
        assert reader.count() == 5000


def test_a_defect_behind_a_million_bytes_shows_when_the_reading_gets_there() -> None:
    payload = payload_of(5000)[:-2] + b",7]}"
    found = iter(SnapshotReader(payload))
    for _ in range(5000):
        next(found)
    with pytest.raises(SnapshotMalformed, match="record 5000"):
        next(found)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"balance": -1}, ValueError),
        ({"balance": U128_MAX + 1}, ValueError),
        ({"balance": True}, TypeError),
        ({"balance": 1.0}, TypeError),
        ({"epoch_accrual": U64_MAX + 1}, ValueError),
        ({"last_update": -1}, ValueError),
        ({"decay_rate": float("nan")}, ValueError),
        ({"decay_rate": float("inf")}, ValueError),
        ({"decay_rate": 10**400}, ValueError),
        ({"decay_rate": "1"}, TypeError),
        ({"decay_rate": True}, TypeError),
        ({"identity": b"x"}, TypeError),
        ({"identity": "\ud800"}, ValueError),
    ],
)
def test_an_invalid_record_can_not_exist(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        record(**changes)


def test_a_decay_rate_is_kept_as_the_nearest_32_bit_float() -> None:
    assert f32_bits(record(decay_rate=0.1).decay_rate) == 0x3DCCCCCD
    assert record(decay_rate=1).decay_rate == 1.0


def test_a_timetoke_root_may_be_bytes() -> None:
    parts = b"".join(encode_snapshot([], bytes.fromhex(TIMETOKE_ROOT)))
    assert SnapshotReader(parts).timetoke_root == TIMETOKE_ROOT
    with pytest.raises(ValueError, match="timetoke root"):
        b"".join(encode_snapshot([], "7E" * 32))
