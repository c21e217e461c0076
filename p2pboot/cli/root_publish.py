"""`p2pboot root publish`: hand versions of a root to a running node, or to a state that none runs with."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_clock
from p2pboot.cli.options import FILE, Command, config_option, json_option, trust_options, verbosity_options
from p2pboot.cli.output import emit_json, say, warn
from p2pboot.cli.root_files import in_order
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.errors import NotFoundError, UsageError, machine_error

if TYPE_CHECKING:
    from p2pboot.config.settings import NodeSettings
    from p2pboot.core.trustdocs.root import Root

_TIMEOUT_S = 120.0  # a thousand versions of 32 signatures each take seconds


@click.command(cls=Command)
@click.argument("files", type=FILE, nargs=-1, required=True)
@setting_options("store.state")
@trust_options
@config_option
@json_option
@verbosity_options
def publish(files: tuple[Path, ...], config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Bring the root in FILES into force in the node that runs with the state, which passes it on to everybody.

    FILES are one version or several, in any order; each version since the one that is known there has to be among
    them. The node's configuration may go on to name the version that it names. Where no node runs, the state itself
    is used, and --root or the configuration say which root is believed.
    """
    from p2pboot.config.load import load_settings

    found = in_order(files)
    _check_one_fleet(found)
    documents = [root.raw for _, root in found]
    settings = load_settings(overrides_of(params), config_path)
    answer = _hand_in(settings, documents)
    if as_json:
        emit_json({"ok": True, **answer})
        return
    _tell(answer)


def _check_one_fleet(found: list[tuple[Path, Root]]) -> None:
    """See that no root of another fleet is among them; which one was meant nobody else could tell.

    Raises:
        UsageError: there is.
    """
    first: dict[str, Path] = {}
    for path, root in found:
        fleet = root.digest if root.version == 1 else root.fleet
        if fleet is not None:
            first.setdefault(fleet, path)
    if len(first) > 1:
        names = " and ".join(str(path) for path in first.values())
        raise UsageError(
            f"{names} are roots of different fleets", remedy="bring those of one fleet at a time"
        )


def _hand_in(settings: NodeSettings, documents: list[bytes]) -> dict[str, Any]:
    """Have the node take them that runs with the state; or take them here where none does."""
    from p2pboot.node.control import request, running
    from p2pboot.node.trusting.handed_in import RootDesk, lines_of

    state = settings.store.state
    if running(state) is not None:
        descriptor = _in_memory(lines_of(documents))
        try:
            return request(state, {"op": "root"}, _TIMEOUT_S, descriptor=descriptor)
        finally:
            os.close(descriptor)
    if not settings.roots:
        with suppress(NotFoundError):
            request(state, {"op": "status"}, _TIMEOUT_S)  # which says so where this user may not ask
        raise NotFoundError(
            f"no node is running with the state directory {state}",
            remedy="start one, or say which root is believed there: --root FILE, or --config FILE",
        )
    from p2pboot.core.trust import Trust
    from p2pboot.store.catalogue import Catalogue
    from p2pboot.store.recovery import open_existing
    from p2pboot.store.trustgate import TrustGate

    with open_existing(state) as store:
        store.lock()
        catalogue = Catalogue(store, Trust(settings.policy), wall_clock())
        return RootDesk(store, catalogue, TrustGate(store, catalogue)).take(documents)


def _in_memory(data: bytes) -> int:
    """A descriptor of these bytes: the node need not be allowed to open what the operator names."""
    try:
        descriptor = os.memfd_create("roots", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
    except OSError as error:
        raise machine_error(error, "hold the roots in memory") from error
    return descriptor


def _tell(answer: dict[str, Any]) -> None:
    from p2pboot.node.trusting.handed_in import kept_text

    before, version = answer["before"], answer["version"]
    how = f"before: version {before}"
    if before is None:
        how = "before: none"
    elif before == version:
        how = "as before"
        if answer["given"] < version:
            how = f"newer than version {answer['given']}, so nothing changes"
    say(f"in force    version {version} of the root of {answer['name']}, sha256:{answer['digest']}  ({how})")
    for one in answer["taken_away"]:
        kept = (
            f"; kept for {kept_text(answer)} in case it is signed anew"
            if one["reason"] == "untrusted"
            else ""
        )
        say(f"taken away  {one['channel']}/{one['arch']}  {one['text']}{kept}")
    _warn_revoked(f"{one['channel']}/{one['arch']}" for one in answer["revoked"])


def _warn_revoked(pairs: Iterable[str]) -> None:
    shown = ", ".join(pairs)
    if shown:
        warn(
            f"this node's key may not publish {shown} any more: start it with a key that the root names"
            " (identity.signing_key_path)"
        )
