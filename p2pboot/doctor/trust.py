"""Does the given trust take what was found, and if not, why: the verdict's own words."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from p2pboot.core.clock import effective_now
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Policy
from p2pboot.core.trust import Trust
from p2pboot.core.verdict import Verdict
from p2pboot.core.verify import Question, judge
from p2pboot.doctor.findings import Code, Finding, failed, ok, skipped, warning
from p2pboot.doctor.patient import Patient
from p2pboot.errors import P2PBootError
from p2pboot.fetch.asking.survey import Survey
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate

log = logging.getLogger(__name__)

_MAX_FINDINGS: Final = 8
_SUBJECT: Final = "trust"


def known_policy(patient: Patient) -> Policy:
    """Whom to believe, by the newest roots that the state remembers; blocking."""
    policy = patient.settings.policy
    if policy.roots:
        try:
            with patient.memory() as store:
                if store is not None:
                    return Catalogue(store, Trust(policy), patient.wall).trust.configured
        except P2PBootError as error:
            log.debug("asked without memory: %s", error)
    return policy


def policy_of(patient: Patient, survey: Survey) -> Policy:
    """Whom to believe, by the newest roots that peers have shown."""
    return patient.settings.policy if survey.hearing is None else survey.hearing.policy


def judge_all(patient: Patient, survey: Survey) -> list[Verdict]:
    """Judge what was found as `fetch` or a mirror would, also by what was accepted before; blocking.

    Where that can not be read, without it: what is wrong with the state has a check of its own.
    """
    manifests = survey.manifests.values()
    try:
        with patient.memory() as store:
            if store is not None:
                gate = Gate(store, Catalogue(store, Trust(patient.settings.policy), patient.wall))
                return _judged(manifests, [gate.question(one.channel, one.arch) for one in manifests], survey)
    except P2PBootError as error:
        log.debug("judged without memory: %s", error)
    policy, clock = policy_of(patient, survey), effective_now(int(patient.wall()), None)
    return _judged(
        manifests, [Question(policy, clock, (), one.channel, one.arch) for one in manifests], survey
    )


def _judged(manifests: Iterable[Manifest], questions: Iterable[Question], survey: Survey) -> list[Verdict]:
    if survey.hearing is not None:
        questions = map(survey.hearing.question, questions)
    pairs = zip(manifests, questions, strict=True)
    return [judge(one, question) for one, question in pairs if question.policy.publishers]


def judge_trust(verdicts: list[Verdict], *, is_given: bool) -> list[Finding]:
    """What the trust makes of all that was found.

    Args:
        verdicts: on each manifest.
        is_given: whether anybody is trusted at all.
    """
    if not is_given:
        text = "nobody is trusted, so nothing was judged"
        return [skipped(Code.NO_TRUST, _SUBJECT, text, "name the publisher's key id: --trust KEYID")]
    if not verdicts:
        return [skipped(Code.NOTHING_TO_JUDGE, _SUBJECT, "no manifest was found")]
    found = [_judge(verdict, any(one.ok for one in verdicts)) for verdict in verdicts]
    found.sort(key=lambda finding: finding.state.value != "ok")
    return found[:_MAX_FINDINGS]


def judge_roots(survey: Survey) -> list[Finding]:
    """Two roots of one version, of those that were known or shown: who remembers neither of them stops there.

    Args:
        survey: of those who were asked.
    """
    if survey.hearing is None:
        return []
    roots = survey.hearing.roots
    found = [(failed, one) for one in (roots.undecided,) if one is not None]
    found += [(warning, one) for one in roots.contradictions]  # the first of them counts here
    return [
        said(Code.TWO_ROOTS, one.source, f"it shows the second of {one.error.message}", one.error.remedy)
        for said, one in found[:_MAX_FINDINGS]
    ]


def _judge(verdict: Verdict, is_well: bool) -> Finding:
    manifest = verdict.manifest
    subject = "a manifest"
    if manifest is not None:
        subject = f"{manifest.channel}/{manifest.arch} manifest version {manifest.manifest_version}"
        subject += f" sha256:{manifest.digest}"
    wrong = verdict.failed
    if wrong is None:
        return ok(Code.TRUST, subject, "this trust takes it")
    said = warning if is_well else failed
    return said(Code.MANIFEST_REFUSED, subject, f"refused ({verdict.reason}): {wrong.detail}", wrong.remedy)
