"""Verification: may this manifest be used here and now? A pure function from bytes to a verdict.

Nothing is read here but the arguments: the policy, the moment (:mod:`.clock`), and what was accepted before
(:mod:`.rollback`) are the caller's to know. The :class:`.Verdict` lists *every* check with its outcome, so
that a person sees everything that is wrong at once. A check that a failure before it made meaningless is
``skipped``: nothing that stands in a document is believed before its signatures and its form are, and a
stranger's numbers are no rollback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import Final

from p2pboot.core import rules
from p2pboot.core.clock import MAX_AHEAD_S, AcceptedTime, Clock
from p2pboot.core.dataclass import dataclass
from p2pboot.core.freshness import Asked, check_freshness_of
from p2pboot.core.identity import PublicKey
from p2pboot.core.manifest import Candidate, Manifest, Statement, check_detached, content_digest
from p2pboot.core.policy import Policy, Publisher, no_trust
from p2pboot.core.problems import Code, Problem
from p2pboot.core.rollback import AcceptedHead, VersionStanding, binding, judge_version
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.core.verdict import CHECKS, Check, Outcome, Refused, Verdict, noted
from p2pboot.core.verdict import failed as _failed
from p2pboot.core.verdict import passed as _passed
from p2pboot.core.verdict import skipped as _skipped
from p2pboot.errors import Malformed, SignatureError

__all__ = [
    "CHECKS",
    "MAX_AHEAD_S",
    "Check",
    "Outcome",
    "Question",
    "Refused",
    "Verdict",
    "clock_problem",
    "judge",
    "read_trusted",
    "verify",
]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for, and what decides.

    Args:
        policy: whom to believe.
        clock: the moment to judge by.
        heads: what was accepted before for this channel and arch, whoever signed it.
        channel: the channel that was asked for; None takes any that the policy covers.
        arch: the (canonical) architecture that was asked for; None as above.
        min_version: the lowest ``manifest_version`` that the operator takes.
        known_bad: digests that are known to contradict another manifest of their number.
        yanks: those that count for this channel and arch, by content (`core.manifest.content_digest`).
        freshness: what is known and asked for of how old it may be.
    """

    policy: Policy
    clock: Clock
    heads: tuple[AcceptedHead, ...] = ()
    channel: str | None = None
    arch: str | None = None
    min_version: int = 0
    known_bad: frozenset[str] = frozenset()
    yanks: Mapping[str, Yank] = field(default_factory=dict)
    freshness: Asked = Asked()


def verify(raw: bytes, question: Question, detached: str | None = None) -> Verdict:
    """Judge the bytes of a manifest, from anyone: every check that makes sense is made.

    Args:
        raw: the document's exact bytes, any length.
        question: what is asked for.
        detached: the text of ``manifest.json.sig``, if there is one.

    Raises:
        UsageError: the policy names no publisher at all.
    """
    if not question.policy.publishers:
        raise no_trust(question.policy)
    manifest = _read(raw, lambda _candidate: None)
    return manifest if isinstance(manifest, Verdict) else judge(manifest, question, detached)


def read_trusted(
    raw: bytes, policy: Policy, channel: str | None = None, arch: str | None = None
) -> Manifest | Verdict:
    """Read what strangers send by the thousand: in the order of what it costs, up to the first failure.

    Size and types come first, then whether it is for what is asked for and names enough trusted keys; only then
    signatures are checked, those of trusted keys first, and last the canonical form.

    Args:
        raw: the document's exact bytes, any length.
        policy: whom to believe.
        channel: the only channel that is meant; None for any.
        arch: the only (canonical) architecture that is meant; None for any.

    Returns:
        The manifest, still to be judged, or the verdict that refuses it. That has no manifest: what it says
        was not looked at any further.
    """

    def screen(candidate: Candidate) -> Check | None:
        publisher = policy.publisher_for(candidate.channel, candidate.arch)
        checks = (
            _asked("channel", candidate.channel, channel),
            _asked("arch", candidate.arch, arch),
            _trust(candidate.claims, publisher),
        )
        return next((check for check in checks if check.outcome is Outcome.FAILED), None)

    return _read(raw, screen, policy)


