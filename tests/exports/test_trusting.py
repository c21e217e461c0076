"""What decides about a release is carried with it, and judged as from any stranger."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor, begin, walk
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import Floor, FreshnessRule, PublishRole
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.core.verdict import Refused
from p2pboot.errors import Malformed, UsageError
from p2pboot.exports import trusting
from p2pboot.exports.layout import MAX_DOCUMENTS, Description, decode
from p2pboot.exports.source import open_path
from p2pboot.exports.taking import Taken, Taking
from p2pboot.exports.trusting import trust_documents
from p2pboot.exports.writing import Release, write_archive, write_directory
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.testing.manifests import NOW, key_of, signed_manifest
from p2pboot.testing.stores import offer
from p2pboot.testing.trustdocs import (
    FRESH,
    chain_of,
    next_root,
    root_body,
    signed_root,
    statement_of,
    yank_of,
)
from tests.exports.conftest import EVERYTHING, FILES, held_by, silent

KEY = key_of("publisher")
MANIFEST = signed_manifest(FILES, [KEY], manifest_version=7)
OLDER = signed_manifest({**FILES, "kernel": b"older"}, [KEY], manifest_version=6)
STRICT = PublishRole(
    (KEY.public.keyid,),
    channels=("stable",),
    archs=("x86_64",),
    freshness=FreshnessRule((FRESH.public.keyid,), required=True),
)
ROOTS = chain_of(3, root_body(publish=(STRICT,)))


def keep(store: Store, roots: Sequence[Root], *documents: Freshness | Yank) -> None:
    anchor = Anchor(roots[0].digest)
    raw = [one.raw for one in roots]
    chain = begin(anchor, raw)
    assert chain is not None
    store.documents.put_chain(anchor, walk(chain, raw)[0])
    for one in documents:
        store.documents.put_yank(one) if isinstance(one, Yank) else store.documents.put_statement(one)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "held") as store:
        offer(store, MANIFEST, FILES)
        keep(store, ROOTS, statement_of(MANIFEST, ROOTS[-1]), yank_of(OLDER, ROOTS[0]))
        yield store


def written(held: Store, path: Path, trust: dict[str, bytes] | None = None) -> Path:
    documents = trust_documents(held, MANIFEST) if trust is None else trust
    write = write_archive if path.suffix else write_directory
    write(Release(MANIFEST, None, held.blobs, documents), path, silent)
    return path


def take(path: Path, store: Store, *roots: Anchor, asked: TrustPolicy | None = None, now: int = NOW) -> Taken:
    trusted = TrustPolicy.of((), map(TrustedRoot, roots or (Anchor(ROOTS[0].digest),)))
    catalogue = Catalogue(store, Trust(trusted), lambda: now)
    source = open_path(path)
    try:
        taking = Taking(source, store, Gate(store, catalogue))
        return taking.take(asked, max_artifact_bytes=EVERYTHING)
    finally:
        source.close()


def array(*documents: bytes) -> bytes:
    return json.dumps([b64encode(one).decode() for one in documents]).encode()


@pytest.mark.parametrize("medium", ["stick", "stick.tar"])
@pytest.mark.parametrize("version", [1, 3])
def test_a_state_that_knows_a_digest_gets_all_of_it(
    held: Store, other: Store, tmp_path: Path, medium: str, version: int
) -> None:
    """Nothing would be taken without the statement: the root requires one."""
    taken = take(written(held, tmp_path / medium), other, Anchor(ROOTS[version - 1].digest))
    assert held_by(other, MANIFEST)
    assert other.documents.roots(ROOTS[0].digest) == [one.raw for one in ROOTS]
    assert other.documents.statements() == [statement_of(MANIFEST, ROOTS[-1]).raw]
    assert other.documents.all_yanks() == [yank_of(OLDER, ROOTS[0]).raw]
    assert taken.to_json()["documents"] == {
        "roots": {"news": 1},
        "freshness": {"news": 1},
        "yanks": {"news": 1},
    }


def test_without_the_statement_that_is_required_it_is_refused(
    held: Store, other: Store, tmp_path: Path
) -> None:
    documents = {
        name: raw for name, raw in trust_documents(held, MANIFEST).items() if "freshness" not in name
    }
    with pytest.raises(Refused, match="one is required"):
        take(written(held, tmp_path / "stick", documents), other)
    assert not held_by(other, MANIFEST)
    assert len(other.documents.roots(ROOTS[0].digest)) == len(
        ROOTS
    )  # they count, whatever becomes of the release


def test_a_root_that_nobody_has_is_named(held: Store, other: Store, tmp_path: Path) -> None:
    digest = "ab" * 32
    with pytest.raises(UsageError, match=f"sha256:{digest} is neither known here nor in"):
        take(written(held, tmp_path / "stick"), other, Anchor(digest))


def test_an_old_export_is_refused_by_the_age_of_its_statement(
    held: Store, other: Store, tmp_path: Path
) -> None:
    stick = written(held, tmp_path / "stick")
    with pytest.raises(Refused, match="at most"):
        take(stick, other, now=NOW + 8 * 86_400)


def test_what_was_yanked_is_refused_with_the_reason(held: Store, other: Store, tmp_path: Path) -> None:
    held.documents.put_yank(yank_of(MANIFEST, ROOTS[0], reason="eats file systems"))
    with pytest.raises(Refused, match="eats file systems"):
        take(written(held, tmp_path / "stick"), other)
    assert not held_by(other, MANIFEST)
    assert len(other.documents.all_yanks()) == 2


def test_what_is_below_a_floor_is_refused(held: Store, other: Store, tmp_path: Path) -> None:
    floored = next_root(ROOTS[-1], floors=(Floor("stable", "x86_64", 8),))
    keep(held, [*ROOTS, floored])
    with pytest.raises(Refused) as caught:
        take(written(held, tmp_path / "stick"), other)
    assert caught.value.verdict.reason == "floor"


def test_a_courier_brings_a_newer_statement_alone(held: Store, other: Store, tmp_path: Path) -> None:
    stick = written(held, tmp_path / "stick")
    take(stick, other)
    newer = statement_of(MANIFEST, ROOTS[-1], created_at=NOW)
    held.documents.put_statement(newer)
    written(held, stick)
    for name in ("kernel", "initramfs", "rootfs"):
        (stick / name).unlink()
    taken = take(stick, other)
    assert (taken.unchanged, taken.read_bytes) == (True, 0)
    assert taken.documents["freshness"] == {"news": 1}
    assert other.documents.statements() == [newer.raw]


def test_roots_and_statements_of_others_are_passed_over(held: Store, other: Store, tmp_path: Path) -> None:
    """A state that names keys takes the release, and nothing else that is with it."""
    foreign = chain_of(2, root_body(name="another fleet"))
    documents = {
        "_export/roots-0.json": array(*(one.raw for one in (*foreign, *ROOTS))),
        "_export/freshness-0.json": array(
            statement_of(MANIFEST, foreign[0]).raw, statement_of(MANIFEST, ROOTS[-1]).raw
        ),
    }
    taken = take(written(held, tmp_path / "stick", documents), other)
    assert taken.documents["roots"] == {"untrusted": 1, "news": 1}
    assert taken.documents["freshness"] == {"untrusted": 1, "news": 1}
    assert other.documents.root() == [ROOTS[-1].raw]


FORGED = signed_root(root_body(version=4, fleet=ROOTS[0].digest), [key_of("a thief"), key_of("another")])
HOSTILE: dict[str, dict[str, Any]] = {
    "no array": {"roots": b"{}"},
    "no base64": {"roots": b'["?"]'},
    "no root": {"roots": array(b"{}")},
    "a forged root": {"roots": array(*(one.raw for one in ROOTS), FORGED.raw)},
    "a large document": {"yanks": array(b"x" * 70_000)},
    "no yank": {"yanks": array(MANIFEST.raw)},
    "a yank that was changed": {"yanks": array(yank_of(OLDER, ROOTS[0]).raw.replace(b"does", b"dose"))},
    "no statement": {"freshness": array(b"null")},
    "a statement that was changed": {
        "freshness": array(statement_of(MANIFEST, ROOTS[-1]).raw.replace(b'"minimum":7', b'"minimum":1'))
    },
    "deep": {"freshness": b"[" * 100_000},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_export_with_what_no_honest_node_passes_on_is_refused(
    held: Store, other: Store, tmp_path: Path, name: str
) -> None:
    documents = trust_documents(held, MANIFEST)
    documents |= {f"_export/{kind}-0.json": raw for kind, raw in HOSTILE[name].items()}
    with pytest.raises((Malformed, Refused, UsageError)) as caught:
        take(written(held, tmp_path / "stick", documents), other)
    assert caught.value.message.isprintable()
    assert not held_by(other, MANIFEST)
    assert other.manifests.all() == []


def test_a_root_that_is_asked_for_must_name_the_signers(held: Store, other: Store, tmp_path: Path) -> None:
    stick = written(held, tmp_path / "stick")
    for anchor in (Anchor("ab" * 32), Anchor.of_root(signed_root(root_body(name="another", publish=())))):
        with pytest.raises(UsageError, match="--root"):
            take(stick, other, asked=TrustPolicy.of((), (TrustedRoot(anchor),)))
    for anchor in (Anchor(ROOTS[1].digest), Anchor.of_root(ROOTS[0])):
        take(stick, other, asked=TrustPolicy.of((), (TrustedRoot(anchor),)))


def test_older_readers_pass_over_it_and_of_a_long_chain_the_last_are_carried(
    held: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description: Description = decode(
        (written(held, tmp_path / "stick") / "_export/export.json").read_bytes()
    )
    assert description.format == 1
    assert len(description.documents) <= MAX_DOCUMENTS
    monkeypatch.setattr(trusting, "MAX_FILE", 2 * len(b64encode(ROOTS[0].raw)))
    monkeypatch.setattr(trusting, "_MOST_FILES", {**trusting._MOST_FILES, "roots": 2})
    documents = trust_documents(held, MANIFEST)
    assert [json.loads(documents[f"_export/roots-{index}.json"]) for index in (0, 1)] == [
        [b64encode(one.raw).decode()] for one in ROOTS[1:]
    ]


def test_what_is_of_other_releases_stays_at_home(held: Store) -> None:
    beta = signed_manifest(FILES, [KEY], channel="beta")
    held.documents.put_statement(statement_of(beta, ROOTS[-1]))
    held.documents.put_yank(yank_of(beta, ROOTS[-1]))
    keep(held, chain_of(1, root_body(name="another fleet", publish=())))
    documents = trust_documents(held, MANIFEST)
    assert {name: len(json.loads(raw)) for name, raw in documents.items()} == {
        "_export/roots-0.json": 3,
        "_export/freshness-0.json": 1,
        "_export/yanks-0.json": 1,
    }
    stranger = signed_manifest(FILES, [key_of("stranger")])
    assert trust_documents(held, Manifest.parse(stranger.raw)) == {}
