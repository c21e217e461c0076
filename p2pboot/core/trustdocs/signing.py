"""Signing a root: whether it may be signed at all, by this key, and whose signatures are still missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import SecretKey
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.envelope import (
    MAX_SIGNATURES,
    add_signature,
    only_signatures_of,
    with_signatures,
)
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import Role
from p2pboot.errors import SignatureError

MAX_AHEAD_S: Final = 600
"""How far `created_at` may lie ahead of the signer's clock: clocks differ, by minutes at most."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Signatures of one version's root keys that a root lacks.

    Args:
        version: whose root keys.
        count: how many are missing; 0 for none.
        threshold: how many are needed.
        keys: key ids of those who have not signed.
    """

    version: int
    count: int
    threshold: int
    keys: tuple[str, ...]

    @property
    def line(self) -> str:
        """For people."""
        has = self.threshold - self.count
        if not self.count:
            return f"version {self.version}'s root keys: enough, {self.threshold} were needed"
        return (
            f"version {self.version}'s root keys: {has} of {self.threshold} signatures, {self.count} missing, of"
            f" {', '.join(self.keys)}"
        )

    def to_json(self) -> dict[str, object]:
        """For scripts."""
        return {
            "version": self.version,
            "missing": self.count,
            "threshold": self.threshold,
            "keys": list(self.keys),
        }


def roles_of(root: Root, before: Root | None) -> tuple[tuple[int, Role], ...]:
    """Whose thresholds a root has to meet: those of the version before, if there is one, and its own."""
    own = (root.version, root.body.root)
    return (own,) if before is None else ((before.version, before.body.root), own)


def missing(root: Root, before: Root | None) -> tuple[Missing, ...]:
    """What a root lacks, by version.

    Args:
        root: it.
        before: the version before it; None for version 1.
    """
    found = []
    for version, role in roles_of(root, before):
        without = tuple(key for key in role.keys if key not in root.signed_by)
        has = len(role.keys) - len(without)
        found.append(Missing(version, max(role.threshold - has, 0), role.threshold, without))
    return tuple(found)


def check_follows(root: Root, before: Root | None) -> None:
    """See that a root is the next version of the one before.

    Raises:
        SignatureError: it is not, and nobody must sign it.
    """
    if before is None:
        if root.version != 1:
            raise SignatureError(
                f"root version {root.version} does not stand alone: what it changes can not be shown",
                remedy=f"give version {root.version - 1}: --from FILE",
            )
        return
    if root.version != before.version + 1:
        raise SignatureError(
            f"root version {root.version} does not follow version {before.version}",
            remedy="begin anew from the newest version: p2pboot root set FILE --out NEW",
        )
    if root.fleet is not None and before.fleet is not None and root.fleet != before.fleet:
        raise SignatureError(
            f"root version {root.version} is of the fleet {root.fleet}, and version {before.version} is of"
            f" {before.fleet}",
            remedy="give the version before of the same fleet: --from FILE",
        )
    if root.fleet is None:
        raise SignatureError(
            f"root version {root.version} does not say of which fleet it is",
            remedy="make it with p2pboot root set, add-key or remove-key, which write it",
        )
    old, new = set(before.body.root.keys), set(root.body.root.keys)
    first, second = before.body.root.threshold, root.body.root.threshold
    needed = max(first, second, first + second - len(old & new))
    if needed > MAX_SIGNATURES:
        raise SignatureError(
            f"root version {root.version} would need {needed} signatures, and no document has more than"
            f" {MAX_SIGNATURES}",
            remedy="replace the root keys in two versions, one half after the other",
        )


def check_dates(root: Root, before: Root | None, now: int) -> None:
    """See that nobody signs what nobody takes, or what was made with a wrong clock.

    Args:
        root: to be signed.
        before: the version before it.
        now: unix seconds.

    Raises:
        SignatureError: it has expired, or is dated later than now, or earlier than the version before.
    """
    body = root.body
    if body.expires_at is not None and body.expires_at <= now:
        raise SignatureError(
            f"root version {root.version} expired at {format_time(body.expires_at)}, and it is {format_time(now)} now",
            remedy="give it another expiry: p2pboot root set FILE --expires-in 1y; or set this machine's clock",
        )
    if body.created_at > now + MAX_AHEAD_S:
        raise SignatureError(
            f"root version {root.version} is dated {format_time(body.created_at)}, and it is {format_time(now)} now",
            remedy="set this machine's clock, or make it anew on a machine whose clock is right",
        )
    if before is not None and body.created_at < before.body.created_at:
        raise SignatureError(
            f"root version {root.version} is dated {format_time(body.created_at)}, before version {before.version}"
            f" ({format_time(before.body.created_at)})",
            remedy="make it anew on a machine whose clock is right",
        )


def check_say(root: Root, before: Root | None, keyid: str) -> None:
    """See that a key has a say: it is a root key of this version or of the one before.

    Raises:
        SignatureError: it is none.
    """
    if not any(keyid in role.keys for _, role in roles_of(root, before)):
        which = " or ".join(f"version {version}" for version, _ in roles_of(root, before))
        raise SignatureError(
            f"{keyid} is no root key of {which}",
            remedy="sign with one that is (p2pboot root show lists them), or add it first: p2pboot root add-key root",
        )


def signed(root: Root, before: Root | None, keys: Iterable[SecretKey], copies: Iterable[Root] = ()) -> Root:
    """A root with more signatures, and without those that mean nothing.

    Args:
        root: to be signed; the caller has shown it, and checked it.
        before: the version before it; None for version 1.
        keys: that sign now; they have a say.
        copies: of the same body, with signatures of others.

    Raises:
        SignatureError: a copy has another body, or there are more signatures than a document may have.
    """
    allowed = {key for _, role in roles_of(root, before) for key in role.keys}
    copies = list(copies)
    for copy in copies:
        if copy.digest != root.digest:
            raise SignatureError(
                f"that is no copy of it: sha256:{copy.digest} is version {copy.version} of {copy.body.name!r}, and"
                f" this is sha256:{root.digest}",
                remedy="sign copies of one file; what was changed since has to be signed again by all",
            )
    raw = with_signatures(root.raw, [copy.raw for copy in copies])
    for key in keys:
        raw = add_signature(raw, key)
    raw = only_signatures_of(raw, allowed)
    if raw.count(b'"keyid":') > MAX_SIGNATURES:
        raise SignatureError(
            f"root version {root.version} would have more than {MAX_SIGNATURES} signatures",
            remedy="leave some out: no more than both thresholds are needed",
        )
    return Root.parse(raw)
