import base64
import codecs
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.identity import SecretKey
from p2pboot.core.keyformats import MAX_KEY_FILE, import_secret, parse_key_toml, render_key_toml
from p2pboot.errors import KeyFileError

VECTORS = Path(__file__).parent.parent / "vectors" / "identity"
EXPECTED: dict[str, str] = json.loads((VECTORS / "expected.json").read_text())
KEY = SecretKey(bytes(range(32)))
OTHER = SecretKey(bytes(range(1, 33)))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_format_is_recognised_and_yields_its_key(name: str) -> None:
    key = import_secret((VECTORS / name).read_bytes(), source=name, password=b"vector")
    assert key.public.hex == EXPECTED[name]


@given(st.binary(min_size=32, max_size=32))
def test_a_written_key_file_reads_back(seed: bytes) -> None:
    key = SecretKey(seed)
    text = render_key_toml(key)
    assert parse_key_toml(text, source="x") == key
    assert import_secret(text.encode(), source="x") == key


def test_public_key_is_optional_and_extra_entries_are_tolerated() -> None:
    secret = f'secret_key = "{KEY.seed.hex().upper()}"'
    assert parse_key_toml(secret, source="x") == KEY
    assert parse_key_toml(f'version = 1\n{secret}\ncomment = "hi"\n[extra]\na = 1\n', source="x") == KEY


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("secret_key = ", "not a TOML key file"),
        ('version = "1"', "has no secret_key"),
        ("secret_key = 5", "secret_key is not a string"),
        ('secret_key = "00"', "secret_key has 2 characters instead of 64"),
        (f'secret_key = "{"g" * 64}"', "secret_key is not hexadecimal"),
        (f'secret_key = "{KEY.seed.hex()}"\npublic_key = "{OTHER.public.hex}"', "public_key does not belong"),
        (f'secret_key = "{KEY.seed.hex()}"\npublic_key = "{KEY.public.hex[:-2]}"', "public_key has 62"),
        (f'secret_key = "{KEY.seed.hex()}"\npublic_key = ["x"]', "public_key is not a string"),
    ],
)
def test_a_faulty_key_file_is_named_with_its_fault_and_a_remedy(text: str, says: str) -> None:
    with pytest.raises(KeyFileError, match=says) as caught:
        parse_key_toml(text, source="keys/node.toml")
    assert "keys/node.toml" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "says", "remedy"),
    [
        ("pkcs8-encrypted.pem", "is encrypted", "openssl pkcs8"),
        ("openssh-passphrase", "has a passphrase", "ssh-keygen -p"),
        ("openssh-rsa", "no Ed25519 key", "give an Ed25519 key"),
        ("pkcs8-x25519.pem", "no Ed25519 key", "give an Ed25519 key"),
        ("spki.pem", "public key", "secret key"),
        ("openssh.pub", "public key", "secret key"),
    ],
)
def test_keys_that_can_not_be_imported_say_why(name: str, says: str, remedy: str) -> None:
    with pytest.raises(KeyFileError, match=says) as caught:
        import_secret((VECTORS / name).read_bytes(), source=name)
    assert name in caught.value.message
    assert remedy in (caught.value.remedy or "")


def test_a_wrong_password_is_said_to_be_one() -> None:
    data = (VECTORS / "pkcs8-encrypted.pem").read_bytes()
    with pytest.raises(KeyFileError) as caught:
        import_secret(data, source="x", password=b"wrong")
    assert caught.value.remedy == "check the password"


def test_a_password_for_a_key_that_needs_none_does_no_harm() -> None:
    for name in ("pkcs8.pem", "openssh", "raw"):
        data = (VECTORS / name).read_bytes()
        assert import_secret(data, source=name, password=b"unneeded").public.hex == EXPECTED[name]


@pytest.mark.parametrize("name", ["libp2p-64", "libp2p-96"])
def test_a_libp2p_key_with_a_foreign_or_missing_half_is_refused(name: str) -> None:
    data = (VECTORS / name).read_bytes()
    for at in range(36, len(data), 32):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(KeyFileError, match="public half does not belong"):
            import_secret(changed, source=name)
    for cut in (data[:-1], data + b"\n", data[:4]):
        with pytest.raises(KeyFileError, match=r"instead of|no key"):
            import_secret(cut, source=name)
    with pytest.raises(KeyFileError, match="public key"):
        import_secret(bytes.fromhex("08011220") + data[36:68], source=name)


def test_a_pkcs8_key_with_a_foreign_public_half_is_refused() -> None:
    text = (VECTORS / "pkcs8-v2.pem").read_text()
    with pytest.raises(KeyFileError, match="public half does not belong"):
        import_secret(text.replace("XAxZuE=", "XAxZuA=").encode(), source="x")


