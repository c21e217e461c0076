"""The settings of a node, complete and checked; nothing here reads files or knows where a value came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from p2pboot.core.names import ARCHS, normalise_arch
from p2pboot.core.policy import Publisher, TrustPolicy, no_trust
from p2pboot.errors import ConfigError, UsageError

DEFAULT_SNAPSHOT_KEY_PATH = Path("keys/timetoke_snapshot.toml")


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Which keys the node uses."""

    key_path: Path
    signing_key_path: Path | None  # None: manifests are signed with the node's key


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What is published, and under which name."""

    name: str
    channel: str | None
    arch: str | None
    version: str | None  # None: the date of the build
    cmdline: str | None
    expires_in_s: int
    directory: Path | None


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How the node meets others. Rates are bytes per second over all peers, None is unlimited."""

    listen: tuple[str, ...]
    listen_is_default: bool  # then another free port may be taken when the default one is in use
    bootstrap: tuple[str, ...]
    mdns: bool
    gossip: bool
    sync: bool
    max_upload: int | None
    announce_interval_s: int
    sync_interval_s: int


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What is offered over HTTP."""

    http: str | None  # HOST:PORT to listen on; None: no gateway
    advertise_http: tuple[str, ...]  # beginnings of the URLs in manifests; none: the addresses it listens on
    trusted_proxies: tuple[str, ...] = ()  # networks whose word on how a client came counts; none: nobody's


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the node keeps its state, and how many bytes of artifacts it may keep there (None: unlimited)."""

    chosen: Path | None  # None: where the platform wants it
    quota_bytes: int | None
    max_artifact_bytes: int  # a manifest with a larger artifact is not mirrored

    @property
    def known(self) -> Path | None:
        """The state directory; None where none was named and the platform has no place for it."""
        return self.chosen or default_state()

    @property
    def state(self) -> Path:
        """The state directory, for a command that can not do without.

        Raises:
            ConfigError: none was named, and this user has no home where it could be.
        """
        known = self.known
        if known is None:
            raise ConfigError(
                "no state directory is known: none was named, and this user has no home directory",
                remedy="name one with --state DIR, or as state in the file's [store]",
            )
        return known


def default_state() -> Path | None:
    """Where the platform wants programs to keep their state (XDG_STATE_HOME on Linux); None without a home."""
    from platformdirs import user_state_path  # 25 ms that most commands need not pay

    try:
        path = user_state_path("p2pboot", appauthor=False)
    except RuntimeError:
        return None
    return path if path.is_absolute() else None  # older platformdirs give `~` back, and take a relative HOME


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """The Timetoke snapshots that are served, and whose are followed."""

    directory: Path | None  # None: none are served
    trust: tuple[str, ...]  # key ids; empty: nobody is followed
    threshold: int  # how many of these keys must announce the same snapshot
    require_signatures: bool  # refuse to serve what is not signed
    key_path: Path = DEFAULT_SNAPSHOT_KEY_PATH  # signs what `snapshot publish` publishes

    @property
    def trusted(self) -> Publisher | None:
        """The keys with their threshold; None where nobody is followed."""
        return Publisher(self.trust, self.threshold) if self.trust else None


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Everything that a node is told at its start and at a reload."""

    identity: IdentitySettings
    provider: ProviderSettings
    network: NetworkSettings
    gateway: GatewaySettings
    trust: tuple[Publisher, ...]
    store: StoreSettings
    snapshots: SnapshotSettings

    @property
    def policy(self) -> TrustPolicy:
        """The trust policy; it was checked to be free of contradictions when the settings were loaded."""
        return TrustPolicy(self.trust)

    def followed(self) -> tuple[tuple[str, str], ...]:
        """The (channel, arch) pairs that a mirror of these settings follows, sorted.

        Every trusted publisher's channels and archs; where a publisher has no such limit, the provider's own
        channel and arch stand in, and both architectures when that one is not given either.
        """
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
            for publisher in self.trust
            for channel in publisher.channels or (provider.channel,)
            for arch in publisher.archs or (provider.arch,)
            if channel
        )


def for_mirror(settings: NodeSettings, *, channel: str | None, arch: str | None) -> NodeSettings:
    """Settings of a node that publishes nothing and follows what it trusts.

    Args:
        settings: as loaded.
        channel: follow only this one, whatever the trusted publishers may publish besides.
        arch: likewise.

    Raises:
        UsageError: nobody is trusted, nothing is left to follow, or there is no channel.
    """
    if not settings.trust:
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
    mirror = replace(settings, trust=narrowed, provider=replace(settings.provider, directory=None))
    if not mirror.followed():
        raise UsageError(
            "nothing to mirror: no trusted publisher covers "
            + (f"channel {channel}" if channel else "any channel")
            + (f" and arch {arch}" if arch else ""),
            remedy="give --channel and --arch, or name channels and archs in the file's [[trust]]",
        )
    return mirror
