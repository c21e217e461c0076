"""HSalsa20 and Salsa20's first block, against what their author and NaCl published."""

from __future__ import annotations

import pytest
from Crypto.Cipher import Salsa20
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.salsa20 import first_block, hsalsa20

# NaCl, tests/core1.c and core2.c: the shared secret of its example, and the first 16 bytes of its nonce.
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
FIRST_KEY = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
PREFIX = bytes.fromhex("69696ee955b62b73cd62bda875fc73d6")
SECOND_KEY = bytes.fromhex("dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4")


def test_hsalsa20_is_nacl_s() -> None:
    assert hsalsa20(SHARED, bytes(16)) == FIRST_KEY
    assert hsalsa20(FIRST_KEY, PREFIX) == SECOND_KEY


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=8, max_size=8))
def test_first_block_is_that_of_the_library_s_keystream(key: bytes, nonce: bytes) -> None:
    assert first_block(key, nonce) == Salsa20.new(key=key, nonce=nonce).encrypt(bytes(64))


@pytest.mark.parametrize(("key", "nonce"), [(31, 16), (33, 16), (32, 15), (32, 17), (0, 0)])
def test_other_lengths_are_refused(key: int, nonce: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        hsalsa20(bytes(key), bytes(nonce))
