"""The settings of a node as a whole: a table each, and what is made of them is complete and checked.

`provider`, `network`, `gateway` and `storage` declare each setting, once. A declaration is the only place that a new
setting needs besides the code which uses it: file, command line, `config show`, what SIGHUP applies, the
documentation's tables and the example file follow from it (`make document` writes the last two). Nothing here reads
files or knows where a value came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from p2pboot.config.gateway import GatewaySettings
from p2pboot.config.network import NetworkSettings
from p2pboot.config.provider import IdentitySettings, ProviderSettings
from p2pboot.config.setting import declared_in
from p2pboot.config.storage import LogSettings, SnapshotSettings, StoreSettings
from p2pboot.core.dataclass import dataclass
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.core.policy import Publisher, TrustedRoot, TrustPolicy  # 10 ms that `--help` need not pay


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Everything that a node is told at its start and at a reload: a table each, and whom it trusts."""

    identity: IdentitySettings = field(default_factory=IdentitySettings)
    provider: ProviderSettings = field(default_factory=ProviderSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    snapshots: SnapshotSettings = field(default_factory=SnapshotSettings)
    log: LogSettings = field(default_factory=LogSettings)
    trust: tuple[Publisher, ...] = ()
    roots: tuple[TrustedRoot, ...] = ()

    @property
    def audit_path(self) -> Path | None:
        """Where the audit log is; None where there is none."""
        if self.log.audit is None:
            return self.store.state / "audit.log"
        return None if self.log.audit == "off" else self.log.audit

    @property
    def policy(self) -> TrustPolicy:
        """The trust policy; it was checked to be free of contradictions when the settings were loaded."""
        from p2pboot.core.policy import TrustPolicy

        return TrustPolicy.of(self.trust, self.roots)

    @property
    def trusts_nobody(self) -> bool:
        """Whether neither a publisher nor a root is named."""
        return not self.trust and not self.roots

    def followed(self) -> tuple[tuple[str, str], ...]:
        """The (channel, arch) pairs that a mirror of these settings follows, sorted.

        Every trusted publisher's channels and archs; where a publisher has no such limit, the provider's own
        channel and arch stand in, and both architectures when that one is not given either.
        """
        from p2pboot.core.names import ARCHS

        pairs = {
            (channel, one)
            for channel, arch in self.wanted()
            for one in ((arch,) if arch is not None else ARCHS)
        }
        return tuple(sorted(pairs))

    def wanted(self) -> frozenset[tuple[str, str | None]]:
        """The same as the operator said it: None for the arch where none was given."""
        provider = self.provider
        return frozenset(
            (channel, arch)
            for publisher in self.policy.publishers
            for channel in publisher.channels or (provider.channel,)
            for arch in publisher.archs or (provider.arch,)
            if channel
        )


TABLES: dict[str, type] = {
    one.name: one.default_factory  # type: ignore[misc]
    for one in fields(NodeSettings)
    if one.default_factory is not MISSING
}
SETTINGS = declared_in(TABLES)


def with_values(settings: NodeSettings, changes: Mapping[str, object]) -> NodeSettings:
    """The same settings, but for the values given by dotted name."""
    for table in TABLES:
        changed = {
            one.attribute: changes[one.dotted]
            for one in SETTINGS.values()
            if one.table == table and one.dotted in changes
        }
        settings = replace(settings, **{table: replace(getattr(settings, table), **changed)})
    return settings


def for_mirror(settings: NodeSettings, *, channel: str | None, arch: str | None) -> NodeSettings:
    """Settings of a node that publishes nothing and follows what it trusts.

    Args:
        settings: as loaded.
        channel: follow only this one, whatever the trusted publishers may publish besides.
        arch: likewise.

    Raises:
        UsageError: nobody is trusted, nothing is left to follow, or there is no channel.
    """
    from p2pboot.core.names import normalise_arch
    from p2pboot.core.policy import no_trust

    if settings.trusts_nobody:
        raise no_trust()
    one = (channel,) if channel else None
    other = (normalise_arch(arch),) if arch else None
    covering = [
        publisher
        for publisher in settings.trust
        if (one is None or not publisher.channels or channel in publisher.channels)
        and (other is None or not publisher.archs or other[0] in publisher.archs)
    ]
    narrowed = tuple(
        replace(publisher, channels=one or publisher.channels, archs=other or publisher.archs)
        for publisher in covering
    )
    roots = tuple(
        replace(root, channels=one or root.channels, archs=other or root.archs) for root in settings.roots
    )
    mirror = replace(
        settings, trust=narrowed, roots=roots, provider=replace(settings.provider, directory=None)
    )
    if not mirror.followed() and not any(root.chain is None for root in roots):
        raise UsageError(
            "nothing to mirror: no trusted publisher covers "
            + (f"channel {channel}" if channel else "any channel")
            + (f" and arch {arch}" if arch else ""),
            remedy="give --channel and --arch, or name channels and archs in the file's [[trust]]",
        )
    return mirror
