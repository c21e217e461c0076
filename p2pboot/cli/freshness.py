"""`p2pboot freshness`: say by hand, or from a timer, what the newest manifest is; and show who said so last."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_clock
from p2pboot.cli.options import (
    FILE,
    Command,
    Group,
    config_option,
    json_option,
    trust_options,
    verbosity_options,
)
from p2pboot.cli.output import emit_json, say, warn
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from p2pboot.config.settings import NodeSettings
    from p2pboot.core.clock import Clock
    from p2pboot.core.identity import SecretKey
    from p2pboot.core.trustdocs.freshness import Freshness, FreshnessBody
    from p2pboot.node.statements import StatementDesk
    from p2pboot.publish.freshness import Head

_TIMEOUT_S = 30.0
_MAX_MANIFEST = 1 << 20


@click.group(cls=Group)
def freshness() -> None:
    """Freshness statements: sign what the newest manifest is, show who said so last, and how long ago."""


@freshness.command(cls=Command)
@click.option("--key", "key_path", type=FILE, required=True, metavar="FILE", help="Freshness key.")
@setting_options("provider.channel", "provider.arch", "store.state")
@click.option("--manifest", type=FILE, metavar="FILE", help="Vouch for this manifest, without any state.")
@click.option(
    "--previous",
    type=FILE,
    metavar="FILE",
    help="Last statement of the same channel and arch, beside --manifest.",
)
@click.option("-o", "--out", type=FILE, metavar="FILE", help="Write the statement there, beside --manifest.")
@click.option("--valid", default="24h", show_default=True, metavar="DURATION", help="How long it is valid.")
@click.option(
    "--minimum",
    type=click.IntRange(min=0),
    metavar="N",
    help="Take nothing below this manifest version.  [default: what was vouched for an hour ago or more]",
)
@click.option("--urgent", is_flag=True, help="Take nothing below the newest, as --minimum with its number.")
@click.option("--force", is_flag=True, help="Sign although the node has lost its publisher.")
@trust_options
@config_option
@json_option
@verbosity_options
def sign(  # noqa: PLR0913 - one for each option
    *,
    key_path: Path,
    config_path: Path | None,
    manifest: Path | None,
    previous: Path | None,
    out: Path | None,
    valid: str,
    minimum: int | None,
    urgent: bool,
    force: bool,
    as_json: bool,
    **params: Any,
) -> None:
    """Say with a freshness key that the newest manifest which is held here is the newest there is.

    Of everything that the state holds, or of one --channel and --arch. Where a node runs with that state it is told,
    and passes the statement on; the key stays with this command. On a machine without a state --manifest names the
    newest manifest, and the statement is written to --out, to be carried. Have a timer run it every six hours.
    """
    from p2pboot.cli.settings import take_pair
    from p2pboot.config.load import load_settings
    from p2pboot.store.keyfiles import load_key

    channel, arch = take_pair(params)
    settings = load_settings(overrides_of(params), config_path)
    signing = _Signing(load_key(key_path, warn=warn), _seconds(valid), minimum, urgent=urgent)
    if manifest is not None:
        statement = _of_file(manifest, previous, settings, signing)
        _write(statement, out, as_json=as_json)
        return
    if previous is not None or out is not None:
        raise UsageError(
            "--previous and --out belong to --manifest",
            remedy="name the manifest, or leave them out: the state holds what was said last, and is told",
        )
    with _statements(settings) as ask:
        listed = ask({"op": "freshness", "do": "list"})
        if not listed["clock"]["trusted"]:
            raise UsageError(
                "this machine's clock can not be believed, so nothing can be said of what is new",
                remedy="set this machine's clock; `p2pboot doctor` says what holds it",
            )
        chosen = [
            one
            for one in listed["pairs"]
            if channel in (None, one["channel"]) and arch in (None, one["arch"])
        ]
        if not chosen:
            raise NotFoundError(
                f"nothing {'' if channel is None and arch is None else 'of that '}is held in {settings.store.state}",
                remedy="name the state of a node that publishes or mirrors it",
            )
        signed = []
        for one in chosen:
            document = _sign_one(one, signing, listed["clock"]["now"], force=force)
            ask({"op": "freshness", "do": "enter", "document": base64.b64encode(document.raw).decode()})
            signed.append(document)
    _say_signed(signed, listed["clock"]["now"], as_json=as_json)


class _Signing:
    """With what is signed, and what is said beside what the state says."""

    def __init__(self, key: SecretKey, valid_s: int, minimum: int | None, *, urgent: bool) -> None:
        if urgent and minimum is not None:
            raise UsageError("--urgent and --minimum both say what is the least", remedy="give one of them")
        self.key = key
        self.valid_s = valid_s
        self.minimum = minimum
        self.urgent = urgent

    @property
    def says_no_minimum(self) -> bool:
        """Whether it was left open below what nothing is to be taken."""
        return self.minimum is None and not self.urgent

    def sign(self, head: Head, known: FreshnessBody | None, now: int) -> Freshness:
        """The statement of a head, after what was said last."""
        from p2pboot.core.trustdocs.freshness import SETTLE_S, Freshness
        from p2pboot.publish.freshness import Settling, body_of, is_behind, minimum_of, sign

        pair = "/".join(head.pair)
        if is_behind(head, known) and known is not None:
            raise UsageError(
                f"{pair}: version {known.head_version} was vouched for already, and this is version {head.version}",
                remedy="get the newest manifest first",
            )
        settling = Settling()
        settling.note(head, known, now)
        settled = settling.settled(now, SETTLE_S)
        if self.urgent:
            settled = head.version
        elif self.minimum is not None:
            settled = self.minimum
            if self.minimum > head.version or (known is not None and self.minimum < known.minimum):
                least = 0 if known is None else known.minimum
                raise UsageError(
                    f"{pair}: --minimum {self.minimum} is not from {least}, which was said last, to {head.version}",
                    remedy="it is never lowered, and never above the newest",
                )
        try:
            body = body_of(
                head,
                known,
                minimum=minimum_of(head, known, settled),
                paused_since=None if known is None else known.paused_since,
                now=now,
                valid_s=self.valid_s,
                signers=(self.key.public.keyid,),
            )
        except UsageError as error:
            raise UsageError(f"{pair}: {error.message}", remedy=error.remedy) from None
        return Freshness.parse(sign(body, self.key))


def _sign_one(one: Mapping[str, Any], signing: _Signing, now: int, *, force: bool) -> Freshness:
    """Sign for one channel and arch, as a node or a state lists it."""
    from p2pboot.core.trustdocs.freshness import Freshness
    from p2pboot.publish.freshness import Head

    pair = (one["channel"], one["arch"])
    keyid = signing.key.public.keyid
    if keyid not in one["keys"]:
        raise UsageError(
            f"{'/'.join(pair)}: nobody named {keyid} to say what is fresh",
            remedy="have the root name it (p2pboot root add-key freshness), or freshness in [[trust]] of that node",
        )
    if one["lost"] is not None and not force:
        raise UsageError(
            f"{'/'.join(pair)}: the node does not know whether there is something newer: {one['lost']}",
            remedy="see that it reaches the publisher; --force signs all the same",
        )
    head = one["head"]
    known = None if one["statement"] is None else Freshness.parse(base64.b64decode(one["statement"])).body
    return signing.sign(
        Head(one["fleet"], one["root_version"], pair, head["manifest_version"], head["digest"]), known, now
    )


def _of_file(path: Path, previous: Path | None, settings: NodeSettings, signing: _Signing) -> Freshness:
    """Sign for a manifest that lies in a file; a root, if one is named, says for which fleet."""
    from p2pboot.cli.files import naming_manifest, read_start
    from p2pboot.core.clock import effective_now
    from p2pboot.core.manifest import Manifest
    from p2pboot.core.trustdocs.rootbody import NO_FLEET
    from p2pboot.publish.freshness import Head

    with naming_manifest(path):
        manifest = Manifest.parse(read_start(path, _MAX_MANIFEST, what="manifest"))
    if signing.key.public.keyid in manifest.signers:
        raise UsageError(
            "this key has signed the manifest: it is no freshness key",
            remedy="make one of its own: p2pboot key generate --key FILE",
        )
    pair, fleet, version = (manifest.channel, manifest.arch), NO_FLEET, 0
    if settings.roots:
        publisher = settings.policy.publisher_for(*pair)
        rule = None if publisher is None else publisher.freshness
        if publisher is None or rule is None or signing.key.public.keyid not in rule.keys:
            raise UsageError(
                f"the root does not name {signing.key.public.keyid} to say what is fresh of {'/'.join(pair)}",
                remedy="have it added (p2pboot root add-key freshness), or use a key that it names",
            )
        if not publisher.is_met_by(manifest.signers):
            raise UsageError(
                f"{path} is not signed by enough of who may publish {'/'.join(pair)}",
                remedy="vouch for a manifest that machines take; `p2pboot manifest verify` says what is missing",
            )
        if publisher.fleet is None:
            raise UsageError(
                "this version of the root does not say what the fleet is called",
                remedy="name version 1, or one that was made from it by p2pboot root",
            )
        fleet, version = publisher.fleet, publisher.root_version
    clock = effective_now(wall_clock()(), None)
    if not clock.trusted:
        raise UsageError(
            "this machine's clock can not be believed, so nothing can be said of what is new",
            remedy="set this machine's clock",
        )
    known = None if previous is None else _read(previous).body
    if known is not None and (known.fleet, known.pair) != (fleet, pair):
        raise UsageError(
            f"{previous} is of {'/'.join(known.pair)} or of another fleet",
            remedy="name the last statement of the same channel and arch",
        )
    if known is None and signing.says_no_minimum:
        warn(
            f"{'/'.join(pair)}: it asks for no lowest version; if one was asked for before, the two statements are"
            " evidence against this key: name the last one (--previous), or say --minimum"
        )
    head = Head(fleet, version, pair, manifest.manifest_version, manifest.digest)
    return signing.sign(head, known, clock.now)


@freshness.command(cls=Command)
@click.argument("file", type=FILE, required=False)
@setting_options("store.state")
@trust_options
@config_option
@json_option
@verbosity_options
def show(file: Path | None, config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Show a statement in FILE ("-": standard input), or the newest ones that the state knows: what, by whom, how old.

    That somebody signed it does not say that he has a say: `status` and `manifest verify` judge. A node may run with
    the same state.
    """
    from p2pboot.core.clock import effective_now

    if file is not None:
        statements, clock = [_read(file)], effective_now(wall_clock()(), None)
    else:
        statements, clock = _of_state(params, config_path)
    from p2pboot.node.statements import described

    shown = [described(one, clock.now if clock.trusted else None) for one in statements]
    if as_json:
        emit_json({"ok": True, "clock": {"now": clock.now, "trusted": clock.trusted}, "statements": shown})
        return
    if not shown:
        say("no freshness statement is known")
    for number, one in enumerate(shown):
        if number:
            say()
        _say_statement(one)


