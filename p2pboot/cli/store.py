"""`p2pboot store`: what the store takes, whether it is intact, mending it, and carrying a release by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_clock
from p2pboot.cli.options import (
    Command,
    Decorator,
    LazyGroup,
    Seconds,
    config_option,
    json_option,
    options,
    verbosity_options,
)
from p2pboot.cli.output import counted, emit_json, note, say
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.core.amounts import size_text
from p2pboot.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from p2pboot.config.settings import NodeSettings
    from p2pboot.store.catalogue import Catalogue
    from p2pboot.store.checking import Found
    from p2pboot.store.store import Store

_COMMANDS = {
    "export": "p2pboot.cli.exporting:export",
    "import": "p2pboot.cli.exporting:import_",
}
_ANSWER_S = 30.0
_LOOK_S = 0.5  # between two questions how a pass goes

_store_options: Decorator[Any] = options(
    setting_options("store.state"), config_option, json_option, verbosity_options
)
_dry_run_option: Decorator[Any] = click.option("--dry-run", is_flag=True, help="Only show; change nothing.")


class Unsound(StoreError):
    """Something in the store is not what was verified.

    Args:
        found: how many things are wrong.
        document: for scripts.
        remedy: what to do.
    """

    def __init__(self, found: int, document: Mapping[str, object], remedy: str) -> None:
        super().__init__(
            f"{counted(found, 'thing')} in the store {document['state']} {'is' if found == 1 else 'are'} wrong",
            remedy=remedy,
            details=document,
        )


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def store() -> None:
    """The store: what takes how much, whether it is intact, and releases carried by hand."""


@store.command(cls=Command)
@_store_options
def usage(config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Show what takes how much: by publisher, release and artifact, with what is partial or shared.

    Sizes are what the disk gives for it; holes take nothing. A node may run with the same state, or none.
    """
    from p2pboot.cli.usage import say_usage
    from p2pboot.store.usage import describe_usage

    settings = _settings(params, config_path)
    with _looked_at(settings) as (opened, catalogue):
        opened.blobs.quota_bytes = settings.store.quota_bytes
        _learn_files(opened)
        document = describe_usage(opened, catalogue, settings.policy)
    if as_json:
        emit_json({"ok": True, **document})
    else:
        say_usage(document)


