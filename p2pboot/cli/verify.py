"""`p2pboot manifest verify`: may this manifest be used? Every check with its outcome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.files import STANDARD_INPUT, detached_path, naming, read_start
from p2pboot.cli.options import (
    FILE,
    Command,
    config_option,
    json_option,
    max_lifetime_option,
    min_version_option,
    staleness_options,
    trust_options,
)
from p2pboot.cli.output import emit_json, say, warn
from p2pboot.cli.settings import overrides_of, setting_options, take_pair
from p2pboot.core.dataclass import dataclass

if TYPE_CHECKING:
    from p2pboot.core.policy import TrustPolicy
    from p2pboot.core.trustdocs.freshness import Freshness
    from p2pboot.core.verify import Question, Verdict

_FRESHNESS = "freshness.json"
_MAX_DETACHED = 4096  # bytes read of a .sig file; the check itself takes less

_AGAIN = "get it again, unchanged, from whoever signed it"
_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "-", "noted": "note"}


@click.command(cls=Command)
@click.argument("file", type=FILE)
@trust_options
@max_lifetime_option
@setting_options("provider.channel", "provider.arch")
@min_version_option
@click.option(
    "--freshness-file",
    "freshness_path",
    type=FILE,
    metavar="FILE",
    help="Freshness statement to go by.  [default: freshness.json beside FILE, if it is there]",
)
@click.option(
    "--yank",
    "yank_paths",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="Yank to go by; repeatable.",
)
@staleness_options
@click.option(
    "--state",
    "state_path",
    type=FILE,
    metavar="DIR",
    help="Remember accepted manifests there, and refuse older or contradicting ones.",
)
@config_option
@json_option
def verify(
    *,
    file: Path,
    min_version: int,
    freshness_path: Path | None,
    yank_paths: tuple[Path, ...],
    state_path: Path | None,
    config_path: Path | None,
    as_json: bool,
    **params: Any,
) -> None:
    """Judge the manifest FILE ("-": standard input) by a trust policy, and say each check and its outcome.

    FILE.sig beside it, if there is one, is checked as the detached signature, and freshness.json is the freshness
    statement to go by. With --state a manifest that is
    accepted is recorded there: later, lower versions are refused. Without, nothing is remembered. A root that was
    given as a digest is looked up there too. A freshness statement or a yank that is given counts if its signers have
    a say; with one that has none nothing is accepted.
    """
    from p2pboot.config.load import load_settings
    from p2pboot.core.clock import effective_now
    from p2pboot.core.freshness import Asked
    from p2pboot.core.manifest import MAX_MANIFEST
    from p2pboot.core.policy import no_trust
    from p2pboot.core.verify import Question
    from p2pboot.core.verify import verify as verify_manifest

    channel, arch = take_pair(params)
    policy = load_settings(overrides_of(params), config_path).policy
    if policy.is_empty:
        raise no_trust()
    raw = read_start(file, MAX_MANIFEST + 1, what="manifest")
    detached = None if file == STANDARD_INPUT else _read_detached(detached_path(file))
    clock = effective_now(wall_now(), None)
    if any(publisher.root is not None for publisher in policy.publishers):
        from p2pboot.core.saying import time_by_roots

        clock = time_by_roots(clock, policy)
    question = Question(policy, clock, (), channel, arch, min_version)
    asked = Asked(accept_stale=params["accept_stale"], require_clock=params["require_clock"])
    given = _Given.read(file, freshness_path, yank_paths)
    question = replace(question, freshness=asked)
    if state_path is None:
        verdict = verify_manifest(raw, _with(question, given), detached)
    else:
        verdict = _consider(_File(file, raw, detached), policy, question, given, state_path)
    if as_json and verdict.ok:
        emit_json(verdict.to_json())
    elif not as_json:
        _say(verdict)
    verdict.raise_if_refused()


def _read_detached(path: Path) -> str | None:
    """The text of the detached signature, None when there is none."""
    if not path.exists():
        return None
    from p2pboot.core.textfiles import SAVE_AS_UTF8, OtherEncoding, decode_text
    from p2pboot.errors import SignatureError

    raw = read_start(path, _MAX_DETACHED, what="detached signature")
    try:
        return decode_text(raw)
    except OtherEncoding as error:
        raise SignatureError(f"{path} {error}", remedy=SAVE_AS_UTF8) from None
    except ValueError:
        return raw.decode("ascii", "replace")  # the check says what it should be


@dataclass(frozen=True, slots=True)
class _Given:
    """Documents beside the manifest, as they came.

    Args:
        freshness: where a statement lies, and its bytes; None for none.
        is_named: whether it was named; else it just lies beside the manifest, as `fetch` leaves it.
        yanks: any number.
    """

    freshness: tuple[Path, bytes] | None
    is_named: bool
    yanks: tuple[tuple[Path, bytes], ...]

    @classmethod
    def read(cls, manifest: Path, freshness: Path | None, yanks: tuple[Path, ...]) -> _Given:
        """Read the files that are named or lie there; what is too long, the reader of the document refuses."""
        is_named = freshness is not None
        if freshness is None and manifest != STANDARD_INPUT:
            beside = manifest.parent / _FRESHNESS
            freshness = beside if beside.is_file() else None
        if freshness is None and not yanks:
            return cls(None, is_named, ())
        from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT

        read = None
        if freshness is not None:
            read = freshness, read_start(freshness, MAX_DOCUMENT + 1, what="freshness statement")
        return cls(
            read, is_named, tuple((path, read_start(path, MAX_DOCUMENT + 1, what="yank")) for path in yanks)
        )


@dataclass(frozen=True, slots=True)
class _File:
    """A manifest and its detached signature, as they lie there."""

    path: Path
    raw: bytes
    detached: str | None


def _consider(file: _File, policy: TrustPolicy, question: Question, given: _Given, state: Path) -> Verdict:
    """Verify against what a state remembers, and let it remember the outcome."""
    from p2pboot.core.trust import Trust
    from p2pboot.store.catalogue import Catalogue
    from p2pboot.store.gate import Gate
    from p2pboot.store.store import Store
    from p2pboot.store.trustgate import TrustGate

    with Store.open(state) as store:
        gate = Gate(store, Catalogue(store, Trust(policy), wall_now))
        known = gate.question(question.channel, question.arch, min_version=question.min_version)
        asked = replace(question.freshness, statement=known.freshness.statement)
        question, source = _with(replace(known, freshness=asked), given), str(file.path)
        trust_gate = TrustGate(store, gate.catalogue)
        for _path, one in given.yanks:
            trust_gate.take_yank(one, source=source)
        verdict = gate.consider(file.raw, file.detached, source=source, question=question)
        if given.freshness is not None:
            trust_gate.take_freshness(given.freshness[1], source=source, at_hand=verdict.manifest)
        return verdict


def _with(question: Question, given: _Given) -> Question:
    """The question by what is given, too.

    Raises:
        SignatureError, ManifestError: what was named is no such document, or nobody signed it who has a say.
    """
    if not question.policy.publishers or (given.freshness is None and not given.yanks):
        return question
    from p2pboot.core.freshness import supersedes
    from p2pboot.core.saying import read_yank, time_by

    found, statement, clock = _statement(question, given), question.freshness.statement, question.clock
    if found is not None:
        if statement is None or statement.pair != found.pair or supersedes(found, statement):
            statement = found
        clock = time_by(clock, question.policy, found.pair, found)
    yanks = dict(question.yanks)
    for path, raw in given.yanks:
        with naming(path, remedy=_AGAIN):
            yank = read_yank(raw, question.policy)
        yanks[yank.body.content] = yank
    asked = replace(question.freshness, statement=statement)
    return replace(question, clock=clock, yanks=yanks, freshness=asked)


def _statement(question: Question, given: _Given) -> Freshness | None:
    """The statement that is given; one that was not named may well be of keys that have no say any more."""
    if given.freshness is None:
        return None
    from p2pboot.core.saying import read_statement
    from p2pboot.errors import ManifestError, SignatureError

    path, raw = given.freshness
    try:
        with naming(path, remedy=_AGAIN):
            return read_statement(raw, question.policy, question.clock)
    except (SignatureError, ManifestError) as error:
        if given.is_named:
            raise
        if any(one.freshness is not None for one in question.policy.publishers):
            warn(f"it does not count: {error.message}")
        return None


def _say(verdict: Verdict) -> None:
    for check in verdict.checks:
        say(f"{_MARKS[check.outcome.value]:<7} {check.name:<13} {check.detail}")
    manifest = verdict.manifest
    if verdict.ok and manifest is not None:
        say(
            f"accepted: {manifest.channel}/{manifest.arch} version {manifest.version},"
            f" manifest version {manifest.manifest_version}, sha256:{manifest.digest}"
        )
    else:
        say(f"refused: {verdict.reason}")
