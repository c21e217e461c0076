"""`p2pboot state`: what a state directory remembers, and mending it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.options import Group, config_option, json_option, verbosity_options
from p2pboot.cli.output import emit_json, say
from p2pboot.cli.settings import overrides_of, setting_options

if TYPE_CHECKING:
    from p2pboot.core.clock import AcceptedTime
    from p2pboot.store.publications import Publication
    from p2pboot.store.recovery import Examined
    from p2pboot.store.store import Store
    from p2pboot.store.truststate import RememberedHead


@click.group(cls=Group)
def state() -> None:
    """State directories: show what one remembers, and mend it."""


@state.command()
@setting_options("store.state")
@click.option("--dry-run", is_flag=True, help="Only show; change nothing.")
@config_option
@json_option
@verbosity_options
def recover(config_path: Path | None, dry_run: bool, as_json: bool, **params: Any) -> None:
    """Show what a state directory remembers, and mend what a wrong clock left in it.

    A manifest that was accepted while a clock was years ahead holds the state's time there, and all that is published
    afterwards counts as expired. Such a date is forgotten; accepted versions are not, so that nothing older is taken.
    Set this machine's clock first, and stop the node that uses the directory.
    """
    from p2pboot.config.load import load_settings
    from p2pboot.store.recovery import examine, open_existing

    with open_existing(load_settings(overrides_of(params), config_path).store.state) as store:
        if not dry_run:
            store.lock()
        examined = examine(store, wall_now())
        if not dry_run:
            _mend(examined)
    if as_json:
        emit_json(_document(store, examined, dry_run=dry_run))
    else:
        _say(store, examined, dry_run=dry_run)


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