@store.command(cls=Command)
@_store_options
def check(config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Verify everything that is held against what was signed, and change nothing; status 1 where something is wrong.

    Manifests and their signatures, piece tables, every byte of every artifact; and of the snapshots, where the
    configuration names a directory of them. A node may run with the same state.
    """
    from p2pboot.cli.progress import open_progress
    from p2pboot.store.checking import check as look

    settings = _settings(params, config_path)
    found: list[Found] = []
    with _looked_at(settings) as (opened, _), open_progress("checking", "checked") as progress:
        _learn_files(opened)

        def told(done: int, total: int) -> None:
            if total:
                progress.artifact("the store", done, total)

        found += _each(look(opened, told), as_json=as_json)
        found += _each(_check_snapshots(settings), as_json=as_json)
        held = len(opened.blobs.whole())
    document = {"state": str(settings.store.state), "held": held, "found": [one.to_json() for one in found]}
    if found:
        raise Unsound(len(found), document, "p2pboot store repair has what is damaged fetched anew")
    if as_json:
        emit_json({"ok": True, **document})
    else:
        say(f"sound      {counted(held, 'artifact')}")


@store.command(cls=Command)
@_store_options
@_dry_run_option
@click.option(
    "--timeout",
    type=Seconds(least=0),
    default=60.0,
    metavar="S",
    help="How long to wait for a running node to fetch what is damaged, after all is read.  [default: 60]",
)
def repair(config_path: Path | None, dry_run: bool, timeout: float, as_json: bool, **params: Any) -> None:
    """Take what is damaged out of service to be fetched anew, and make again what can be made from what is here.

    Of a damaged artifact only the damaged pieces are fetched again. Where a node runs with this state it does that
    itself, from its peers; else the next `mirror`, `serve` or `fetch` with it does.
    """
    from p2pboot.node.control import running

    settings = _settings(params, config_path)
    state = settings.store.state
    if not dry_run and running(state) is not None:
        scrub, damaged = _scrub_running(state, mending_s=timeout)
        document: dict[str, Any] = {"state": str(state), "scrub": scrub, "damaged": damaged}
        if damaged:
            raise Unsound(
                len(damaged), document, "p2pboot status says what is missing; see that peers have it"
            )
    else:
        found = _would_repair(settings, as_json=as_json) if dry_run else _repair(settings, as_json=as_json)
        document = {"state": str(state), "found": [one.to_json() for one in found], "dry_run": dry_run}
        if found and not (as_json or dry_run):
            note("p2pboot: note: what is missing now is fetched by the next node or fetch with this state")
    if as_json:
        emit_json({"ok": True, **document})
    elif "scrub" in document and document["scrub"]["found"]:
        say(f"mended     {counted(document['scrub']['found'], 'artifact')}")
    elif "scrub" in document or not document["found"]:
        say("nothing is damaged")


def _would_repair(settings: NodeSettings, *, as_json: bool) -> list[Found]:
    from p2pboot.store.checking import check as look

    with _looked_at(settings) as (opened, _):
        _learn_files(opened)
        return _each(look(opened), as_json=as_json, word="would do")


def _repair(settings: NodeSettings, *, as_json: bool) -> list[Found]:
    from p2pboot.store.checking import repair as mend
    from p2pboot.store.gate import Gate

    with _changed(settings) as (opened, catalogue):
        gate = Gate(opened, catalogue) if not settings.trusts_nobody else None
        return _each(mend(opened, gate), as_json=as_json, word="mended")


@store.command(cls=Command)
@_store_options
@_dry_run_option
def gc(config_path: Path | None, dry_run: bool, as_json: bool, **params: Any) -> None:
    """Remove what nobody needs: artifacts that no manifest names, abandoned partial ones, temporary files.

    Never what somebody is bringing in: where a node runs with this state, it does it itself.
    """
    from p2pboot.node.control import request, running

    settings = _settings(params, config_path)
    if running(settings.store.state) is not None:
        answer = request(settings.store.state, {"op": "store", "do": "gc", "dry_run": dry_run}, _ANSWER_S)
        garbage = answer["garbage"]
    else:
        from p2pboot.store.garbage import collect_garbage

        opening = _looked_at if dry_run else _changed
        with opening(settings) as (opened, catalogue):
            garbage = [one.to_json() for one in collect_garbage(opened, catalogue, dry_run=dry_run)]
    freed = sum(one["disk_bytes"] for one in garbage)
    if as_json:
        emit_json({"ok": True, "garbage": garbage, "freed_bytes": freed, "dry_run": dry_run})
        return
    for one in garbage:
        say(f"{one['kind']:<10} {size_text(one['disk_bytes']):>8}  {one['path']}")
    said = "would free" if dry_run else "freed"
    say(f"{said:<10} {size_text(freed)}" if garbage else "nothing to remove")


@store.command(cls=Command)
@_store_options
@click.option("--no-wait", is_flag=True, help="Have a running node begin, and do not wait for the end.")
def scrub(config_path: Path | None, no_wait: bool, as_json: bool, **params: Any) -> None:
    """Read everything that is held now, and take out of service what is damaged; status 1 where something was.

    A running node begins a pass at once, as fast as the disk is idle, and fetches anew from its peers what is damaged;
    without --no-wait its end is waited for. Without a node it is read here, at full speed.
    """
    from p2pboot.node.control import request, running

    settings = _settings(params, config_path)
    state = settings.store.state
    document: dict[str, Any] = {"state": str(state)}
    if running(state) is None:
        found = _scrub_here(settings, as_json=as_json)
        document["found"] = [one.to_json() for one in found]
        count = len(found)
    elif no_wait:
        document["scrub"] = request(state, _op("scrub"), _ANSWER_S)["scrub"]
        count = 0
    else:
        document["scrub"], document["damaged"] = _scrub_running(state)
        count = max(document["scrub"]["found"], len(document["damaged"]))
    if count:
        raise Unsound(
            count, document, "it is fetched anew, as soon as a peer of a node with this state has it"
        )
    if as_json:
        emit_json({"ok": True, **document})
    else:
        say("a pass has begun; p2pboot status shows how it goes" if no_wait else "nothing is damaged")


def _scrub_here(settings: NodeSettings, *, as_json: bool) -> list[Found]:
    from p2pboot.cli.progress import open_progress
    from p2pboot.store.checking import Names, check_pieces

    with _changed(settings) as (opened, _), open_progress("scrubbing", "scrubbed") as progress:

        def told(done: int, total: int) -> None:
            if total:
                progress.artifact("the store", done, total)

        names = Names(opened)
        return _each(check_pieces(opened.blobs, names.of, told, every_piece=False), as_json=as_json)


def _scrub_running(state: Path, *, mending_s: float = 0.0) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Have a node read everything, and wait for that.

    Args:
        state: of the node.
        mending_s: how long to wait afterwards until all is mended.

    Returns:
        How the pass went, with `found`: how many artifacts were damaged; and what is damaged still.
    """
    from p2pboot.cli.progress import open_progress
    from p2pboot.node.control import request

    answer = request(state, _op("scrub"), _ANSWER_S)
    with open_progress("scrubbing", "scrubbed") as progress:
        while answer["scrub"]["running"]:
            time.sleep(_LOOK_S)
            answer = request(state, _op("scrubbing"), _ANSWER_S)
            if answer["scrub"]["total_bytes"]:
                progress.artifact("the store", answer["scrub"]["read_bytes"], answer["scrub"]["total_bytes"])
    deadline = time.monotonic() + mending_s
    while answer["damaged"] and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        answer = request(state, _op("scrubbing"), _ANSWER_S)
    return answer["scrub"], answer["damaged"]


def _op(what: str) -> dict[str, Any]:
    return {"op": "store", "do": what}


def _settings(params: dict[str, Any], config_path: Path | None) -> NodeSettings:
    from p2pboot.config.load import load_settings

    return load_settings(overrides_of(params), config_path)


@contextmanager
def _looked_at(settings: NodeSettings) -> Iterator[tuple[Store, Catalogue]]:
    """The store, of which no file is changed."""
    from p2pboot.core.trust import Trust
    from p2pboot.store.catalogue import Catalogue
    from p2pboot.store.store import Store

    with Store.read(settings.store.state) as opened:
        yield opened, Catalogue(opened, Trust(settings.policy), wall_clock())


@contextmanager
def _changed(settings: NodeSettings) -> Iterator[tuple[Store, Catalogue]]:
    """The store, for this process alone."""
    from p2pboot.core.trust import Trust
    from p2pboot.store.catalogue import Catalogue
    from p2pboot.store.recovery import open_existing

    with open_existing(settings.store.state) as opened:
        opened.lock()
        yield opened, Catalogue(opened, Trust(settings.policy), wall_clock(), keep=settings.store.keep)


def _learn_files(opened: Store) -> None:
    from p2pboot.cli.inplace import learn_in_place

    named: set[str] = set().union(*opened.manifests.artifacts().values())
    learn_in_place(opened, {one for one in named if not opened.blobs.holds(one)})


def _check_snapshots(settings: NodeSettings) -> Iterator[Found]:
    """What is wrong with the snapshots that the configuration names."""
    if settings.snapshots.directory is None or not settings.snapshots.directory.is_dir():
        return
    from p2pboot.store.checking import PIECES, Found, check_pieces
    from p2pboot.store.snapshots.disk import DiskSnapshotStore
    from p2pboot.store.snapshots.scrubbed import ScrubbedSnapshots

    def silent(_text: str) -> None:
        """That one has no signature is no damage; a node names it."""

    snapshots = DiskSnapshotStore(settings.snapshots.directory, read_only=True, warn=silent)
    for path, text in snapshots.damaged().items():
        yield Found(PIECES, str(path), text)
    yield from check_pieces(ScrubbedSnapshots(snapshots), "snapshot {}".format, every_piece=False)


def _each(found: Iterable[Found], *, as_json: bool, word: str = "damaged") -> list[Found]:
    """Say each as it is found."""
    all_of_it = []
    for one in found:
        all_of_it.append(one)
        if not as_json:
            say(f"{word:<10} {one.subject}: {one.text}")
    return all_of_it
