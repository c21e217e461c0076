import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.identity import PublicKey, SecretKey, parse_keyid

# RFC 8032, section 7.1, test 2
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
KEY = SecretKey(SEED)


def test_keys_and_signatures_are_those_of_rfc_8032() -> None:
    assert KEY.public.hex == PUBLIC
    assert KEY.public.keyid == f"ed25519:{PUBLIC}" == str(KEY.public)
    assert KEY.sign(b"\x72") == SIGNATURE
    assert KEY.public.verify(b"\x72", SIGNATURE)


@pytest.mark.parametrize("signature", [b"", SIGNATURE[:-1], SIGNATURE + b"\0", bytes(64), SIGNATURE[::-1]])
def test_a_wrong_signature_is_false_not_an_exception(signature: bytes) -> None:
    assert not KEY.public.verify(b"\x72", signature)
    assert not KEY.public.verify(b"\x73", SIGNATURE)
    assert not PublicKey(b"\xff" * 32).verify(b"\x72", SIGNATURE)


def test_the_all_zero_key_signs_nothing() -> None:
    # A point of small order would "verify" forged signatures under a lax implementation.
    assert not PublicKey(bytes(32)).verify(b"anything", bytes(64))


@given(st.binary(min_size=32, max_size=32))
def test_peer_ids_read_back(seed: bytes) -> None:
    public = SecretKey(seed).public
    assert public.peer_id.startswith("12D3KooW")
    assert PublicKey.from_peer_id(public.peer_id) == public


# In a process of its own: py-libp2p changes the logging of whoever imports it. It imports fastecdsa for kinds
# of keys that are not used here, and fastecdsa needs a compiler: without it, empty modules stand in.
LIBP2P_PEER_IDS = """
import importlib.util, sys, types

class Absent(types.ModuleType):
    def __getattr__(self, name):
        return type(name, (), {})

if importlib.util.find_spec("fastecdsa") is None:
    for name in ("", ".encoding", ".encoding.util", ".encoding.sec1", ".curve", ".keys", ".point"):
        module = sys.modules["fastecdsa" + name] = Absent("fastecdsa" + name)
        parent, _, attribute = module.__name__.rpartition(".")
        if parent:
            setattr(sys.modules[parent], attribute, module)

from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

for seed in sys.argv[1:]:
    print(ID.from_pubkey(create_new_key_pair(bytes.fromhex(seed)).public_key))
"""


def test_peer_ids_equal_those_of_py_libp2p() -> None:
    seeds = [SEED, bytes(32), b"\xff" * 32, *(hashlib.sha256(bytes([n])).digest() for n in range(20))]
    arguments = [sys.executable, "-c", LIBP2P_PEER_IDS, *(seed.hex() for seed in seeds)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [SecretKey(seed).public.peer_id for seed in seeds]


def test_all_forms_of_a_key_id_are_read() -> None:
    for text in (KEY.public.keyid, PUBLIC, KEY.public.peer_id, f" {PUBLIC.upper()}\n"):
        assert parse_keyid(text) == KEY.public


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519:",
        PUBLIC[:-1],
        PUBLIC + "0",
        "rsa:" + PUBLIC,
        "ed25519:ed25519:" + PUBLIC,
        "12D3KooW",
        "12D3KooW" + "1" * 44,
        "12D3KooW" + "0" * 44,
        "12D3KooW" + "é" * 44,
        "12D3KooW" + "z" * 44,
        "12D3KooW" + "z" * 100_000,
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
    ],
)
def test_what_is_no_key_id_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"key id|peer id|Ed25519 public key") as caught:
        parse_keyid(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("digits", ["0" * 64, "1" * 64, "f" * 64, "01" + "0" * 62])
def test_a_key_that_can_sign_nothing_verifies_nothing(digits: str) -> None:
    key = parse_keyid(digits)
    assert not key.verify(b"message", bytes(64))
    assert not key.verify(b"message", KEY.sign(b"message"))


def test_documents_know_only_the_exact_form() -> None:
    assert PublicKey.from_keyid(KEY.public.keyid) == KEY.public
    for text in (PUBLIC, KEY.public.peer_id, KEY.public.keyid.upper(), KEY.public.keyid + "\n", ""):
        with pytest.raises(ValueError, match="key id"):
            PublicKey.from_keyid(text)


def test_no_secret_is_shown() -> None:
    for shown in (repr(KEY), str(KEY), f"{KEY}"):
        assert SEED.hex() not in shown
        assert repr(SEED) not in shown
        assert PUBLIC in shown


def test_wrong_lengths_are_refused() -> None:
    for length in (0, 31, 33, 64):
        with pytest.raises(ValueError, match="32 bytes"):
            SecretKey(bytes(length))
        with pytest.raises(ValueError, match="32 bytes"):
            PublicKey(bytes(length))


def test_keys_compare_by_value() -> None:
    assert SecretKey(SEED) == KEY
    assert SecretKey(bytes(32)) != KEY
    assert len({SecretKey(SEED), KEY}) == 1
    assert KEY != SEED


def test_importing_and_using_keys_imports_no_network() -> None:
    code = (
        "import sys; from p2pboot.core.identity import SecretKey; SecretKey(bytes(32)).public.peer_id;"
        "sys.exit(bool({'libp2p', 'trio'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
