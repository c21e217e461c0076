"""`p2pboot manifest verify`: may this manifest be used? Every check with its outcome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.files import STANDARD_INPUT, detached_path, read_start
from p2pboot.cli.options import (
    FILE,
    Command,
    config_option,
    json_option,
    max_lifetime_option,
    min_version_option,
    trust_options,
)
from p2pboot.cli.output import emit_json, say
from p2pboot.cli.settings import overrides_of, setting_options, take_pair

if TYPE_CHECKING:
    from p2pboot.core.policy import TrustPolicy
    from p2pboot.core.verify import Verdict

_MAX_DETACHED = 4096  # bytes read of a .sig file; the check itself takes less

_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "-", "noted": "note"}


@click.command(cls=Command)
@click.argument("file", type=FILE)
@trust_options
@max_lifetime_option
@setting_options("provider.channel", "provider.arch")
@min_version_option
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
    file: Path,
    min_version: int,
    state_path: Path | None,
    config_path: Path | None,
    as_json: bool,
    **params: Any,
) -> None:
    """Judge the manifest FILE ("-": standard input) by a trust policy, and say each check and its outcome.

    FILE.sig beside it, if there is one, is checked as the detached signature. With --state a manifest that is
    accepted is recorded there: later, lower versions are refused. Without, nothing is remembered.
    """
    from p2pboot.config.load import load_settings
    from p2pboot.core.manifest import MAX_MANIFEST
    from p2pboot.core.policy import no_trust

    channel, arch = take_pair(params)
    policy = load_settings(overrides_of(params), config_path).policy
    if policy.is_empty:
        raise no_trust()
    raw = read_start(file, MAX_MANIFEST + 1, what="manifest")
    detached = None if file == STANDARD_INPUT else _read_detached(detached_path(file))
    asked = {"channel": channel, "arch": arch, "min_version": min_version}
    verdict = _judge(raw, detached, file, policy=policy, state=state_path, **asked)
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


def _judge(
    raw: bytes, detached: str | None, file: Path, *, policy: TrustPolicy, state: Path | None, **asked: Any
) -> Verdict:
    """Verify; with a state against what it remembers, and let it remember the outcome."""
    from p2pboot.core.clock import effective_now
    from p2pboot.core.trust import Trust
    from p2pboot.core.verify import Question, verify

    if state is None:
        clock = effective_now(wall_now(), None)
        question = Question(policy, clock, **asked)
        return verify(raw, question, detached)
    from p2pboot.store.catalogue import Catalogue
    from p2pboot.store.gate import Gate
    from p2pboot.store.store import Store

    with Store.open(state) as store:
        gate = Gate(store, Catalogue(store, Trust(policy), wall_now))
        question = gate.question(**asked)
        return gate.consider(raw, detached, source=str(file), question=question)


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
