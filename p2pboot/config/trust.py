"""`[[trust]]` tables and `--trust` options to publishers; each key of such a table is declared here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from p2pboot.config import values
from p2pboot.config.setting import Setting
from p2pboot.core.policy import Publisher
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
        default_words="required",
        example=_EXAMPLE_KEYS,
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


def publisher(table: Mapping[str, object]) -> Publisher:
    """One `[[trust]]` table, whose member names were checked already.

    Raises:
        ValueError: "<member>: must be …".
        ConfigError: a threshold that the keys can not reach.
    """
    if "keys" not in table:
        raise ValueError("keys is missing: list the key ids of the publisher")
    members: dict[str, Any] = {}
    for name in (name for name in PUBLISHER if name in table):
        try:
            members[attribute_of(name)] = PUBLISHER[name].parse(table[name], Path())
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return Publisher(**members)


def attribute_of(name: str) -> str:
    """What a publisher calls a key of the table."""
    return PUBLISHER[name].attribute or name


def max_lifetime_of_option(said: str) -> int:
    """The seconds that `--max-lifetime` says; UsageError when it says none."""
    try:
        return values.duration_s(said, Path())
    except ValueError as error:
        raise UsageError(f"--max-lifetime: {error}", remedy="give it as 400d or 2w") from None


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