@pytest.mark.parametrize("data", [b"", b"\n", bytes(31), bytes(33), b"hello", b"\xff" * 40, b"0" * 63])
def test_what_is_no_key_names_the_known_formats(data: bytes) -> None:
    with pytest.raises(KeyFileError, match="no key in a known format") as caught:
        import_secret(data, source="some/file")
    assert "PKCS#8" in (caught.value.remedy or "")
    with pytest.raises(KeyFileError, match="too large"):
        import_secret(bytes(MAX_KEY_FILE + 1), source="some/file")


PEM, OPENSSH = ((VECTORS / name).read_bytes() for name in ("pkcs8.pem", "openssh"))
TOML = render_key_toml(KEY).encode()
MARK = b"\xef\xbb\xbf"


def crlf(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


def indented(data: bytes) -> bytes:
    return b"".join(b"\t  " + line + b"\n" for line in data.splitlines())


@pytest.mark.parametrize(
    "name", ["pkcs8.pem", "pkcs8-v2.pem", "pkcs8-encrypted.pem", "openssh", "hex", "node.toml"]
)
@pytest.mark.parametrize(
    "change",
    [
        crlf,
        bytes.rstrip,
        indented,
        lambda data: MARK + data,
        lambda data: MARK + crlf(data).rstrip(),
        lambda data: b"\n\r\n  " + data + b"\n\n",
    ],
    ids=["crlf", "no newline", "indented", "mark", "all of it", "blank lines"],
)
def test_what_editors_add_does_no_harm(name: str, change: Callable[[bytes], bytes]) -> None:
    data = change((VECTORS / name).read_bytes())
    assert import_secret(data, source=name, password=b"vector").public.hex == EXPECTED[name]


@pytest.mark.parametrize("pem", [PEM, OPENSSH])
def test_text_around_a_pem_block_does_no_harm(pem: bytes) -> None:
    before = b"Bag Attributes\n    localKeyID: 01 02\nKey Attributes: <No Attributes>\n"
    after = b"ED25519 Private-Key:\npriv:\n    9d:61:b1\n" + (VECTORS / "spki.pem").read_bytes()
    expected = import_secret(pem, source="x")
    in_latin_1 = "friendlyName: Schlüssel\n".encode("latin-1")
    for data in (
        before + pem,
        pem + after,
        crlf(before + pem + after),
        MARK + before + indented(pem),
        in_latin_1 + pem,
        pem + in_latin_1,
    ):
        assert import_secret(data, source="x") == expected


LIBP2P = (VECTORS / "libp2p-64").read_bytes()
DER = base64.b64decode(b"".join(PEM.splitlines()[1:-1]))


@pytest.mark.parametrize(
    ("data", "says", "remedy"),
    [
        (DER, "DER form", "openssl pkey -inform DER"),
        (KEY.seed + KEY.public.raw, "64-byte key of NaCl", "head -c 32"),
        (base64.b64encode(KEY.seed), "base64 of 32 bytes", "base64 -d"),
        (base64.b64encode(KEY.seed + KEY.public.raw) + b"\r\n", "base64 of 64 bytes", "base64 -d"),
        (base64.b64encode(LIBP2P), "base64 of a libp2p private key", "p2pboot key import -"),
        (b"0x" + KEY.seed.hex().encode(), "64 hex digits", "64 digits alone"),
        (KEY.seed.hex(":").encode(), "64 hex digits", "64 digits alone"),
        (OTHER.seed + b"\n", "has 33 bytes", "editor"),
        (MARK + OTHER.seed, "has 35 bytes", "editor"),
        (TOML.decode().encode("utf-16"), "saved as UTF-16", "save it as UTF-8"),
        (PEM.decode().encode("utf-16-le"), "saved as UTF-16", "save it as UTF-8"),
        (PEM.decode().encode("utf-32"), "saved as UTF-32", "save it as UTF-8"),
        (b"# my key\n" + MARK + TOML, "line 2 is no entry", "correct that line"),
        (b"my key\n" + TOML, "line 1 is no entry", "a remark begins with #"),
        (TOML + b"-- \nme\n", f"line {len(TOML.splitlines()) + 1} is no entry", "take it out"),
        ("# Schlüssel\n".encode("latin-1") + TOML, "not UTF-8 text", "save it as UTF-8"),
        (PEM.replace(b"\n", b"\n> "), "inside of its PEM block", "between its lines"),
        (PEM.replace(b"\n", b"\\n"), "inside of its PEM block", "between its lines"),
        (b"PuTTY-User-Key-File-3: ssh-ed25519\n", "key of PuTTY", "puttygen"),
        (PEM.partition(b"-----END")[0], "cut off", "whole"),
        (PEM + OPENSSH, "holds 2 secret keys", "with one"),
        (MARK + (VECTORS / "spki.pem").read_bytes(), "public key", "secret key"),
        (PEM.replace(b"PRIVATE KEY", b"RSA PRIVATE KEY"), "no Ed25519 key", "PKCS#8"),
    ],
)  # fmt: skip
def test_other_forms_are_refused_by_name_and_never_shown(data: bytes, says: str, remedy: str) -> None:
    with pytest.raises(KeyFileError, match=says) as caught:
        import_secret(data, source="some/file")
    assert "some/file" in caught.value.message
    assert remedy in (caught.value.remedy or "")
    shown = f"{caught.value.message}{caught.value.remedy}"
    for secret in (KEY.seed, OTHER.seed, import_secret(PEM, source="x").seed):
        for form in (secret.hex(), secret.hex(":"), base64.b64encode(secret).decode()[:40]):
            assert form not in shown


@pytest.mark.parametrize(
    "data",
    [
        PEM[:32],
        OPENSSH[:32],
        TOML[:32],
        KEY.seed.hex().encode()[:32],
        crlf(PEM)[:32],
        MARK + PEM[:29],
        PEM[:15].decode().encode("utf-16"),
        codecs.BOM_UTF16_BE + PEM[:15].decode().encode("utf-16-be"),
        b"correct horse battery staple 123",
        b" " * 32,
        "# Schlüssel für den Bootserv".encode() + b"a\xc3",
        PEM[:16].decode().encode("utf-16-le"),
        PEM[:16].decode().encode("utf-16-be"),
    ],
)
def test_32_bytes_of_text_are_no_seed(data: bytes) -> None:
    assert len(data) == 32
    with pytest.raises(KeyFileError, match="32 bytes of text") as caught:
        import_secret(data, source="x")
    assert "64 hex digits" in (caught.value.remedy or "")
    assert import_secret(data.hex().encode(), source="x").seed == data  # for who means it


@pytest.mark.parametrize(
    "data",
    [
        b"# Schl\xfcssel\n" + PEM[:20],
        base64.b64decode(b"".join(PEM.splitlines()[1:-1])),
        base64.b64decode(b"".join((VECTORS / "openssh").read_bytes().splitlines()[1:-1])),
        b"\x08\x01\x12\x40" + KEY.seed,
        b"\x08\x01\x12\x20" + KEY.public.raw,
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00\x01" + bytes(31),
        b"SQLite format 3\x00\x10\x00\x02\x02\x00\x40\x20\x20" + bytes(8),
    ],
)
def test_32_bytes_that_another_file_begins_with_are_no_seed(data: bytes) -> None:
    """Of a key file that was cut it may even be half a key, and the other half zeros for whoever tries."""
    with pytest.raises(KeyFileError, match="first 32 bytes of another file") as caught:
        import_secret(data[:32], source="x")
    assert "whole" in (caught.value.remedy or "")


@pytest.mark.parametrize("seed", [bytes(32), b"\xff" * 32])
def test_what_a_disk_gives_that_lost_a_key_is_none(seed: bytes) -> None:
    for data in (seed, seed.hex().encode(), b"\x08\x01\x12\x40" + seed + SecretKey(seed).public.raw):
        with pytest.raises(KeyFileError, match="everybody has it"):
            import_secret(data, source="x")


@given(st.binary(min_size=32, max_size=32).filter(lambda seed: max(seed) > 126 and min(seed) < 9))
def test_32_random_bytes_are_a_seed_whatever_they_begin_with(seed: bytes) -> None:
    assert import_secret(seed, source="x").seed == seed


@given(st.sampled_from(sorted(EXPECTED)), st.data())
def test_damaged_files_are_refused_or_read_never_a_traceback(name: str, data: st.DataObject) -> None:
    content = bytearray((VECTORS / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    cut = data.draw(st.integers(0, len(content)))
    content[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(content), bytes(content[:cut])):
        try:
            import_secret(damaged, source=name)
        except KeyFileError as error:
            assert error.remedy  # noqa: PT017 - most damage is found, some only changes a comment


@pytest.mark.parametrize(
    "text",
    [
        f'secret_key = "{KEY.seed.hex()}',
        f'secret_key = "{KEY.seed.hex()}0"',
        f'secret_key = "{KEY.seed.hex()[:-1]}g"',
        f'secret_key = "{KEY.seed.hex()}"\npublic_key = "{KEY.seed.hex()}"',
        f"{KEY.seed.hex()}0",
    ],
)
def test_no_message_shows_a_secret(text: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        import_secret(text.encode(), source="x")
    shown = f"{caught.value.message}{caught.value.remedy}"
    assert KEY.seed.hex()[:16] not in shown
    assert KEY.seed.hex()[-17:-1] not in shown
