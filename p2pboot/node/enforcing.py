"""Has a running node live by the trust in force: a newer root came, or the operator said something else.

The catalogue knows at once what counts; here is who has to be told. What the settings said at the start does not matter
any more: whom to follow, whom to keep a place for and what to publish comes from the policy in force.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from p2pboot.config.storage import SnapshotSettings
from p2pboot.core.events import Event
from p2pboot.core.identity import parse_keyid
from p2pboot.core.policy import Publisher, TrustedRoot, TrustPolicy, check_apart
from p2pboot.core.problems import Code, Problem
from p2pboot.core.trustdocs.chain import begin
from p2pboot.errors import ConfigError
from p2pboot.store.auditlog import AuditLog
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.trustgate import TrustGate

log = logging.getLogger(__name__)

PATIENCE_S: Final = 30.0
"""How long a root may be missing: peers are found, and asked."""


class Enforcing:
    """Tells the parts of a node when another policy is in force.

    Args:
        catalogue: has the policy in force.
        gate: brings another one into force there.
        audit: takes it down; None: nobody does.
        enforce: has everybody look again; called in the event loop, in one task at a time.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        gate: TrustGate,
        audit: AuditLog | None,
        enforce: Callable[[TrustPolicy], Awaitable[None]],
    ) -> None:
        self._catalogue = catalogue
        self._gate = gate
        self._audit = audit
        self._enforce = enforce
        self._one_at_a_time = trio.Lock()
        self._enforced = catalogue.trust.configured

    async def reconcile(self) -> None:
        """Where another policy is in force than the last time, bring it to everybody; once for each."""
        async with self._one_at_a_time:
            policy = self._catalogue.trust.configured
            if policy is not self._enforced:
                await self._bring(policy)

    async def change(self, policy: TrustPolicy) -> None:
        """Have the policy of the settings in force, with the roots that are known, and bring it to everybody."""
        async with self._one_at_a_time:
            await trio.to_thread.run_sync(self._gate.change_policy, policy)
            await self._bring(self._catalogue.trust.configured)

    async def _bring(self, policy: TrustPolicy) -> None:
        if self._audit is not None and policy != self._enforced:
            await trio.to_thread.run_sync(self._audit.trust_changed, policy.publishers)
        await self._enforce(policy)
        self._tell(policy)
        self._enforced = policy

    def _tell(self, policy: TrustPolicy) -> None:
        """Say in the log which roots are in force that were not before."""
        before = {one.newest.digest for one in self._enforced.roots if one.newest is not None}
        for root in (one.newest for one in policy.roots if one.newest is not None):
            if root.digest not in before:
                log.info(
                    "version %d of the root of %s is in force, sha256:%s",
                    root.version,
                    root.body.name,
                    root.digest,
                    extra=Event.ROOT_IN_FORCE(
                        fleet=root.fleet, root_version=root.version, name=root.body.name, digest=root.digest
                    ),
                )


def snapshot_signers(policy: TrustPolicy, settings: SnapshotSettings) -> Publisher | None:
    """Whose snapshots are followed: whom a root names for that, else whom the settings name; None for nobody.

    Of several roots the first that names somebody counts.
    """
    for trusted in policy.roots:
        role = None if trusted.newest is None else trusted.newest.body.snapshots
        if role is not None:
            return Publisher(role.keys, role.threshold, name=trusted.name)
    return settings.trusted


class MissingRoots:
    """Roots that the operator believes and that are not in force: nothing that they would name is taken.

    A node that knows one by its digest has it from its first peer, and that takes a moment.

    Args:
        catalogue: has the policy in force.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._since: dict[str, float] = {}  # trio's clock, by the anchor's digest

    def look(self) -> list[Problem]:
        """Those that are missing for `PATIENCE_S` or longer."""
        now = trio.current_time()
        missing = [trusted for trusted in self._catalogue.trust.roots if trusted.chain is None]
        self._since = {one.anchor.digest: self._since.get(one.anchor.digest, now) for one in missing}
        found = []
        for trusted in missing:
            if now - self._since[trusted.anchor.digest] >= PATIENCE_S:
                older = begin(trusted.anchor)  # the file that the operator gave
                found.append(_missing(trusted, None if older is None else older.newest.version))
        return found


def _missing(trusted: TrustedRoot, older: int | None) -> Problem:
    if older is None:
        text = "it is known by its digest only, and nobody who was asked has it: nothing under it can be verified"
        remedy = "see that a node of the fleet can be reached (--bootstrap MULTIADDR), or give its file (--root FILE)"
    else:
        text = (
            f"its file is version {older}, and a newer one was in force here, whose document was lost: nothing older"
            " is taken, and nothing under it can be verified"
        )
        remedy = "see that a node of the fleet can be reached, or give the file of the newest version (--root FILE)"
    return Problem(Code.ROOT_MISSING, trusted.anchor.shown, text, remedy)


def misused_keys(catalogue: Catalogue, peer_id: str) -> list[Problem]:
    """Keys of a running node that a newer root names as root keys: the node would not start with them again."""
    trust = catalogue.trust
    keys = {"identity.key_path": parse_keyid(peer_id).keyid, "identity.signing_key_path": trust.key or ""}
    if trust.vouching:
        keys["provider.freshness_key"] = trust.vouching[0]
    try:
        check_apart(trust.configured, keys)
    except ConfigError as error:
        return [Problem.of(Code.ROOT_KEY, "keys", error)]
    return []
