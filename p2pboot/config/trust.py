"""`[[trust]]` tables and `--trust` options to publishers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from p2pboot.config import values
from p2pboot.core.identity import parse_keyid
from p2pboot.core.policy import Publisher

T = TypeVar("T")
_NOWHERE = Path()


def publisher(table: Mapping[str, object]) -> Publisher:
    """One `[[trust]]` table, whose member names were checked already.

    Raises:
        ValueError: "<member>: must be …".
        ConfigError: a threshold that the keys can not reach.
    """
    if "keys" not in table:
        raise ValueError("keys is missing: list the key ids of the publisher")
    return Publisher(
        keys=_read(table, "keys", key_ids, ()),
        threshold=_read(table, "threshold", lambda value: values.integer(value, _NOWHERE), 1),
        channels=_read(table, "channels", _some, None),
        archs=_read(table, "archs", _some, None),
        name=_read(table, "name", lambda value: values.provider_name(value, _NOWHERE), None),
    )


def key_ids(value: object) -> tuple[str, ...]:
    """Key ids in any accepted form (`ed25519:<hex>`, bare hex, peer id) as `ed25519:<hex>`.

    Raises:
        ValueError: no list, an empty one, or what is no key id.
    """
    texts = values.strings(value)
    if not texts:
        raise ValueError("must name at least one key id")
    return tuple(parse_keyid(text).keyid for text in texts)


def _some(value: object) -> tuple[str, ...]:
    items = values.strings(value)
    if not items:
        raise ValueError("must not be an empty list; leave it out to allow all")
    return items


def _read(table: Mapping[str, object], name: str, parse: Callable[[object], T], default: T) -> T:
    if name not in table:
        return default
    try:
        return parse(table[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
