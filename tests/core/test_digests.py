import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiformats import CID

from p2pboot.core.digests import is_digest, sha256_cid


@given(st.binary(min_size=32, max_size=32))
def test_cid_equals_that_of_the_multiformats_library(digest: bytes) -> None:
    assert sha256_cid(digest.hex()) == str(CID("base32", 1, "raw", ("sha2-256", digest)))


def test_cid_of_known_content() -> None:
    # `ipfs add --cid-version 1 --raw-leaves` of "hello world\n" (documentation of IPFS)
    digest = hashlib.sha256(b"hello world\n").hexdigest()
    assert sha256_cid(digest) == "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", b"0" * 64, None, 5]
)
def test_only_64_lowercase_hex_digits_are_a_digest(text: object) -> None:
    assert not is_digest(text)


def test_a_cid_is_made_of_digests_only() -> None:
    assert is_digest("0" * 64)
    with pytest.raises(ValueError, match="not a digest"):
        sha256_cid("A" * 64)
