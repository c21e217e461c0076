"""The table of all settings: name, how it is read, default, flag, and whether a running node takes a change.

Loading, `config show`, the check for unknown keys, reloading and the documentation's test read this table.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from p2pboot.config import values
from p2pboot.config.settings import DEFAULT_SNAPSHOT_KEY_PATH, NodeSettings

T_co = TypeVar("T_co", covariant=True)

DEFAULT_KEY_PATH = Path("keys/node.toml")
DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001")
DEFAULT_EXPIRES_IN_S = 30 * 86400
DEFAULT_ANNOUNCE_INTERVAL_S = (
    300  # longer than gossip remembers a message, else announcements are taken for repeats
)
DEFAULT_SYNC_INTERVAL_S = 15  # a comparison is one request of about 100 bytes
DEFAULT_MAX_ARTIFACT = 64 << 30  # bytes; the piece table's own limit is far above


@dataclass(frozen=True, slots=True)
class Key(Generic[T_co]):
    """One setting.

    Args:
        table: the TOML table it stands in.
        name: its name there.
        parse: raw value and base directory to typed value; raises ValueError("must be …").
        default: makes the default when neither file nor command line say anything.
        of: finds its value in finished settings.
        flag: the option (or argument) that sets it on the command line.
        option: the option's name as commands' parameters have it, where it is not the key's.
        live: a running node takes a changed value on SIGHUP; otherwise it needs a restart.
    """

    table: str
    name: str
    parse: Callable[[object, Path], T_co]
    default: Callable[[], T_co]
    of: Callable[[NodeSettings], T_co]
    flag: str
    live: bool = False
    option: str = ""
    top_level: str = ""

    @property
    def parameter(self) -> str:
        """What a command calls the option's value."""
        return self.option or self.name

    @property
    def dotted(self) -> str:
        """The key's name in messages and in `Overrides`: "network.listen"."""
        return f"{self.table}.{self.name}"


def host_name() -> str:
    """This machine's name, without domain; what does not belong into a manifest is left out."""
    name = "".join(c for c in socket.gethostname().split(".")[0] if c.isprintable())
    return name or "p2pboot"


def _none() -> None:
    return None


