"""What contradicts itself is kept once, taken down, and a problem while its signers have a say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from p2pboot.core.evidence import judge
from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.timestamps import parse_time
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor, begin, walk
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.root import Root
from p2pboot.node.contradictions import SHOWN_S, contradiction_problems
from p2pboot.store.auditlog import AuditLog
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.evidence import kept_evidence
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate, TrustGate
from tests.core.test_evidence import FIRST, HONEST, OTHER, named
from tests.vectors.manifest.form import Key
from tests.vectors.trust.form import F1, F2, P1, R1, R2, R3, R4, digest, document, freshness, publish

NOW = parse_time("2030-03-02T08:00:00Z")
ROOTS = [FIRST, document(HONEST, R1, R2)]


def trust_by(roots: list[bytes]) -> Trust:
    anchor = Anchor(Root.parse(roots[0]).digest)
    chain = begin(anchor, roots)
    assert chain is not None
    chain, ended_by = walk(chain, roots)
    assert ended_by is None
    return Trust(TrustPolicy.of((), (TrustedRoot(anchor, chain),)))


def gate_of(store: Store, trust: Trust, audit: AuditLog | None = None) -> tuple[TrustGate, Catalogue]:
    catalogue = Catalogue(store, trust, lambda: float(NOW))
    return TrustGate(store, catalogue, audit), catalogue


def test_a_second_root_is_evidence_until_its_signers_have_no_say(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state") as store:
        audit = AuditLog(tmp_path / "audit.log", lambda: NOW)
        gate, catalogue = gate_of(store, trust_by(ROOTS[:1]), audit)
        assert gate.take_roots(ROOTS, source="somebody").fate is Fate.NEWS
        for keys in ((R2, R3), (R1, R2, R3)):  # the same once more, with other signatures
            assert gate.take_roots([document(OTHER, *keys)], source="a liar").fate is Fate.EVIDENCE
        (found,) = kept_evidence(store)
        assert judge(found).culprits == (R2.keyid,)
        lines = [json.loads(one) for one in (tmp_path / "audit.log").read_text().splitlines()]
        (line,) = [one for one in lines if one["event"] == "contradiction"]
        assert (line["kind"], line["source"]) == ("root", "a liar")
        assert line["digests"] == [digest(HONEST), digest(OTHER)]
        (problem,) = contradiction_problems(store.documents, catalogue.trust, NOW)
        assert problem.code == "contradiction"
        assert digest(OTHER) in problem.text
        third = named(3, "fleet", R4, R3)
        assert gate.take_roots([document(third, R1, R2, R3, R4)], source="somebody").fate is Fate.NEWS
        fourth = document(named(4, "fleet", R4, *(key for key in (R3,))), R3, R4)
        assert gate.take_roots([fourth], source="somebody").fate is Fate.NEWS
        (problem,) = contradiction_problems(store.documents, catalogue.trust, NOW)  # R3 signed one of them
        fifth = named(5, "fleet", R4, F1)
        fifth["roles"]["publish"] = []
        assert gate.take_roots([document(fifth, R3, R4, F1)], source="somebody").fate is Fate.NEWS
        assert Root.parse(document(fifth, R3, R4, F1)).body.root.keys == tuple(sorted((R4.keyid, F1.keyid)))
        assert contradiction_problems(store.documents, catalogue.trust, NOW) == []


def statement(key: Key, **changes: int | str) -> bytes:
    return document(freshness(key, fleet=Root.parse(FIRST).digest, **changes), key)


def test_statements_that_contradict_each_other_are_a_problem_for_a_week(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state") as store:
        gate, catalogue = gate_of(store, trust_by(ROOTS))
        gate.take_roots(ROOTS, source="somebody")
        known = statement(F1)
        store.documents.put_statement(Freshness.parse(known))
        assert gate.take_freshness(statement(F1, minimum=3), source="a liar").fate is Fate.EVIDENCE
        assert store.documents.statement(Root.parse(FIRST).digest, "stable", "x86_64") == known
        (found,) = kept_evidence(store)
        assert judge(found).culprits == (F1.keyid,)
        (problem,) = contradiction_problems(store.documents, catalogue.trust, NOW)
        assert (problem.subject, F1.keyid in problem.text) == ("stable/x86_64", True)
        (row,) = store.documents.evidence()
        assert contradiction_problems(store.documents, catalogue.trust, row.found_at + SHOWN_S + 1) == []
        other_rule = publish(P1, freshness={"keys": [F2.keyid]})
        third = named(3, "fleet", R1, R2, R3, R4)
        third["roles"]["publish"] = [other_rule]
        trust = trust_by([*ROOTS, document(third, R1, R2)])
        assert contradiction_problems(store.documents, replace(trust), NOW) == []


def test_a_root_that_nobody_has_seen_excuses_no_lower_minimum(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state") as store:
        gate, _ = gate_of(store, trust_by(ROOTS))
        gate.take_roots(ROOTS, source="somebody")
        known = statement(F1)
        store.documents.put_statement(Freshness.parse(known))
        later = {"minimum": 0, "root_version": 3}
        judged = gate.take_freshness(
            statement(F1, created_at="2026-03-02T07:59:00Z", **later), source="a thief"
        )
        assert (judged.fate, judged.why) == (Fate.EARLY, "root version 3 is not known here")
        assert store.documents.statement(Root.parse(FIRST).digest, "stable", "x86_64") == known
        assert kept_evidence(store) == []  # it may be right
