"""Options of the commands that make a root, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.options import FILE, Decorator, options
from p2pboot.cli.output import note, warn
from p2pboot.errors import SignatureError, UsageError

if TYPE_CHECKING:
    from p2pboot.core.trustdocs.editing import Which
    from p2pboot.core.trustdocs.rootbody import PublishRole, RootBody
    from p2pboot.publish.roots import KnownHead

_YEAR_S: Final = 365 * 86_400
_FLOOR: Final = re.compile(r"([^/=]+)/([^/=]+)=([0-9]{1,16})")


def _key_ids(name: str, words: str) -> Decorator[Any]:
    return click.option(name, multiple=True, metavar="KEYID", help=f"{words}; repeatable.")


which_options: Decorator[Any] = options(
    click.option(
        "--channel",
        "channels",
        multiple=True,
        metavar="NAME",
        help="Of the publish role for it; repeatable.  [default: all; the only role]",
    ),
    click.option(
        "--arch",
        "archs",
        multiple=True,
        metavar="ARCH",
        help="Of the publish role for it; repeatable.  [default: all; the only role]",
    ),
)


def say_options(*, of_first: bool) -> Decorator[Any]:
    """What a root says.

    Args:
        of_first: of version 1, which has defaults; else what is not said stays as it is.
    """

    def else_(default: str) -> str:
        return f"  [default: {default if of_first else 'as it was'}]"

    return options(
        _key_ids("--root-key", "Key that signs roots"),
        click.option(
            "--threshold",
            type=int,
            metavar="N",
            help=f"How many root keys must sign.{else_('1 of 1; required of several')}",
        ),
        _key_ids("--publish-key", "Key that signs manifests"),
        click.option(
            "--publish-threshold",
            type=int,
            metavar="N",
            help=f"How many of them must sign.{else_('1')}",
        ),
        _key_ids("--freshness-key", "Key that says what the newest manifest is"),
        click.option(
            "--freshness-required/--no-freshness-required",
            "freshness_required",
            default=None,
            help=f"Take nothing without such a statement that is young enough.{else_('off')}",
        ),
        click.option(
            "--max-age", metavar="DURATION", help=f"How old the newest statement may be.{else_('7d')}"
        ),
        _key_ids("--snapshot-key", "Key that announces snapshots"),
        click.option("--snapshot-threshold", type=int, metavar="N", help=f"How many of them.{else_('1')}"),
        click.option(
            "--expires-in",
            metavar="DURATION|never",
            help=f"How long this version is valid.{else_('1y').replace('as it was', 'as long as it was')}",
        ),
        click.option(
            "--on-expiry",
            type=click.Choice(["warn", "refuse"]),
            help=f"What machines do after that.{else_('warn')}",
        ),
    )


heads_options: Decorator[Any] = options(
    click.option(
        "--state",
        "state_path",
        type=FILE,
        metavar="DIR",
        help="State of a node, which is only read: what is published now.",
    ),
    click.option(
        "--manifest",
        "manifest_paths",
        type=FILE,
        multiple=True,
        metavar="FILE",
        help="Manifest that is published, or was signed anew; repeatable.",
    ),
    click.option(
        "--floor",
        "floors",
        multiple=True,
        metavar="CHANNEL/ARCH=N",
        help="Lowest manifest version that is to be taken there, 0 for any; repeatable.",
    ),
)


def which_of(channels: Iterable[str], archs: Iterable[str]) -> Which:
    """The publish role that is meant.

    Raises:
        UsageError: an option names no channel or no architecture.
    """
    from p2pboot.core.names import check_name, normalise_arch
    from p2pboot.core.trustdocs.editing import Which

    try:
        return Which(
            tuple(sorted({check_name(name, "channel") for name in channels})),
            tuple(sorted({normalise_arch(arch) for arch in archs})),
        )
    except ValueError as error:
        raise UsageError(str(error), remedy="correct --channel or --arch") from None


def key_ids(texts: Iterable[str], option: str) -> tuple[str, ...]:
    """Key ids in their one form, sorted.

    Raises:
        UsageError: one is none.
    """
    from p2pboot.config import values

    try:
        return tuple(sorted(values.key_ids(tuple(texts), Path())))
    except ValueError as error:
        raise UsageError(f"{option}: {error}", remedy="p2pboot key show prints a key's id") from None


def duration_of(text: str, option: str) -> int:
    """Seconds; "1y" is 365 days.

    Raises:
        UsageError: it is no duration.
    """
    from p2pboot.config import values

    years = re.fullmatch(r"([0-9]{1,2})y", text)
    try:
        return values.duration_s(int(years[1]) * _YEAR_S if years else text, Path())
    except ValueError as error:
        raise UsageError(f"{option}: {error}", remedy="give it as 1y, 90d or 12h") from None


def lifetime_of(text: str | None) -> int | None:
    """What `--expires-in` says: seconds, 0 for ever; None where it was not given."""
    if text is None:
        return None
    return 0 if text == "never" else duration_of(text, "--expires-in")


def floors_of(texts: Iterable[str]) -> dict[tuple[str, str], int]:
    """What `--floor` says, by channel and arch.

    Raises:
        UsageError: it is not of that form.
    """
    found = {}
    for text in texts:
        match = _FLOOR.fullmatch(text)
        if match is None:
            raise UsageError(
                f"--floor: {text[:80]!r} is not of the form CHANNEL/ARCH=N",
                remedy="give it as stable/x86_64=17",
            )
        which = which_of([match[1]], [match[2]])
        found[which.channels[0], which.archs[0]] = int(match[3])
    return found


def said_of(body: RootBody, said: dict[str, Any], which: Which, *, adds_publisher: bool) -> RootBody:
    """A root with what the options of `say_options` say, and no more.

    Args:
        body: what it says before.
        said: the options by their parameters.
        which: publish role they are about.
        adds_publisher: they make another one.

    Raises:
        UsageError: they can not be about it.
    """
    from p2pboot.core.trustdocs.editing import with_publish_role
    from p2pboot.core.trustdocs.rootbody import PublishRole, Role

    root_keys = key_ids(said["root_key"], "--root-key") or body.root.keys
    threshold = said["threshold"]
    body = replace(body, root=Role(root_keys, body.root.threshold if threshold is None else threshold))
    publish_keys = key_ids(said["publish_key"], "--publish-key")
    if adds_publisher and not publish_keys:
        raise UsageError(
            "the new publish role has no key", remedy="name who signs its manifests: --publish-key KEYID"
        )
    if adds_publisher:
        new = PublishRole(publish_keys, 1, which.channels or None, which.archs or None)
        body = with_publish_role(body, _published(new, said))
    elif publish_keys or any(said[name] not in (None, ()) for name in _OF_PUBLISHER):
        index = which.index_in(body)
        old = body.publish[index]
        body = with_publish_role(body, _published(replace(old, keys=publish_keys or old.keys), said), index)
    snapshot_keys = key_ids(said["snapshot_key"], "--snapshot-key")
    if snapshot_keys or said["snapshot_threshold"] is not None:
        old_role = body.snapshots or Role((), 1)
        number = said["snapshot_threshold"]
        body = replace(
            body,
            snapshots=Role(snapshot_keys or old_role.keys, old_role.threshold if number is None else number),
        )
    return body if said["on_expiry"] is None else replace(body, on_expiry=said["on_expiry"])


_OF_PUBLISHER: Final = ("publish_threshold", "freshness_key", "freshness_required", "max_age")


def _published(role: PublishRole, said: dict[str, Any]) -> PublishRole:
    from p2pboot.core.trustdocs.rootbody import FreshnessRule

    threshold = said["publish_threshold"]
    role = replace(role, threshold=role.threshold if threshold is None else threshold)
    keys = key_ids(said["freshness_key"], "--freshness-key")
    required, max_age = said["freshness_required"], said["max_age"]
    if not keys and required is None and max_age is None:
        return role
    rule = role.freshness or FreshnessRule(())
    if not keys and not rule.keys:
        raise UsageError(
            "nobody says what is fresh, so it can not be required",
            remedy="name who does: --freshness-key KEYID",
        )
    return replace(
        role,
        freshness=FreshnessRule(
            keys or rule.keys,
            rule.required if required is None else required,
            rule.max_age_s if max_age is None else duration_of(max_age, "--max-age"),
        ),
    )


def heads_of(state: Path | None, manifests: Iterable[Path]) -> list[KnownHead]:
    """What is published, as a state and manifests say.

    Raises:
        UsageError: there is no such state or file.
        Malformed, SignatureError: a manifest is none, or lacks signatures. The message names the file.
        StoreError, MachineError: the state can not be read.
    """
    from p2pboot.cli.files import naming_manifest, read_start
    from p2pboot.core.manifest import MAX_MANIFEST, Manifest
    from p2pboot.publish.roots import head_of_manifest, heads_of_state
    from p2pboot.store.store import Store

    heads: list[KnownHead] = []
    if state is not None:
        with Store.read(state) as store:
            heads += heads_of_state(store)
    for path in manifests:
        raw = read_start(path, MAX_MANIFEST + 1, what="manifest")
        with naming_manifest(path):
            heads.append(head_of_manifest(Manifest.parse(raw), str(path)))
    return heads


def rotated(
    before: RootBody,
    after: RootBody,
    heads: list[KnownHead],
    said: dict[tuple[str, str], int],
    *,
    is_known: bool,
    force: bool,
) -> RootBody:
    """A root with the floors that follow from what is published; refuses to take the fleet down.

    Args:
        before: the root in force.
        after: the next one.
        heads: what is published.
        said: floors that the operator names.
        is_known: whether he said what is published.
        force: go on although there would be nothing to boot.

    Raises:
        SignatureError: manifests would lose their threshold, and are named.
        UsageError: it is not known what is published, or what becomes a floor can not be one.
    """
    from p2pboot.core.names import is_next
    from p2pboot.core.trustdocs.editing import with_floors
    from p2pboot.publish.roots import effects, takes_away

    named = [(channel, arch, number) for (channel, arch), number in said.items()]
    if not takes_away(before, after):
        return with_floors(after, named)
    if not is_known and not force:
        raise UsageError(
            "what is published is not known here, and some of it may not count any more",
            remedy="name a node's state (--state DIR) or the manifests in force (--manifest FILE);"
            " --force if nothing is published",
        )
    found = effects(before, after, heads, wall_now(), said)
    lost = [one for one in found if one.lost is not None]
    for one in found:
        if one.lost is not None:
            warn(
                f"{one.shown}: version {one.lost.manifest_version} ({one.lost.source}), signed by"
                f" {', '.join(one.lost.signers)}, would not count any more"
            )
    # Where a roll-out's manifest does not count, machines take what its channel has.
    bare = [one for one in lost if not is_next(one.pair[0])]
    if bare and not force:
        shown = ", ".join(one.shown for one in bare)
        raise SignatureError(
            f"machines would find nothing to boot any more for {shown}",
            remedy="have it signed anew by keys that stay, and give that: --manifest FILE; or --force",
        )
    floors = [(*one.pair, one.floor) for one in found if one.floor and one.pair not in said]
    for channel, arch, number in floors:
        if number != after.floor(channel, arch):
            note(f"{channel}/{arch}: nothing below version {number} will be taken")
    return with_floors(after, [*floors, *named])
