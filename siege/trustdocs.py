"""Trust documents of a siege: the root that the node lives by, and what those sign who have a say, or none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from p2pboot.core.identity import SecretKey
from p2pboot.core.trustdocs.envelope import unsigned
from p2pboot.core.trustdocs.freshness import FreshnessBody
from p2pboot.core.trustdocs.rootbody import FreshnessRule, PublishRole, Role, RootBody
from p2pboot.core.trustdocs.yank import YankBody
from p2pboot.testing.trustdocs import signed_document
from siege.target import ARCH

_DAY_S = 86_400
_VALID_S = 3600


def root(keys: Sequence[SecretKey], channels: dict[str, str], vouching: SecretKey, **said: Any) -> bytes:
    """A root of now, signed by all of its keys.

    Args:
        keys: the root keys.
        channels: who publishes each, by key id.
        vouching: says for each what is fresh.
        said: members in place of the usual.
    """
    now = int(time.time())
    rule = FreshnessRule((vouching.public.keyid,))
    publish = tuple(
        PublishRole((keyid,), channels=(channel,), archs=(ARCH,), freshness=rule)
        for channel, keyid in channels.items()
    )
    usual: dict[str, Any] = {
        "name": "siege",
        "version": 1,
        "created_at": now - 60,
        "expires_at": now + _DAY_S,
        "root": Role(tuple(sorted(key.public.keyid for key in keys)), len(keys)),
        "publish": publish,
    }
    body = RootBody(**{**usual, **said})
    return signed_document(body.document(), keys)


def statement(key: SecretKey, fleet: str, channel: str, **said: Any) -> bytes:
    """A freshness statement of now that names what nobody has, unless `said` says otherwise."""
    now = int(time.time())
    usual: dict[str, Any] = {
        "fleet": fleet,
        "root_version": 1,
        "channel": channel,
        "arch": ARCH,
        "created_at": now,
        "valid_until": now + _VALID_S,
        "head_version": 1,
        "head_digest": "0" * 64,
        "minimum": 1,
        "signers": (key.public.keyid,),
    }
    return signed_document(FreshnessBody(**{**usual, **said}).document(), [key])


def yank(key: SecretKey, fleet: str, channel: str, content: str) -> bytes:
    """A yank of now."""
    said = YankBody(
        fleet=fleet,
        channel=channel,
        arch=ARCH,
        content=content,
        reason="x" * 500,
        created_at=int(time.time()),
    )
    return signed_document(said.document(), [key])


def padded(raw: bytes, key: SecretKey, size: int) -> bytes:
    """The same, signed anew, with a member that nobody knows, up to a size in bytes."""
    members = msgspec.json.decode(raw)
    del members["signatures"]
    room = size - len(raw) - 200
    many = {f"{number:05x}": number for number in range(max(room, 0) // 16)}
    return signed_document(unsigned({**members, "x": many}), [key])
