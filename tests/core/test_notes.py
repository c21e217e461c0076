"""JSON of ours that somebody else may have written since."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from p2pboot.core.jsonform import decode_note
from p2pboot.fetch.placing.output import Output
from p2pboot.store.record import Entry

ODD = {
    "nested": b"[" * 100_000,
    "NaN": b"[NaN]",
    "infinite": b"[-1e999]",
    "cut": b"[1",
    "digits": b"9" * 5000,
}


@pytest.mark.parametrize("raw", ODD.values(), ids=list(ODD))
def test_what_can_not_be_ours_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the words
        decode_note(raw)


@pytest.mark.parametrize("raw", ODD.values(), ids=list(ODD))
def test_planted_notes_do_not_stop_a_client(raw: bytes, tmp_path: Path) -> None:
    private = tmp_path / ".p2pboot" / "output"
    private.mkdir(parents=True, mode=0o700)
    (tmp_path / ".p2pboot").chmod(0o700)
    for name in ("placing.json", "devicetrees.json"):
        (private / name).write_bytes(raw)
    with Output.open(tmp_path, lambda _digest, _table: None) as output:
        assert output._left_by_killed() == set()
        assert output._trees.noted_names() == ()


@pytest.mark.parametrize("serial", ["-1", "1e999", "9" * 30, "true", '"1"'])
@pytest.mark.parametrize("body", [b"[" * 100_000, None], ids=["nested", "serial"])
def test_line_of_a_record_with_odd_numbers_is_none(serial: str, body: bytes | None) -> None:
    said = '{"spec":"p2pboot-record/1","state":"x","serial":%s,"accepted":[],"published":[],"announced":[]}'
    text = body or (said % serial).encode()
    assert Entry.parse(hashlib.sha256(text).hexdigest().encode() + b" " + text) is None