def _of_state(params: dict[str, Any], config_path: Path | None) -> tuple[list[Freshness], Clock]:
    from p2pboot.config.load import load_settings
    from p2pboot.core.trust import Trust
    from p2pboot.node.statements import kept
    from p2pboot.store.catalogue import Catalogue
    from p2pboot.store.store import Store

    settings = load_settings(overrides_of(params), config_path)
    with Store.read(settings.store.state) as store:
        catalogue = Catalogue(store, Trust(settings.policy), wall_clock())
        return kept(store), catalogue.clock()


def _say_statement(one: Mapping[str, Any]) -> None:
    from p2pboot.core.amounts import duration_text

    if one["age_s"] is None:
        age = "nobody can tell how long ago: this machine's clock can not be believed"
    else:
        age = f"{duration_text(one['age_s'])} ago by this machine's clock"
    fleet = f"fleet {one['fleet']}, root version {one['root_version']}" if one["root_version"] else "no root"
    say(f"of         {one['channel']}/{one['arch']}  {fleet}")
    say(f"head       manifest version {one['head']['manifest_version']}  sha256:{one['head']['digest']}")
    say(f"minimum    manifest version {one['minimum']}")
    say(f"signed     {one['created_at']}, {age}")
    say(f"valid      until {one['valid_until']}")
    if one["paused_since"] is not None:
        say(f"paused     since {one['paused_since']}")
    for signer in one["signers"]:
        say(f"signer     {signer}")


