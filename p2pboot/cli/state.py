"""`p2pboot state`: what a state directory remembers, and mending it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.options import Group, config_option, json_option, verbosity_options
from p2pboot.cli.output import emit_json, say
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.core.clock import AcceptedTime
    from p2pboot.store.publications import Publication
    from p2pboot.store.recovery import Examined
    from p2pboot.store.resolving import InDoubt, Way
    from p2pboot.store.store import Store
    from p2pboot.store.truststate import RememberedHead


@click.group(cls=Group)
def state() -> None:
    """State directories: show what one remembers, and mend it."""


@state.command()
@setting_options("store.state")
@click.option("--dry-run", is_flag=True, help="Only show; change nothing.")
@click.option(
    "--trust-record",
    "way",
    flag_value="trust-record",
    help="Of a state in doubt: go on above what its record says, with an older, empty or damaged database.",
)
@click.option(
    "--trust-database",
    "way",
    flag_value="trust-database",
    help="Of a state in doubt: go on with its database, and write its record anew.",
)
@click.option(
    "--start-over",
    "way",
    flag_value="start-over",
    help="Of a state in doubt: forget everything. Numbers begin again at 1, and any version is accepted.",
)
@config_option
@json_option
@verbosity_options
def recover(config_path: Path | None, dry_run: bool, way: str | None, as_json: bool, **params: Any) -> None:
    """Show what a state directory remembers, and mend what a wrong clock or a lost file left in it.

    A state is in doubt where its database or the record beside it is damaged, gone, or older than the other. Then
    nothing is published or accepted with it until it is said here how to go on; without that the two are compared.

    A manifest that was accepted while a clock was years ahead holds the state's time there, and all that is published
    afterwards counts as expired. Such a date is forgotten; accepted versions are not, so that nothing older is taken.
    Set this machine's clock first, and stop the node that uses the directory.
    """
    from p2pboot.config.load import load_settings
    from p2pboot.store.recovery import examine, open_existing
    from p2pboot.store.resolving import Way, find_doubt

    path = load_settings(overrides_of(params), config_path).store.state
    found = find_doubt(path)
    if found is not None:
        _resolve(path, found, None if way is None else Way(way), dry_run=dry_run, as_json=as_json)
        if dry_run or way == Way.START_OVER:
            return
    elif way is not None:
        _not_in_doubt(path, Way(way))
    with open_existing(path) as store:
        if not dry_run:
            store.lock()
        examined = examine(store, wall_now())
        if not dry_run:
            _mend(examined)
    if as_json:
        emit_json(_document(store, examined, dry_run=dry_run))
    else:
        _say(store, examined, dry_run=dry_run)


def _resolve(path: Path, found: InDoubt, way: Way | None, *, dry_run: bool, as_json: bool) -> None:
    """Show what is in doubt, and go on as it was said; an error where nothing was said."""
    from p2pboot.store.resolving import EFFECTS, Way, go_on

    details = {
        "state": str(path),
        "doubt": found.doubt.doubt.name.lower().replace("_", "-"),
        "differences": [asdict(one) for one in found.differences()],
        "ways": [str(one) for one in found.ways()],
    }
    if not as_json:
        say(f"state      {path}")
        for one in found.differences():
            said = f"database {_number(one.database)}, record {_number(one.record)}"
            signed = f"  signed by {one.signers.replace(',', ', ')}" if one.signers else ""
            say(f"{one.kind:<10} {one.subject}  {said}{signed}")
    if way is None:
        error = found.doubt
        error.details = details
        error.remedy = "say how to go on: " + "; ".join(f"--{one}: {EFFECTS[one]}" for one in found.ways())
        raise error
    if not dry_run:
        go_on(path, found, way)
    if as_json and (dry_run or way is Way.START_OVER):
        emit_json({"ok": True, **details, "way": str(way), "dry_run": dry_run})
    elif not as_json:
        say(f"{'would do' if dry_run else 'went on':<10} {way}: {EFFECTS[way]}")


def _not_in_doubt(path: Path, way: Way) -> None:
    from p2pboot.store.resolving import Way

    if way is Way.START_OVER:
        raise UsageError(
            f"the state {path} is not in doubt, and nothing of it is forgotten",
            remedy="remove the directory if you mean it",
        )


def _number(number: int | None) -> str:
    return "none" if number is None else str(number)


def _mend(examined: Examined) -> None:
    for finding in examined.findings:
        if finding.repair is not None:
            finding.repair.mend()


def _document(store: Store, examined: Examined, *, dry_run: bool) -> dict[str, object]:
    return {
        "ok": True,
        "state": str(store.path),
        "now": _date(examined.now),
        "dry_run": dry_run,
        "heads": [
            _row(examined, head, manifest_version=head.manifest_version, digest=head.digest)
            for head in examined.heads
        ],
        "times": [_row(examined, one) for one in examined.times],
        "publications": [_row(examined, one, manifest_version=one.counter) for one in examined.published],
        "roots": [
            {"fleet": fleet, "version": version, "digest": digest}
            for fleet, version, digest in examined.roots
        ],
        "findings": [
            {
                "code": finding.code,
                "subject": finding.subject,
                "text": finding.text,
                "repair": None if finding.repair is None else finding.repair.what,
                "mended": finding.repair is not None and not dry_run,
            }
            for finding in examined.findings
        ],
    }


def _row(
    examined: Examined, one: RememberedHead | AcceptedTime | Publication, **said: object
) -> dict[str, object]:
    return {
        "channel": one.channel,
        "arch": one.arch,
        **said,
        "signers": list(one.signers),
        "created_at": _date(one.created_at),
        "in_future": examined.is_ahead(one.created_at),
    }


def _say(store: Store, examined: Examined, *, dry_run: bool) -> None:
    say(f"state      {store.path}")
    say(f"clock      {_date(examined.now)}, this machine's")
    for head in examined.heads:
        _say_row(
            "accepted", head.channel, head.arch, f"manifest version {head.manifest_version}", head.signers
        )
    for one in examined.times:
        date = f"{_date(one.created_at)}{_mark(examined, one.created_at)}"
        _say_row("time", one.channel, one.arch, date, one.signers)
    for publication in examined.published:
        last = (
            "no manifest kept" if publication.created_at is None else f"dated {_date(publication.created_at)}"
        )
        what = f"manifest version {publication.counter}, {last}{_mark(examined, publication.created_at)}"
        _say_row("published", publication.channel, publication.arch, what, publication.signers)
    for fleet, version, _digest in examined.roots:
        say(f"root       version {version} of fleet {fleet}")
    for finding in examined.findings:
        say(f"found      {finding.subject}: {finding.text}")
        if finding.repair is not None:
            say(f"{'would do' if dry_run else 'mended':<10} {finding.subject}: {finding.repair.what}")
    if not any(finding.repair for finding in examined.findings):
        say("nothing to mend")


def _say_row(kind: str, channel: str, arch: str, what: str, signers: tuple[str, ...]) -> None:
    say(f"{kind:<10} {channel}/{arch}  {what}  signed by {', '.join(signers)}")


def _mark(examined: Examined, created_at: int | None) -> str:
    return " IN THE FUTURE" if examined.is_ahead(created_at) else ""


def _date(unix_s: int | None) -> str | None:
    from p2pboot.core.timestamps import format_time

    return None if unix_s is None else format_time(unix_s)
