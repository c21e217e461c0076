"""Every vector of the trust documents is judged as its index says, and is what its script makes."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import VerifyKey

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, Rollout, content_digest
from p2pboot.core.rollouts import fraction_of, place_of
from p2pboot.core.timestamps import parse_time
from p2pboot.core.trustdocs.chain import Anchor, begin, walk
from p2pboot.core.trustdocs.envelope import Document, add_signature, only_signatures_of, with_signatures
from p2pboot.core.trustdocs.freshness import Freshness, FreshnessBody
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import FreshnessRule, PublishRole, Role, RootBody
from p2pboot.core.trustdocs.rootreader import decode_root
from p2pboot.core.trustdocs.yank import Yank, YankBody
from p2pboot.errors import Malformed, P2PBootError, SignatureError
from tests.vectors.trust import form, make

HERE = Path(make.__file__).parent
INDEX = json.loads((HERE / "index.json").read_bytes())
GOOD, BAD = INDEX["good"], INDEX["bad"]
READERS: dict[str, Callable[[bytes], Document | Manifest]] = {
    "root": Root.parse,
    "freshness": Freshness.parse,
    "yank": Yank.parse,
    "manifest": Manifest.parse,
}
REASONS: dict[str, type[P2PBootError]] = {"malformed": Malformed, "signature": SignatureError}
KEYS = {facts["keyid"]: SecretKey(bytes.fromhex(facts["seed"])) for facts in INDEX["keys"].values()}
DOCUMENTS = [name for name, facts in GOOD.items() if facts["kind"] != "manifest"]


def read(name: str) -> bytes:
    return (HERE / f"good/{name}.json").read_bytes()


def test_the_files_are_what_the_script_makes() -> None:
    made = make.files()
    there = {str(path.relative_to(HERE)): path.read_bytes() for path in HERE.glob("*/*.json")}
    there["index.json"] = (HERE / "index.json").read_bytes()
    assert sorted(there) == sorted(made)
    assert [name for name in made if made[name] != there[name]] == []


@pytest.mark.parametrize("name", GOOD)
def test_a_good_document_is_taken_with_the_expected_identity(name: str) -> None:
    raw = read(name)
    found = READERS[GOOD[name]["kind"]](raw)
    assert found.raw == raw
    assert found.digest == GOOD[name]["digest"]
    assert len(raw) == GOOD[name]["size"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_signed_is_the_spec_and_the_rest_of_the_document(name: str) -> None:
    """Again with nothing but json, hashlib and nacl."""
    document = json.loads(read(name))
    signatures = document.pop("signatures")
    body = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    assert hashlib.sha256(body).hexdigest() == GOOD[name]["digest"]
    for one in signatures:
        key = VerifyKey(bytes.fromhex(one["keyid"].removeprefix("ed25519:")))
        key.verify(document["spec"].encode() + b"\0" + body, base64.b64decode(one["sig"]))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_document_is_refused_for_its_reason(name: str) -> None:
    expected = BAD[name]
    with pytest.raises(REASONS[expected["reason"]]) as caught:
        READERS[expected["kind"]]((HERE / f"bad/{name}.json").read_bytes())
    assert expected["says"] in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_roots_are_written_as_the_vectors() -> None:
    rule = FreshnessRule(tuple(sorted((form.F1.keyid, form.F2.keyid))), required=True)
    keys = tuple(sorted(key.keyid for key in (form.P1, form.P2, form.P3)))
    body = RootBody(
        name="example fleet",
        version=1,
        created_at=parse_time("2026-01-01T00:00:00Z"),
        expires_at=parse_time("2027-01-01T00:00:00Z"),
        root=Role(tuple(sorted(key.keyid for key in (form.R1, form.R2, form.R3))), 2),
        publish=(PublishRole(keys, 2, ("stable",), ("arm64", "x86_64"), rule),),
        snapshots=Role((form.S1.keyid,)),
    )
    raw = body.document()
    assert decode_root(raw).digest == INDEX["fleet"]
    for key in (form.R3, form.R1):
        raw = add_signature(raw, KEYS[key.keyid])
    assert raw == read("root-1")
    for name in ("root-1", "root-2"):
        found = Root.parse(read(name))
        assert only_signatures_of(found.raw, ()) == found.body.document()


@pytest.mark.parametrize("name", ["freshness", "freshness-paused", "freshness-without-root", "yank"])
def test_statements_and_yanks_are_written_as_the_vectors(name: str) -> None:
    found = (Freshness if GOOD[name]["kind"] == "freshness" else Yank).parse(read(name))
    body: FreshnessBody | YankBody = found.body
    raw = body.document()
    for keyid in reversed(found.signed_by):
        raw = add_signature(raw, KEYS[keyid])
    assert raw == found.raw


def test_two_sets_of_signatures_are_one_root() -> None:
    some, others = Root.parse(read("root-1")), Root.parse(read("root-1-others"))
    assert some.digest == others.digest
    assert some != others
    assert with_signatures(some.raw, [others.raw]) == others.raw
    assert only_signatures_of(others.raw, some.signed_by) == some.raw


def test_the_chain_is_walked_from_either_version() -> None:
    documents = [read("root-1"), read("root-2")]
    for anchor in (Root.parse(raw) for raw in documents):
        chain = begin(Anchor(anchor.digest), documents)
        assert chain is not None
        chain, ended_by = walk(chain, documents)
        assert ended_by is None
        assert (chain.newest.version, chain.fleet) == (2, INDEX["fleet"])


@pytest.mark.parametrize("name", INDEX["content"])
def test_content_is_what_the_vector_says(name: str) -> None:
    assert content_digest(Manifest.parse(read(name))) == INDEX["content"][name]


def test_a_roll_out_and_what_is_published_of_it_are_one_content() -> None:
    assert INDEX["content"]["rollout"] == INDEX["content"]["into"] != INDEX["content"]["before"]


def rollout() -> Rollout:
    found = Manifest.parse(read("rollout")).rollout
    assert found is not None
    return found


def test_the_roll_out_says_what_the_vector_says() -> None:
    found = rollout()
    assert found.over == INDEX["content"]["before"]
    assert (found.into, found.percent, found.duration_s, found.salt) == ("stable", 80, 86_400, "2026.03.02-é")
    assert found.members() == json.loads(read("rollout"))["rollout"]


@pytest.mark.parametrize("facts", INDEX["places"], ids=str)
def test_a_machines_place_is_the_vector(facts: dict[str, Any]) -> None:
    place = place_of(facts["salt"], facts["machine"])
    assert place == int(facts["first_bytes"], 16) / 2**64
    assert 0 <= place < 1


@pytest.mark.parametrize("facts", INDEX["fractions"], ids=str)
def test_a_fraction_is_the_vector(facts: dict[str, int]) -> None:
    found = rollout()
    assert fraction_of(found, found.start + facts["after_s"]) == pytest.approx(facts["mille"] / 1000)
