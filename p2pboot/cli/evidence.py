"""`p2pboot evidence`: what contradicts itself, kept whole, for whoever wants to see it with his own eyes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.files import read_start, write_output
from p2pboot.cli.options import FILE, Command, Group, config_option, json_option, verbosity_options
from p2pboot.cli.output import counted, emit_json, note, say
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.errors import Malformed, NotFoundError, P2PBootError, SignatureError, UsageError

if TYPE_CHECKING:
    from p2pboot.core.evidence import Evidence

_ALL = "all"


@click.group(cls=Group)
def evidence() -> None:
    """Evidence: signed documents that can not both be honest, to be shown to anybody."""


@evidence.command("list", cls=Command)
@setting_options("store.state")
@config_option
@json_option
@verbosity_options
def list_(config_path: Path | None, as_json: bool, **params: Any) -> None:
    """List what this state keeps of manifests, roots and freshness statements that contradict each other.

    A node may run with the same state.
    """
    found = _kept(params, config_path)
    facts = [_facts(one) for one in found]
    if as_json:
        emit_json({"ok": True, "evidence": facts})
        return
    for one in facts:
        _say(one)
    if not facts:
        say("nothing contradicts itself, as far as is known here")


@evidence.command(cls=Command)
@click.argument("wanted", metavar="[ID|all]", default=_ALL)
@click.option(
    "--out", type=FILE, required=True, metavar="FILE", help='Where to write it ("-": standard output).'
)
@setting_options("store.state")
@config_option
@json_option
@verbosity_options
def export(wanted: str, out: Path, config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Write evidence into a file that anybody can verify: by ID, as `evidence list` shows it, or all of it."""
    from p2pboot.cli.files import STANDARD_INPUT
    from p2pboot.core.evidence import encode

    if as_json and out == STANDARD_INPUT:
        raise UsageError("--json and the evidence can not both be printed", remedy="name a file")
    found = [one for one in _kept(params, config_path) if wanted in (_ALL, one.name)]
    if not found:
        raise NotFoundError(
            "no evidence is kept here" if wanted == _ALL else f"there is no evidence {wanted[:40]!r} here",
            remedy="p2pboot evidence list shows what there is",
        )
    try:
        raw = encode(found)
    except ValueError as error:
        raise UsageError(f"this is {error}", remedy="export it one by one: p2pboot evidence list") from None
    write_output(out, raw)
    if as_json:
        emit_json({"ok": True, "path": str(out), "evidence": [_facts(one) for one in found]})
    else:
        note(f"exported   {counted(len(found), 'contradiction')} to {out}")


@evidence.command(cls=Command)
@click.argument("file", type=FILE)
@json_option
@verbosity_options
def verify(file: Path, as_json: bool) -> None:
    """Verify a FILE of evidence ("-": standard input), and say who contradicted himself.

    The status is 1 where something in it proves nothing. No network, no state and no trust are needed: what is proven
    is proven by the signatures in it. Whether a key that contradicted itself is of any importance, you have to know.
    """
    from p2pboot.core.evidence import MAX_FILE, decode

    try:
        found = decode(read_start(file, MAX_FILE + 1, what="file of evidence"))
    except Malformed as error:
        raise Malformed(
            f"{file} is no evidence: {error.message}",
            remedy="p2pboot evidence export writes such files",
        ) from None
    facts = [_facts(one) for one in found]
    bad = [one for one in facts if not one["ok"]]
    if not as_json:
        for one in facts:
            _say(one)
    if bad:
        raise P2PBootError(
            f"{counted(len(bad), 'contradiction')} of {len(facts)} in {file}"
            f" {'is' if len(bad) == 1 else 'are'} not proven: {bad[0]['error']}",
            remedy="believe only what is shown as proven",
            details={"evidence": facts},
        )
    if as_json:
        emit_json({"ok": True, "evidence": facts})


def _kept(params: dict[str, Any], config_path: Path | None) -> list[Evidence]:
    from p2pboot.config.load import load_settings
    from p2pboot.store.evidence import kept_evidence
    from p2pboot.store.store import Store

    with Store.read(load_settings(overrides_of(params), config_path).store.state) as store:
        return kept_evidence(store)


def _facts(one: Evidence) -> dict[str, Any]:
    """What is said of it, as plain values; `ok` is whether it proves anything."""
    from p2pboot.core.evidence import NoEvidence, judge
    from p2pboot.core.timestamps import format_time

    facts: dict[str, Any] = {
        "id": one.name,
        "kind": one.kind,
        "subject": one.subject,
        "source": one.source,
        "found_at": None if one.found_at is None else format_time(one.found_at),
    }
    try:
        found = judge(one)
    except (NoEvidence, Malformed, SignatureError) as error:
        return facts | {"ok": False, "error": error.message}
    return facts | {
        "ok": True,
        "subject": found.subject,
        "what": found.what,
        "digests": list(found.digests),
        "culprits": list(found.culprits),
        "involved": list(found.involved),
        "proves": found.proves,
        "given": found.given,
        "proves_not": found.proves_not,
    }


def _say(facts: dict[str, Any]) -> None:
    say(f"{facts['kind']:<10} {facts['id']}  {facts['subject']}")
    if facts["found_at"]:
        say(f"found      at {facts['found_at']}, from {facts['source'] or 'somebody'}")
    if not facts["ok"]:
        say(f"NOT PROVEN {facts['error']}")
        return
    say(f"what       {facts['what']}")
    say(f"proves     {facts['proves']}")
    if facts["given"]:
        say(f"given      {facts['given']}")
    say(f"not        {facts['proves_not']}")
