"""Roots, freshness statements and yanks: of fixed keys and times, and every field at the caller's choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, content_digest
from p2pboot.core.trustdocs.envelope import add_signature, unsigned
from p2pboot.core.trustdocs.freshness import VALID_S, Freshness, FreshnessBody
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import NO_FLEET, FreshnessRule, PublishRole, Role, RootBody
from p2pboot.core.trustdocs.yank import Yank, YankBody
from p2pboot.testing.manifests import CREATED, DAY_S, NOW, key_of

ROOT_KEYS: Final = tuple(key_of(f"root {number}") for number in (1, 2, 3))
FRESH: Final = key_of("freshness")


def signed_document(raw: bytes, keys: Sequence[SecretKey]) -> bytes:
    """Have all of these keys sign a document."""
    for key in keys:
        raw = add_signature(raw, key)
    return raw


def root_body(*, keys: Sequence[SecretKey] = ROOT_KEYS, threshold: int = 2, **said: Any) -> RootBody:
    """What version 1 of a root says: 2 of 3 root keys, and the key of "publisher" with a freshness key.

    Args:
        keys: the root keys.
        threshold: how many of them must sign.
        said: fields of `RootBody` in place of the usual.
    """
    usual = PublishRole(
        (key_of("publisher").public.keyid,),
        channels=("stable",),
        archs=("x86_64",),
        freshness=FreshnessRule((FRESH.public.keyid,)),
    )
    facts: dict[str, Any] = {
        "name": "test fleet",
        "version": 1,
        "created_at": CREATED,
        "expires_at": NOW + 365 * DAY_S,
        "root": Role(tuple(sorted(key.public.keyid for key in keys)), threshold),
        "publish": (usual,),
        **said,
    }
    return RootBody(**facts)


def signed_root(body: RootBody | None = None, keys: Sequence[SecretKey] = ROOT_KEYS[:2]) -> Root:
    """A root, signed."""
    return Root.parse(signed_document((body or root_body()).document(), keys))


def chain_of(
    length: int, body: RootBody | None = None, keys: Sequence[SecretKey] = ROOT_KEYS[:2]
) -> list[Root]:
    """Roots that follow each other from version 1 on, and say the same but for version and fleet."""
    first = signed_root(body, keys)
    return [first, *_following(first, length - 1, keys)]


def _following(root: Root, count: int, keys: Sequence[SecretKey]) -> Iterator[Root]:
    for version in range(root.version + 1, root.version + 1 + count):
        body = replace(
            root.body, version=version, fleet=root.fleet, created_at=root.body.created_at + version
        )
        yield signed_root(body, keys)


def next_root(root: Root, keys: Sequence[SecretKey] = ROOT_KEYS[:2], **changes: Any) -> Root:
    """The root after another one; `changes` of `RootBody`."""
    body = replace(root.body, **{"version": root.version + 1, "fleet": root.fleet, **changes})
    return signed_root(body, keys)


def statement_of(
    manifest: Manifest, root: Root | None = None, keys: Sequence[SecretKey] = (FRESH,), **said: Any
) -> Freshness:
    """A freshness statement that names a manifest as the newest; `said` as for `FreshnessBody`."""
    facts: dict[str, Any] = {
        "fleet": NO_FLEET if root is None else root.fleet,
        "root_version": 0 if root is None else root.version,
        "channel": manifest.channel,
        "arch": manifest.arch,
        "created_at": NOW - 60,
        "head_version": manifest.manifest_version,
        "head_digest": manifest.digest,
        "minimum": manifest.manifest_version,
        "signers": tuple(key.public.keyid for key in keys),
        **said,
    }
    facts.setdefault("valid_until", facts["created_at"] + VALID_S)
    return Freshness.parse(signed_document(FreshnessBody(**facts).document(), keys))


def yank_of(
    manifest: Manifest,
    root: Root | None = None,
    keys: Sequence[SecretKey] = (),
    *,
    padding: int = 0,
    **said: Any,
) -> Yank:
    """A yank of a manifest's content, by default by the key of "publisher"; `said` as for `YankBody`.

    Args:
        manifest: whose content.
        root: of the fleet; None without one.
        keys: sign it.
        padding: bytes of a member that nobody knows.
        said: in place of what is usual.
    """
    facts: dict[str, Any] = {
        "fleet": NO_FLEET if root is None else root.fleet,
        "channel": manifest.channel,
        "arch": manifest.arch,
        "content": content_digest(manifest),
        "reason": "does not boot",
        "created_at": NOW - 60,
        **said,
    }
    members = {**YankBody(**facts).members(), **({"padding": "x" * padding} if padding else {})}
    return Yank.parse(signed_document(unsigned(members), keys or (key_of("publisher"),)))