def _say_signed(signed: list[Freshness], now: int, *, as_json: bool) -> None:
    from p2pboot.node.statements import described

    if as_json:
        emit_json({"ok": True, "statements": [described(one, now) for one in signed]})
        return
    for one in signed:
        body = one.body
        say(
            f"vouched    {body.channel}/{body.arch}  manifest version {body.head_version},"
            f" nothing below {body.minimum}, until {described(one, now)['valid_until']}"
        )


def _write(statement: Freshness, out: Path | None, *, as_json: bool) -> None:
    from p2pboot.cli.files import write_output

    if as_json and out is None:
        raise UsageError("--json and the statement can not both be printed", remedy="name a file with --out")
    write_output(out, statement.raw)
    if out is not None:
        _say_signed([statement], statement.body.created_at, as_json=as_json)


def _read(path: Path) -> Freshness:
    from p2pboot.cli.files import naming, read_start
    from p2pboot.core.trustdocs.freshness import MAX_FRESHNESS, Freshness

    what = "freshness statement"
    raw = read_start(path, MAX_FRESHNESS + 2, what=what).rstrip(b"\n")
    with naming(path, what=what, remedy="get it again, unchanged, from whoever signed it"):
        return Freshness.parse(raw)


def _seconds(text: str) -> int:
    from p2pboot.config.values import freshness_validity_s

    try:
        return freshness_validity_s(text, Path())
    except ValueError as error:
        raise UsageError(f"--valid: {error}", remedy="give it as 24h or 3d") from None


@contextmanager
def _statements(settings: NodeSettings) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """Whom to ask: the node that runs with the state, or the state itself where none does."""
    from p2pboot.node.control import request, running

    state = settings.store.state
    if running(state) is not None:
        yield lambda message: request(state, message, _TIMEOUT_S)
        return
    if settings.trusts_nobody:
        raise NotFoundError(
            f"no node is running with the state directory {state}",
            remedy="start one, or say whom its manifests are trusted of: --root FILE, or --config FILE",
        )
    from p2pboot.core.trust import Trust
    from p2pboot.node.statements import StatementDesk
    from p2pboot.store.catalogue import Catalogue
    from p2pboot.store.recovery import open_existing
    from p2pboot.store.trustgate import TrustGate

    with open_existing(state) as store:
        store.lock()
        catalogue = Catalogue(store, Trust(settings.policy), wall_clock())
        here: StatementDesk = StatementDesk(store, catalogue, TrustGate(store, catalogue))
        yield here.answer
