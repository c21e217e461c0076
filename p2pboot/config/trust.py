"""`[[trust]]` tables and `--trust` options to publishers; each key of such a table is declared here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from p2pboot.config import values
from p2pboot.config.setting import Setting
from p2pboot.core.policy import Publisher, TrustedRoot
from p2pboot.core.trustdocs.rootbody import DEFAULT_MAX_AGE_S, FreshnessRule
from p2pboot.errors import ConfigError, UsageError

TRUST = "trust"
KEY_ID_REMEDY = "`p2pboot key show` on the publisher's machine prints its key id"
_EXAMPLE_KEYS = [
    "ed25519:8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c",
    "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq",
]

_DECLARED = (
    Setting(
        name="keys",
        parse=values.some_key_ids,
        text="Key ids of the publisher.",
        default_words="required, unless `root` is given",
        example=_EXAMPLE_KEYS,
    ),
    Setting(
        name="root",
        attribute="anchor",
        parse=values.root_anchor,
        text="In place of `keys`: the root that names publishers, as its file or as `sha256:` and the digest of one of"
        " its versions. Keys, thresholds and freshness are the root's to say; `channels` and `archs` follow only part"
        " of what it names ([trust.md](trust.md)).",
        default_words="none",
        example="sha256:7b2dd1b2a3d2a0bbbd8c4f0a4c5a0b3fd9d5e94b7a57b1a0c2b28f7a31a4f9c1",
    ),
    Setting(
        name="freshness",
        parse=values.some_key_ids,
        text="Who says with a freshness statement what the newest manifest is. A root says that itself.",
        default_words="nobody",
        example=_EXAMPLE_KEYS[:1],
    ),
    Setting(
        name="freshness_required",
        parse=values.boolean,
        default=False,
        text="Take nothing without such a statement that is young enough.",
    ),
    Setting(
        name="max_age",
        attribute="max_age_s",
        parse=values.duration_s,
        default="7d",
        text="How old the newest freshness statement may be.",
    ),
    Setting(
        name="threshold",
        parse=values.integer,
        default=1,
        text="How many of these keys must have signed a manifest.",
    ),
    Setting(
        name="channels",
        parse=values.some_names,
        text="The channels that it may publish. `mirror` follows these.",
        default_words="all",
        example=["stable", "testing"],
    ),
    Setting(
        name="archs",
        parse=values.some_names,
        text="The architectures that it may publish for. `mirror` follows these.",
        default_words="all",
        example=["arm64", "x86_64"],
    ),
    Setting(
        name="max_lifetime",
        attribute="max_lifetime_s",
        parse=values.duration_s,
        default="400d",
        text="How long its manifests may be valid for, from their creation to their expiry. What is valid for longer is"
        " refused: whoever keeps machines from newer manifests could go on for as long.",
    ),
    Setting(
        name="quota",
        attribute="quota_bytes",
        parse=values.bounded_size_bytes,
        text="How much of the store its artifacts may take. Nobody's images are removed for another's; whoever signs"
        " more than that has to wait, or is told in `status`.",
        default_words="all; of several publishers each an equal part of what the store may hold",
        example="20GB",
    ),
    Setting(
        name="max_pairs",
        parse=values.pair_count,
        default=64,
        text="How many channels and architectures of it a node takes up, beside those that are named here or by"
        " `--channel`.",
    ),
    Setting(name="name", parse=values.provider_name, text="What messages call it.", example="release team"),
)
PUBLISHER = {one.name: one for one in _DECLARED}
"""The keys of a `[[trust]]` table, which are the attributes of `core.policy.Publisher` where no other is named."""


OF_ROOT = ("root", "channels", "archs", "max_lifetime", "quota", "max_pairs", "name")
"""What a table with `root` may say besides: all else the root says. Channels and archs only ever limit what it says."""


def publisher(table: Mapping[str, object], base: Path = Path()) -> Publisher | TrustedRoot:
    """One `[[trust]]` table, whose member names were checked already: a publisher, or a root that names some.

    Args:
        table: it.
        base: the directory of the configuration file.

    Raises:
        ValueError: "<member>: must be …".
        ConfigError: a threshold that the keys can not reach.
    """
    if "keys" not in table and "root" not in table:
        raise ValueError("keys is missing: list the key ids of the publisher, or name a root")
    members: dict[str, Any] = {}
    for name in (name for name in PUBLISHER if name in table):
        if "root" in table and name not in OF_ROOT:
            raise ValueError(f"{name}: not beside root, which says it itself")
        try:
            members[attribute_of(name)] = PUBLISHER[name].parse(table[name], base)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if "root" in table:
        return TrustedRoot(**members)
    rule = {"keys": members.pop("freshness", None)}
    rule |= {
        attribute: members.pop(name)
        for name, attribute in (("freshness_required", "required"), ("max_age_s", "max_age_s"))
        if name in members
    }
    if rule["keys"] is None and len(rule) > 1:
        raise ValueError("freshness is missing: name who says what is fresh")
    return Publisher(**members, freshness=None if rule["keys"] is None else FreshnessRule(**rule))


def attribute_of(name: str) -> str:
    """What a publisher calls a key of the table."""
    return PUBLISHER[name].attribute or name


def max_lifetime_of_option(said: str) -> int:
    """The seconds that `--max-lifetime` says; UsageError when it says none."""
    try:
        return values.duration_s(said, Path())
    except ValueError as error:
        raise UsageError(f"--max-lifetime: {error}", remedy="give it as 400d or 2w") from None


def roots_of_options(anchors: Iterable[str]) -> tuple[TrustedRoot, ...]:
    """The roots that `--root` names; UsageError where one is none."""
    try:
        return tuple(TrustedRoot(values.root_anchor(text, Path())) for text in anchors)
    except ValueError as error:
        raise UsageError(
            f"--root: {error}",
            remedy="give the file of a root, or sha256: and the digest of one of its versions",
        ) from None


def freshness_of_options(
    key_ids: Iterable[str], max_age: str | None, *, required: bool
) -> FreshnessRule | None:
    """Who says what is fresh, by `--freshness`, `--max-age` and `--freshness-required`; UsageError when they do not."""
    keys = tuple(key_ids)
    if not keys:
        if required or max_age is not None:
            raise UsageError(
                "--freshness-required and --max-age belong to --freshness, and no --freshness was given",
                remedy="name who says what is fresh: --freshness KEYID",
            )
        return None
    try:
        parsed = values.some_key_ids(keys, Path())
    except ValueError as error:
        raise UsageError(f"--freshness: {error}", remedy=KEY_ID_REMEDY) from None
    try:
        age_s = DEFAULT_MAX_AGE_S if max_age is None else values.duration_s(max_age, Path())
    except ValueError as error:
        raise UsageError(f"--max-age: {error}", remedy="give it as 7d or 12h") from None
    return FreshnessRule(parsed, required, age_s)


def publisher_of_options(key_ids: Iterable[str], threshold: int | None) -> Publisher:
    """The one publisher that `--trust` and `--threshold` describe; UsageError when they do not."""
    try:
        keys = values.some_key_ids(tuple(key_ids), Path())
    except ValueError as error:
        raise UsageError(f"--trust: {error}", remedy=KEY_ID_REMEDY) from None
    try:
        return Publisher(keys, 1 if threshold is None else threshold)
    except ConfigError as error:
        raise UsageError(f"--threshold: {error.message}", remedy=error.remedy) from None
