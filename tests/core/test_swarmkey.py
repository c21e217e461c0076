"""Swarm keys in the files of libp2p's implementations; everything else is refused in words that show no key."""

from __future__ import annotations

import base64
import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.swarmkey import SwarmKey, parse_swarm_key, render_swarm_key
from p2pboot.errors import KeyFileError

# rust-libp2p, transports/pnet/src/lib.rs: "checked against go-ipfs output"
DIGITS = "6189c5cf0b87fb800c1a9feeda73c6ab5e998db48fb9e6a978575c770ceef683"
FINGERPRINT = "45fc986bbc9388a11d939df26f730f0c"
KEY = SwarmKey(bytes.fromhex(DIGITS))
HEADER = b"/key/swarm/psk/1.0.0/\n"
BASE16 = HEADER + b"/base16/\n" + DIGITS.encode()
BASE64 = HEADER + b"/base64/\n" + base64.b64encode(KEY.raw)
BINARY = HEADER + b"/bin/\n" + KEY.raw


def refusal(data: bytes) -> str:
    with pytest.raises(KeyFileError) as caught:
        parse_swarm_key(data, source="swarm.key")
    error = caught.value
    assert error.message.startswith("swarm.key")
    assert error.remedy
    assert "\n" not in error.message
    return error.message


def test_fingerprint_is_that_of_kubo_and_rust_libp2p() -> None:
    assert KEY.fingerprint == FINGERPRINT


@pytest.mark.parametrize(
    "data",
    [
        BASE16,
        BASE16 + b"\n",
        BASE16.upper().replace(b"/KEY/SWARM/PSK/", b"/key/swarm/psk/").replace(b"/BASE16/", b"/base16/"),
        BASE16.replace(b"\n", b"\r\n") + b"\r\n\r\n",
        BASE16.replace(b"\n", b" \n") + b"  ",
        codecs.BOM_UTF8 + BASE16,
        BASE64,
        BASE64 + b"\n",
        BINARY,
        BINARY + b"\n",
        BINARY.replace(HEADER, HEADER[:-1] + b"\r\n") + b"\r\n",
    ],
)
def test_each_form_is_read_as_editors_leave_it(data: bytes) -> None:
    assert parse_swarm_key(data, source="swarm.key") == KEY


@given(st.binary(min_size=32, max_size=32))
def test_any_32_bytes_are_a_key_in_every_form(raw: bytes) -> None:
    key = SwarmKey(raw)
    assert parse_swarm_key(render_swarm_key(key).encode(), source="f") == key
    assert parse_swarm_key(HEADER + b"/base64/\n" + base64.b64encode(raw), source="f") == key
    assert parse_swarm_key(HEADER + b"/bin/\n" + raw, source="f") == key


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not a swarm key: its first line"),
        (b'secret_key = "00"\n', "is not a swarm key: its first line"),
        (DIGITS.encode(), "is not a swarm key: its first line"),
        (KEY.raw, "is not a swarm key"),
        (BASE16.replace(b"1.0.0", b"2.0.0"), "another version, /key/swarm/psk/2.0.0/"),
        (HEADER, "it has 1 lines, not 3"),
        (BASE16 + b"\n" + DIGITS.encode(), "it has 4 lines, not 3"),
        (BASE16.replace(b"base16", b"base32"), "its second line is not /base16/"),
        (BASE16[:-1], "its third line is not base16"),
        (BASE16[:-1] + b"g", "its third line is not base16"),
        (BASE16[:-3] + b" " + BASE16[-2:], "its third line is not base16"),
        (BASE64[:-1], "its third line is not base64"),
        (BASE16[:-2], "the swarm key has 31 bytes, not 32"),
        (BASE16 + b"00", "the swarm key has 33 bytes, not 32"),
        (BASE64.replace(b"=", b"AA=="), "its third line is not base64"),
        (BINARY[:-1], "the swarm key has 31 bytes, not 32"),
        (BINARY + b"00", "the swarm key has 34 bytes, not 32"),
        (BASE16.decode().encode("utf-16"), "is saved as UTF-16"),
    ],
)
def test_what_is_no_key_is_refused_in_words_that_say_what_is_wrong(data: bytes, words: str) -> None:
    assert words in refusal(data)


@given(st.binary(max_size=200))
def test_no_message_shows_a_part_of_the_file(data: bytes) -> None:
    said = refusal(HEADER + b"/base16/\n" + DIGITS[:40].encode() + b"-" + data)
    assert DIGITS[:8] not in said


def test_a_key_never_shows_itself() -> None:
    assert DIGITS[:8] not in repr(KEY) + str(KEY)
    assert FINGERPRINT in repr(KEY)


def test_a_key_is_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        SwarmKey(bytes(31))
    assert SwarmKey(bytes(32)) != KEY
    assert len({SwarmKey(bytes(32)), SwarmKey(bytes(32))}) == 1
