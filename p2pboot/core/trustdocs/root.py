"""The root: which keys may sign what for a fleet of machines, in versions that follow each other.

::

    {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z",   or "never"
     "fleet": "<64 hex>",                     from version 2 on: the digest of version 1
     "floors": [{"arch": "x86_64", "channel": "stable", "manifest_version": 7}],
     "name": "example fleet", "on_expiry": "warn",                                 or "refuse"
     "roles": {"publish": [{"archs": ["x86_64"], "channels": ["stable"], "keys": ["ed25519:…"], "threshold": 1,
                            "freshness": {"keys": ["ed25519:…"], "max_age_s": 604800, "required": false}}],
               "root": {"keys": ["ed25519:…"], "threshold": 2},
               "snapshots": {"keys": ["ed25519:…"], "threshold": 1}},
     "signatures": […], "spec": "p2pboot-root/1", "version": 1}

A root lists no signers: of five keys any three may sign, and which need not be known beforehand. So its identity is
the digest of its body, and two sets of signatures are one root.

What it says is in :mod:`.rootbody`, how that is read from strangers in :mod:`.rootreader`.
"""

from __future__ import annotations

from collections.abc import Collection

from p2pboot.core.dataclass import dataclass
from p2pboot.core.trustdocs.envelope import Document
from p2pboot.core.trustdocs.rootbody import RootBody
from p2pboot.core.trustdocs.rootreader import decode_root
from p2pboot.errors import SignatureError


@dataclass(frozen=True, slots=True, kw_only=True)
class Root(Document):
    """A root whose form is good and whose signatures are valid; whether they are enough, :mod:`.chain` says."""

    body: RootBody

    @classmethod
    def parse(cls, raw: bytes) -> Root:
        """Read a root from anyone; it may still lack signatures.

        Raises:
            Malformed: no root, or not in its one form.
            SignatureError: a signature does not match.
        """
        found = decode_root(raw)
        found.check()
        return cls(raw=raw, digest=found.digest, signed_by=found.signers, body=found.claims)

    @property
    def version(self) -> int:
        """From 1 on."""
        return self.body.version

    @property
    def fleet(self) -> str | None:
        """The fleet that it says it is of; None where it does not say."""
        return self.digest if self.version == 1 else self.body.fleet

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Root) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)


def check_signers(root: Root, before: Root | None) -> None:
    """Check that a root is signed by those who may; arguments and errors as for `may_sign`."""
    may_sign(root.body, root.signed_by, None if before is None else before.body)


def may_sign(body: RootBody, signers: Collection[str], before: RootBody | None) -> None:
    """Check that a root is signed by those who may: its own root keys and, from version 2 on, those of the one before.

    Args:
        body: of the root to be judged.
        signers: the key ids whose signatures it bears, or claims to bear.
        before: the version before it, which is believed; None for version 1, or where that is not at hand.

    Raises:
        SignatureError: saying how many signatures are missing, or who has no say.
    """
    roles = [(body.version, body.root)] + ([] if before is None else [(before.version, before.root)])
    allowed = {key for _, role in roles for key in role.keys}
    if before is not None or body.version == 1:
        strangers = sorted(set(signers) - allowed)
        if strangers:
            raise SignatureError(
                f"root version {body.version} is signed by {strangers[0]}, which is no root key",
                remedy="leave that signature out: p2pboot root sign keeps only those that count",
            )
    for version, role in roles:
        count = len(set(role.keys).intersection(signers))
        if count < role.threshold:
            of = "its own" if version == body.version else f"version {version}'s"
            raise SignatureError(
                f"root version {body.version} has {count} signatures of {of} root keys, needed: {role.threshold}",
                remedy="let more of them sign it: p2pboot root sign FILE --key PATH",
            )