def _read(
    raw: bytes, screen: Callable[[Candidate], Check | None], policy: Policy | None = None
) -> Manifest | Verdict:
    done: list[Check] = []
    try:
        candidate = Candidate.decode(raw)
        done.append(_passed("structure", f"{len(raw)} bytes, every field within its rules"))
        refusal = screen(candidate)
        if refusal is not None:
            return _unreadable([*done, refusal])
        publisher = None if policy is None else policy.publisher_for(candidate.channel, candidate.arch)
        candidate.check_signatures(first=() if publisher is None else publisher.keys)
        done.append(_signatures_passed(candidate.signers))
        return candidate.check_form()
    except Malformed as error:
        name = "canonical" if done else "structure"
        return _unreadable([*done, _failed(name, f"malformed: {error.message}", error.remedy or _GET_AGAIN)])
    except SignatureError as error:
        return _unreadable([*done, _failed("signatures", error.message, error.remedy or _GET_AGAIN)])


def judge(manifest: Manifest, question: Question, detached: str | None = None) -> Verdict:
    """Judge a manifest whose form and signatures are known to be good; arguments as for :func:`verify`.

    Raises:
        UsageError: the policy names no publisher at all.
    """
    policy, clock = question.policy, question.clock
    if not policy.publishers:
        raise no_trust(policy)
    publisher = policy.publisher_for(manifest.channel, manifest.arch)
    trust = _trust(manifest, publisher)
    place = [
        _asked("channel", manifest.channel, question.channel),
        _asked("arch", manifest.arch, question.arch),
    ]
    is_ours = all(check.outcome is not Outcome.FAILED for check in (trust, *place))
    checks = (
        _passed("structure", f"{len(manifest.raw)} bytes, every field within its rules"),
        _signatures_passed(manifest.signers),
        _passed("canonical", "the document is exactly what was signed"),
        _root(publisher, clock),
        trust,
        *place,
        *_against_heads(manifest, question, publisher if is_ours else None),
        _floor(manifest, policy, publisher if is_ours else None),
        _yank(manifest, question.yanks, publisher if is_ours else None),
        _min_version(manifest, question.min_version),
        _clock(clock),
        _created_at(manifest, clock),
        _expiry(manifest, clock),
        _lifetime(manifest, publisher if is_ours else None),
        check_freshness_of(
            manifest,
            None if publisher is None or not is_ours else publisher.freshness,
            question.freshness,
            clock,
        ),
        _provider(manifest),
        _detached(manifest, detached),
    )
    return Verdict(checks, manifest)


_DAY_S: Final = 86_400
_GET_AGAIN: Final = "get the manifest again from its publisher or another mirror"


def _unreadable(done: list[Check]) -> Verdict:
    """Close a verdict over bytes that are not read any further: what was not checked has nothing to stand on."""
    made, why = {check.name: check for check in done}, f"not looked at, since {done[-1].name} failed"
    return Verdict(tuple(made.get(name) or _skipped(name, why) for name in CHECKS), None)


def _signatures_passed(signers: Iterable[str]) -> Check:
    return _passed("signatures", f"valid signatures of {', '.join(signers)}")


def _root(publisher: Publisher | None, clock: Clock) -> Check:
    """Say how long the root is valid that names the publisher, and whose word that is."""
    root = None if publisher is None else publisher.root
    if root is None:
        return _skipped("root", "no root names whom to trust here")
    objection = rules.root_over(root, clock.now)
    if objection is not None:
        return objection.failed
    said = f"root version {root.version}"
    until = "for ever" if root.expires_at is None else f"until {format_time(root.expires_at)}"
    if not rules.is_over(root, clock.now):
        return _passed("root", f"{said} is valid {until}")
    return noted("root", f"{said} was valid {until}, now is {format_time(clock.now)}", rules.NEWER_ROOT)


def _floor(manifest: Manifest, policy: Policy, publisher: Publisher | None) -> Check:
    """Stop what a key signed before it was removed, on machines without memory too."""
    lowest = 0 if publisher is None else policy.floor(manifest.channel, manifest.arch)
    if not lowest:
        return _skipped("floor", "no root sets a lowest version")
    objection = rules.below_floor(manifest, policy)
    if objection is not None:
        return objection.failed
    number = manifest.manifest_version
    return _passed("floor", f"manifest version {number}, at least {lowest} is taken under the root")


def _yank(manifest: Manifest, yanks: Mapping[str, Yank], publisher: Publisher | None) -> Check:
    """Stop what its publisher took back."""
    if publisher is None or not yanks:
        return _skipped("yank", "nothing is known to be yanked")
    objection = rules.taken_back(manifest, yanks.get(content_digest(manifest)))
    return _passed("yank", "what it brings was not yanked") if objection is None else objection.failed


