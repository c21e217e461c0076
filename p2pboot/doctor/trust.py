"""Does the given trust take what was found, and if not, why: the verdict's own words."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from p2pboot.core.clock import effective_now
from p2pboot.core.manifest import Manifest
from p2pboot.core.trust import Trust
from p2pboot.core.verdict import Verdict
from p2pboot.core.verify import Question, judge
from p2pboot.doctor.findings import Code, Finding, failed, ok, skipped, warning
from p2pboot.doctor.patient import Patient
from p2pboot.errors import P2PBootError
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate

log = logging.getLogger(__name__)

_MAX_FINDINGS: Final = 8
_SUBJECT: Final = "trust"


def judge_all(patient: Patient, manifests: Mapping[str, Manifest]) -> list[Verdict]:
    """Judge what was found as `fetch` or a mirror would, also by what was accepted before; blocking.

    Where that can not be read, without it: what is wrong with the state has a check of its own.
    """
    policy = patient.settings.policy
    try:
        with patient.memory() as store:
            if store is not None:
                gate = Gate(store, Catalogue(store, Trust(policy), patient.wall))
                return [judge(one, gate.question(one.channel, one.arch)) for one in manifests.values()]
    except P2PBootError as error:
        log.debug("judged without memory: %s", error)
    question = Question(policy, effective_now(int(patient.wall()), None))
    return [judge(one, question) for one in manifests.values()]


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
