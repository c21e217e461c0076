"""The values in `docs/protocol.md`, part one, are those that the code computes and the vector files hold."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from blake3 import blake3

from p2pboot.core import devicetrees, jsonform, pieces
from p2pboot.core.identity import PublicKey, SecretKey
from p2pboot.core.manifest import MAX_MANIFEST, Manifest, check_detached, fields
from p2pboot.core.manifest.detached import MAX_DETACHED_CHARS
from p2pboot.core.rollouts import place_of
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.core.verify import CHECKS, MAX_AHEAD_S
from tests.vectors.manifest import form

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
GOOD = ROOT / "tests" / "vectors" / "manifest" / "good"
TRUST = ROOT / "tests" / "vectors" / "trust" / "good"
MINIMAL = Manifest.parse((GOOD / "minimal.json").read_bytes())


def block(name: str) -> str:
    found = re.search(rf"<!-- vector: {name} -->\n```\w+\n(.*?)\n```", PAGE, re.DOTALL)
    assert found, f"no vector {name} in docs/protocol.md"
    return found[1]


def values(name: str) -> dict[str, str]:
    """Label → value; a line that begins with blanks continues the one before."""
    found: dict[str, str] = {}
    label = ""
    for line in block(name).splitlines():
        label = line[:14].strip() or label
        found[label] = found.get(label, "") + line[14:]
    return found


def test_identity_vector() -> None:
    stated = values("identity")
    key = SecretKey(bytes.fromhex(stated["seed"]))
    assert stated["public key"] == key.public.hex
    assert stated["key id"] == key.public.keyid
    assert stated["protobuf"] == "08011220" + key.public.hex
    assert stated["multihash"] == "0024" + stated["protobuf"]
    assert stated["peer id"] == key.public.peer_id
    assert PublicKey.from_peer_id(stated["peer id"]) == key.public


def test_piece_vector() -> None:
    stated = values("pieces")
    content = bytes((i + 6) % 251 for i in range(200_000))
    kernel = MINIMAL.artifacts["kernel"]
    digests = [bytes.fromhex(stated[f"piece {index}"]) for index in range(4)]
    table = pieces.PieceTable(len(content), 65_536, b"".join(digests))
    for index in range(4):
        offset, length = table.span(index)
        assert table.matches(index, content[offset : offset + length])
    assert stated["first bytes"] == content[:16].hex()
    assert stated["sha256"] == hashlib.sha256(content).hexdigest() == kernel.sha256
    assert stated["table"] == blake3(table.raw).hexdigest() == kernel.table_digest == table.digest
    assert stated["cid bytes"] == "01551220" + kernel.sha256
    assert stated["cid"] == kernel.cid


def test_archive_vector() -> None:
    stated = values("archive")
    trees = {"board.dtb": b"a", "overlays/i2c.dtbo": b"b" * 512, "qcom/sm8250-mtp.dtb": b"c" * 513}
    members = devicetrees.layout((name, len(content)) for name, content in trees.items())
    parts = [devicetrees.header(one) + trees[one.name] + devicetrees.padding(one.size) for one in members]
    raw = b"".join(parts) + devicetrees.end()
    assert (str(len(raw)), hashlib.sha256(raw).hexdigest()) == (stated["size"], stated["sha256"])
    block = devicetrees.header(members[1])
    assert block == b"".join(
        (
            bytes.fromhex(stated["name"]).ljust(100, b"\0"),
            bytes.fromhex(stated["mode and on"]).ljust(157, b"\0"),
            bytes.fromhex(stated["magic"]).ljust(72, b"\0"),
            bytes.fromhex(stated["devices"]).ljust(183, b"\0"),
        )
    )


def test_manifest_vector() -> None:
    stated = values("manifest")
    assert json.loads(block("body")) == json.loads(MINIMAL.data)
    assert stated["data"] == f"{len(MINIMAL.data)} bytes"
    assert MINIMAL.data.startswith(stated["data begins"].encode())
    assert MINIMAL.data.endswith(stated["data ends"].encode())
    assert stated["digest"] == MINIMAL.digest == hashlib.sha256(MINIMAL.data).hexdigest()
    signature = bytes.fromhex(stated["signature"])
    signer = PublicKey.from_keyid(MINIMAL.signers[0])
    assert signer.keyid == values("identity")["key id"]
    assert signer.verify(bytes.fromhex(stated["digest"]), signature)
    assert base64.b64decode(stated["base64"]) == signature
    assert json.loads(MINIMAL.raw)["signatures"] == [{"keyid": signer.keyid, "sig": stated["base64"]}]
    assert stated["document"] == f"{len(MINIMAL.raw)} bytes"
    assert stated["sha256"] == hashlib.sha256(MINIMAL.raw).hexdigest()
    assert stated["detached"] == (GOOD / "minimal.json.sig").read_text().strip()
    assert check_detached(MINIMAL.raw, stated["detached"], MINIMAL.signers) == signer.keyid


def test_yank_vector() -> None:
    stated = values("yank")
    yank = Yank.parse((TRUST / "yank.json").read_bytes())
    members = json.loads(yank.raw)
    entry = members.pop("signatures")[0]
    signed = b"p2pboot-yank/1\0" + jsonform.canonical(members)
    assert signed.startswith(bytes.fromhex(stated["signed begins"]))
    assert stated["digest"] == yank.digest
    assert bytes.fromhex(stated["signature"]) == base64.b64decode(entry["sig"])
    assert PublicKey.from_keyid(entry["keyid"]).verify(signed, bytes.fromhex(stated["signature"]))
    assert stated["document"] == f"{len(yank.raw)} bytes"


def test_place_vector() -> None:
    digest = hashlib.sha256(b"p2pboot-place/1\x002026.03.03\0x").digest()
    assert values("place")["first bytes"] == digest[:8].hex()
    assert place_of("2026.03.03", "x") == int.from_bytes(digest[:8], "big") / 2**64


@pytest.mark.parametrize(("name", "member"), [("dtbs", "dtbs"), ("dtbs-archive", "dtbs.tar")])
def test_device_tree_vectors(name: str, member: str) -> None:
    manifest = Manifest.parse((GOOD / f"{name}.json").read_bytes())
    assert json.loads(block(name)) == {member: json.loads(manifest.data)["artifacts"][member]}
    for key in {key for key in manifest.artifacts if key.startswith("dtbs/")}:
        assert f"`{key}`" in PAGE
        assert f"`{key}.dtb`" in PAGE


@pytest.mark.parametrize(
    ("row", "limit"),
    [
        ("manifest", f"{MAX_MANIFEST:,} bytes"),
        ("nesting", f"{jsonform.MAX_DEPTH} levels"),
        ("signers", f"{fields.MAX_SIGNERS}"),
        ("`version`, `provider.peer_id`", f"{fields.MAX_VERSION_BYTES} bytes"),
        ("`version`, `provider.peer_id`", f"{fields.MAX_PEER_ID_BYTES} bytes"),
        ("`provider.name`", f"{fields.MAX_NAME_BYTES} bytes"),
        ("`cmdline`", f"{fields.MAX_CMDLINE_BYTES:,} bytes"),
        ("`urls`", f"{fields.MAX_URLS} of {fields.MAX_URL_BYTES:,} bytes"),
        ("pieces", f"{pieces.MAX_PIECES:,} of 64 KiB to 16 MiB"),
        ("`manifest.json.sig`", f"{MAX_DETACHED_CHARS} characters"),
    ],
)
def test_limits_are_those_of_the_code(row: str, limit: str) -> None:
    limits = PAGE[PAGE.index("## 6. Limits") :]
    assert f"| {row} | {limit} |" in limits


def test_the_checks_are_listed_in_their_order() -> None:
    table = PAGE[PAGE.index("| check | reason") : PAGE.index("The reason of a refusal")].strip()
    listed: dict[str, str | None] = {}
    for line in table.splitlines()[2:]:
        names, reasons = (re.findall(r"`(\w+)`", cell) for cell in line.split("|")[1:3])
        listed |= dict(zip(names, reasons or [None] * len(names), strict=True))
    assert list(listed.items()) == list(CHECKS.items())
    assert f"{MAX_AHEAD_S} seconds ahead" in table


def test_the_largest_manifest_is_one_byte_below_the_limit() -> None:
    """Sizes leave 0, 1 or 6 modulo 7, as the page says: of all sizes around the limit only these exist."""
    base = form.small()
    sizes = {len(form.manifest(base | {"p": "x" * padding}, form.A)) for padding in range(100, 140)}
    assert {size % 7 for size in sizes} == {0, 1, 6}
    assert max(size for size in range(MAX_MANIFEST + 1) if size % 7 in {0, 1, 6}) == 65_535