def _trust(manifest: Statement, publisher: Publisher | None) -> Check:
    """Count signatures of trusted keys. A manifest lists each signer once, so no key counts twice."""
    if publisher is None:
        return _failed(
            "trust",
            f"nobody is trusted to publish for {manifest.channel}/{manifest.arch}",
            "name a publisher that may, or ask for another channel or arch",
        )
    trusted = publisher.trusted_among(manifest.signers)
    if len(trusted) < publisher.threshold:
        return _failed(
            "trust",
            f"trusted signatures: {len(trusted)}, needed: {publisher.threshold};"
            f" it is signed by {', '.join(manifest.signers)}",
            "if you believe these signers, trust their keys; otherwise look for another provider",
        )
    return _passed("trust", f"trusted signatures: {len(trusted)}, needed: {publisher.threshold}")


def _asked(name: str, offered: str, asked: str | None) -> Check:
    """Stop a provider from answering with another channel's or machine's image, however well signed."""
    if asked is None:
        return _skipped(name, f"any {name} will do, this is {offered}")
    if offered != asked:
        return _failed(
            name, f"it is for {name} {offered}, not {asked}", f"ask for {name} {offered} if you mean it"
        )
    return _passed(name, f"{name} {offered}, as asked for")


def clock_problem(clock: Clock) -> Problem | None:
    """What stands wrong with a machine's clock, for who judges by it again and again; None if nothing does."""
    if clock.trusted:
        return None
    held, now = _held(clock), format_time(clock.now)
    if held is not None:
        text = f"it is behind {now}, the date of {held.shown} that was accepted"
        where = f" (remembered in {held.kept_in})" if held.kept_in else ""
        return Problem(Code.CLOCK, "clock", text + where, _recovery(held))
    if clock.held_by is not None:
        return None  # by no more than clocks differ
    return Problem(Code.CLOCK, "clock", f"it is behind {now}, this program's release", _SET_CLOCK)


_SET_CLOCK: Final = "set this machine's clock"


def _clock(clock: Clock) -> Check:
    now = format_time(clock.now)
    if clock.trusted:
        return _passed("clock", f"judged at {now}")
    held = _held(clock)
    detail = f"clock not trusted: it is behind what is known to have happened, judged at {now} instead"
    if held is None:
        return Check("clock", Outcome.NOTED, detail, _SET_CLOCK)
    return Check("clock", Outcome.NOTED, f"{detail}; {_whose(held, clock)}", _recovery(held))


def _held(clock: Clock) -> AcceptedTime | None:
    """What holds a clock so far ahead of the machine's that one of the two must have been wrong."""
    held, wall = clock.held_by, clock.wall
    if held is None or wall is None or held.at <= wall + MAX_AHEAD_S:
        return None
    return held


def _whose(held: AcceptedTime, clock: Clock) -> str:
    wall = format_time(max(clock.wall or 0, 0))
    whose = f"the state {held.kept_in} remembers {held.shown} with" if held.kept_in else f"{held.shown} has"
    return f"{whose} that date, this machine's clock says {wall}"


def _recovery(held: AcceptedTime) -> str:
    what = held.kind if held.channel else "root"
    if held.channel and not held.kept_in:
        way = "get a newer one, or leave it out"
    elif held.channel:
        import shlex  # seldom needed

        way = f"p2pboot state recover --state {shlex.quote(held.kept_in)} forgets the date"
    else:
        way = "its owners sign the next version with the right date (p2pboot root set, root sign)"
    return f"{_SET_CLOCK}; if it is right, the {what} was dated wrongly: {way}"


def _created_at(manifest: Manifest, clock: Clock) -> Check:
    created = format_time(manifest.created_at)
    if not clock.trusted:
        # A dead clock would make every fresh image one "from the future", and the machine would not boot.
        return _skipped("created_at", f"created at {created}; the clock can not say more")
    if clock.is_ahead(manifest.created_at):
        return _failed(
            "created_at",
            f"not valid yet: created at {created}, now is {format_time(clock.now)}",
            "if this machine's clock is right, the publisher's was ahead when it signed, and a newer manifest"
            " of it mends that; otherwise set this machine's clock",
        )
    return _passed("created_at", f"created at {created}{_age(manifest, clock)}")


def _age(manifest: Manifest, clock: Clock) -> str:
    days = (clock.now - manifest.created_at) // _DAY_S
    return f", {days} days ago" if days > 1 else ""


