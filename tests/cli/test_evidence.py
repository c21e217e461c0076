"""`p2pboot evidence`: listed, exported, and verified by somebody who knows nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pboot.core.trustdocs.chain import Anchor, begin, walk
from p2pboot.core.trustdocs.root import Root
from p2pboot.store.store import Store
from p2pboot.store.trustdocs import EvidenceRow
from p2pboot.testing.manifests import ALICE
from p2pboot.testing.stores import offer
from tests.cli.conftest import Cli
from tests.cli.test_store import version
from tests.core.test_evidence import FIRST, HONEST, OTHER
from tests.vectors.trust.form import R1, R2, R3, document

FLEET = Root.parse(FIRST)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "state") as store:
        offer(store, *version(1))
        store.trust.record_equivocation(version(2)[0].raw, version(2, rootfs=b"other")[0].raw)
        honest, other = (Root.parse(document(body, R2, key)) for body, key in ((HONEST, R1), (OTHER, R3)))
        anchor = Anchor(FLEET.digest)
        chain = begin(anchor, [FIRST])
        assert chain is not None
        store.documents.put_chain(anchor, walk(chain, [honest.raw])[0])
        row = EvidenceRow.of(
            "root", FLEET.digest, honest, other, source="12D3KooWsomebody", found_at=1_800_000_000
        )
        assert store.documents.record_evidence(row)
        again = Root.parse(document(OTHER, R1, R2, R3))  # the same with other signatures is no news
        assert not store.documents.record_evidence(
            EvidenceRow.of("root", FLEET.digest, honest, again, source="", found_at=0)
        )
    return tmp_path / "state"


def test_evidence_is_listed_and_proven_elsewhere(cli: Cli, state: Path, tmp_path: Path) -> None:
    listed = cli("evidence", "list", "--state", state, "--json").document["evidence"]
    assert [(one["kind"], one["ok"], one["culprits"]) for one in listed] == [
        ("manifest", True, [ALICE.public.keyid]),
        ("root", True, [R2.keyid]),
    ]
    path = tmp_path / "evidence.json"
    assert cli("evidence", "export", "--state", state, "--out", path).status == 0
    verified = cli("evidence", "verify", path)
    assert verified.status == 0
    assert f"proves     {R2.keyid} signed both" in verified.stdout
    assert f"given      that root version 1 is sha256:{FLEET.digest}" in verified.stdout
    assert cli("evidence", "verify", path, "--json").document["evidence"] == listed


def test_one_is_exported_by_its_id(cli: Cli, state: Path, tmp_path: Path) -> None:
    wanted = cli("evidence", "list", "--state", state, "--json").document["evidence"][1]["id"]
    done = cli("evidence", "export", wanted, "--state", state, "--out", "-")
    assert [one["kind"] for one in json.loads(done.stdout)["evidence"]] == ["root"]
    assert cli("evidence", "export", "0" * 16, "--state", state, "--out", tmp_path / "x").status == 3
    assert not (tmp_path / "x").exists()


def test_what_proves_nothing_is_said_to_and_is_status_1(cli: Cli, state: Path, tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    cli("evidence", "export", "--state", state, "--out", path)
    document = json.loads(path.read_bytes())
    document["evidence"][1] |= {"second": document["evidence"][1]["first"]}
    path.write_text(json.dumps(document))
    done = cli("evidence", "verify", path)
    assert done.status == 1
    assert "it is one root twice" in done.error_line
    assert "NOT PROVEN" in done.stdout
    assert f"proves     {ALICE.public.keyid} signed both" in done.stdout
    document = cli("evidence", "verify", path, "--json").document
    assert [one["ok"] for one in document["evidence"]] == [True, False]
    for garbage in (b"", b"\xff", b"{}", b"[" * 100_000):
        path.write_bytes(garbage)
        refused = cli("evidence", "verify", path)
        assert refused.status == 1
        assert "is no evidence" in refused.error_line


def test_a_state_without_contradictions_says_so(cli: Cli, tmp_path: Path) -> None:
    with Store.open(tmp_path / "state"):
        pass
    assert "nothing contradicts itself" in cli("evidence", "list", "--state", tmp_path / "state").stdout
    assert cli("evidence", "export", "--state", tmp_path / "state", "--out", tmp_path / "x").status == 3