KEY_PATH: Key[Path] = Key(
    "identity", "key_path", values.path, lambda: DEFAULT_KEY_PATH, lambda s: s.identity.key_path, "--key"
)
SIGNING_KEY_PATH: Key[Path | None] = Key(
    "identity", "signing_key_path", values.path, _none, lambda s: s.identity.signing_key_path, "--signing-key"
)
NAME: Key[str] = Key(
    "provider", "name", values.provider_name, host_name, lambda s: s.provider.name, "--name", live=True
)
CHANNEL: Key[str | None] = Key(
    "provider", "channel", values.channel, _none, lambda s: s.provider.channel, "--channel", live=True
)
ARCH: Key[str | None] = Key(
    "provider", "arch", values.arch, _none, lambda s: s.provider.arch, "--arch", live=True
)
VERSION: Key[str | None] = Key(
    "provider", "version", values.version, _none, lambda s: s.provider.version, "--version", live=True
)
CMDLINE: Key[str | None] = Key(
    "provider", "cmdline", values.cmdline, _none, lambda s: s.provider.cmdline, "--cmdline", live=True
)
EXPIRES_IN: Key[int] = Key(
    "provider",
    "expires_in",
    values.duration_s,
    lambda: DEFAULT_EXPIRES_IN_S,
    lambda s: s.provider.expires_in_s,
    "--expires-in",
    live=True,
)
DIRECTORY: Key[Path | None] = Key(
    "provider", "directory", values.path, _none, lambda s: s.provider.directory, "DIR"
)
LISTEN: Key[tuple[str, ...]] = Key(
    "network",
    "listen",
    values.listen_addresses,
    lambda: DEFAULT_LISTEN,
    lambda s: s.network.listen,
    "--listen",
)
BOOTSTRAP: Key[tuple[str, ...]] = Key(
    "network", "bootstrap", values.peer_addresses, tuple, lambda s: s.network.bootstrap, "--bootstrap"
)
MDNS: Key[bool] = Key("network", "mdns", values.boolean, lambda: True, lambda s: s.network.mdns, "--no-mdns")
GOSSIP: Key[bool] = Key(
    "network", "gossip", values.boolean, lambda: True, lambda s: s.network.gossip, "--no-gossip"
)
SYNC: Key[bool] = Key("network", "sync", values.boolean, lambda: True, lambda s: s.network.sync, "--no-sync")
MAX_UPLOAD: Key[int | None] = Key(
    "network",
    "max_upload",
    values.rate_bytes_per_s,
    _none,
    lambda s: s.network.max_upload,
    "--max-upload",
    live=True,
)
ANNOUNCE_INTERVAL: Key[int] = Key(
    "network",
    "announce_interval",
    values.duration_s,
    lambda: DEFAULT_ANNOUNCE_INTERVAL_S,
    lambda s: s.network.announce_interval_s,
    "--announce-interval",
)
SYNC_INTERVAL: Key[int] = Key(
    "network",
    "sync_interval",
    values.duration_s,
    lambda: DEFAULT_SYNC_INTERVAL_S,
    lambda s: s.network.sync_interval_s,
    "--sync-interval",
)
HTTP: Key[str | None] = Key("gateway", "http", values.http_address, _none, lambda s: s.gateway.http, "--http")
ADVERTISE_HTTP: Key[tuple[str, ...]] = Key(
    "gateway",
    "advertise_http",
    values.http_bases,
    tuple,
    lambda s: s.gateway.advertise_http,
    "--advertise-http",
)
STATE: Key[Path | None] = Key("store", "state", values.path, _none, lambda s: s.store.known, "--state")
TRUSTED_PROXIES: Key[tuple[str, ...]] = Key(
    "gateway",
    "trusted_proxies",
    values.networks,
    tuple,
    lambda s: s.gateway.trusted_proxies,
    "--trusted-proxy",
    option="trusted_proxy",
)
QUOTA: Key[int | None] = Key(
    "store", "quota", values.size_bytes, _none, lambda s: s.store.quota_bytes, "--quota", live=True
)
MAX_ARTIFACT: Key[int] = Key(
    "store",
    "max_artifact",
    values.bounded_size_bytes,
    lambda: DEFAULT_MAX_ARTIFACT,
    lambda s: s.store.max_artifact_bytes,
    "--max-artifact",
    live=True,
)
SNAPSHOT_DIRECTORY: Key[Path | None] = Key(
    "snapshots",
    "directory",
    values.path,
    _none,
    lambda s: s.snapshots.directory,
    "--snapshots",
    option="snapshots",
    top_level="snapshot_dir",
)
SNAPSHOT_KEY_PATH: Key[Path] = Key(
    "snapshots",
    "key_path",
    values.path,
    lambda: DEFAULT_SNAPSHOT_KEY_PATH,
    lambda s: s.snapshots.key_path,
    "--key",
    option="snapshot_key_path",
    top_level="timetoke_snapshot_key_path",
)
SNAPSHOT_TRUST: Key[tuple[str, ...]] = Key(
    "snapshots",
    "trust",
    values.key_ids,
    tuple,
    lambda s: s.snapshots.trust,
    "--snapshot-trust",
    option="snapshot_trust",
)
SNAPSHOT_THRESHOLD: Key[int] = Key(
    "snapshots",
    "threshold",
    values.integer,
    lambda: 1,
    lambda s: s.snapshots.threshold,
    "--snapshot-threshold",
    option="snapshot_threshold",
)
REQUIRE_SIGNATURES: Key[bool] = Key(
    "snapshots",
    "require_signatures",
    values.boolean,
    lambda: False,
    lambda s: s.snapshots.require_signatures,
    "--require-signatures",
)

KEYS: tuple[Key[object], ...] = (
    KEY_PATH,
    SIGNING_KEY_PATH,
    NAME,
    CHANNEL,
    ARCH,
    VERSION,
    CMDLINE,
    EXPIRES_IN,
    DIRECTORY,
    LISTEN,
    BOOTSTRAP,
    MDNS,
    GOSSIP,
    SYNC,
    MAX_UPLOAD,
    ANNOUNCE_INTERVAL,
    SYNC_INTERVAL,
    HTTP,
    ADVERTISE_HTTP,
    TRUSTED_PROXIES,
    STATE,
    QUOTA,
    MAX_ARTIFACT,
    SNAPSHOT_DIRECTORY,
    SNAPSHOT_KEY_PATH,
    SNAPSHOT_TRUST,
    SNAPSHOT_THRESHOLD,
    REQUIRE_SIGNATURES,
)
TRUST_KEYS = ("keys", "threshold", "channels", "archs", "name")  # of each [[trust]] table