def _expiry(manifest: Manifest, clock: Clock) -> Check:
    """Stop a provider from holding machines on an old image forever (freeze attack)."""
    objection = rules.expired(manifest, clock.now)
    if objection is None:
        return _passed("expiry", f"valid until {format_time(manifest.expires_at)}")
    held, found = _held(clock), objection.failed
    if held is not None and clock.wall is not None and clock.wall < manifest.expires_at:
        return _failed("expiry", f"{found.detail}; {_whose(held, clock)}", _recovery(held))
    return found


def _lifetime(manifest: Manifest, publisher: Publisher | None) -> Check:
    """Have no manifest valid for ever: its expiry is what ends a freeze."""
    days = -(-(manifest.expires_at - manifest.created_at) // _DAY_S)
    if publisher is None or publisher.max_lifetime_s is None:
        return _skipped("lifetime", f"valid for {days} days in all")
    allowed_days = publisher.max_lifetime_s / _DAY_S
    if manifest.expires_at - manifest.created_at > publisher.max_lifetime_s:
        return _failed(
            "lifetime",
            f"it is valid for {days} days in all, and at most {allowed_days:g} are taken: whoever holds others back"
            " could offer it for as long",
            "ask the publisher for a manifest with an earlier expiry, or raise --max-lifetime",
        )
    return _passed("lifetime", f"valid for {days} days in all, at most {allowed_days:g}")


def _min_version(manifest: Manifest, minimum: int) -> Check:
    number = manifest.manifest_version
    if number < minimum:
        return _failed(
            "min_version",
            f"manifest version {number} is below the minimum {minimum}",
            "look for a provider that has a newer one, or lower --min-version",
        )
    return _passed("min_version", f"manifest version {number}, at least {minimum} is asked for")


def _against_heads(manifest: Manifest, question: Question, publisher: Publisher | None) -> Iterator[Check]:
    """Compare with what was accepted before; ``publisher`` is None when the manifest is not what is asked for."""
    number = manifest.manifest_version
    why = (
        "it is not what is asked for or trusted"
        if publisher is None
        else "no earlier manifest of these keys is known"
    )
    heads = binding(question.heads, publisher)
    standing = judge_version(heads, manifest)
    if standing is VersionStanding.EQUIVOCATION:
        accepted = ", and ".join(
            f"sha256:{head.digest} was accepted before" for head in heads if head.digest != manifest.digest
        )
        yield _failed(
            "equivocation",
            f"two manifests with version {number} are signed: sha256:{manifest.digest}, and {accepted}",
            "tell the publisher: its key is misused or its counter was lost; a higher version resumes",
        )
    elif (
        publisher is not None and standing is VersionStanding.NEWER and manifest.digest in question.known_bad
    ):
        # One half of a known contradiction is no better because the other half does not show up now.
        yield _failed(
            "equivocation",
            f"version {number} is known to be signed twice with different content, and sha256:{manifest.digest} is"
            " one of the two",
            "tell the publisher; a higher version resumes",
        )
    elif not heads:
        yield _skipped("equivocation", why)
    else:
        yield _passed("equivocation", "no second manifest with this version is known")
    if not heads:
        yield _skipped("rollback", why)
    elif standing is VersionStanding.OLDER:
        yield _failed(
            "rollback",
            f"manifest version {number} is older than {heads[0].manifest_version}, which was accepted before",
            "look for a provider that has the newest; who offers this one is behind, or turns you back",
        )
    else:
        yield _passed("rollback", f"manifest version {number}, accepted before: {heads[0].manifest_version}")


def _provider(manifest: Manifest) -> Check:
    peer_id = manifest.provider_peer_id
    if peer_id in {PublicKey.from_keyid(keyid).peer_id for keyid in manifest.signers}:
        return _passed("provider", f"built by {peer_id}, a signer")
    return Check(
        "provider",
        Outcome.NOTED,
        f"built by {peer_id}, by its own word: that is not the peer id of a signer",
    )


def _detached(manifest: Manifest, text: str | None) -> Check:
    if text is None:
        return _skipped("detached", "there is no detached signature")
    try:
        keyid = check_detached(manifest.raw, text, manifest.signers)
    except SignatureError as error:
        return _failed("detached", error.message, "get manifest.json.sig again, together with its manifest")
    return _passed("detached", f"valid detached signature of {keyid}")
