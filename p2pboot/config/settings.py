"""The settings of a node: each is declared here, once, and what is made of the declarations is complete and checked.

A declaration is the only place that a new setting needs besides the code which uses it: file, command line, `config
show`, what SIGHUP applies, the documentation's tables and the example file follow from it (`make document` writes the
last two). Nothing here reads files or knows where a value came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from p2pboot.config import values
from p2pboot.config.setting import declared_in, setting
from p2pboot.core.dataclass import dataclass
from p2pboot.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from p2pboot.core.policy import Publisher, TrustedRoot, TrustPolicy  # 10 ms that `--help` need not pay
    from p2pboot.transport.allowlist import AllowList
    from p2pboot.transport.bandwidth import Rates

_EXAMPLE_PEER = "/dns4/boot-2.example.net/tcp/4001/p2p/12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"
_EXAMPLE_KEY = "ed25519:8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"


def host_name() -> str:
    """This machine's name, without domain; what does not belong into a manifest is left out."""
    import socket

    name = "".join(c for c in socket.gethostname().split(".")[0] if c.isprintable())
    return name or "p2pboot"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Which keys the node uses."""

    key_path: Path = setting(
        values.path,
        "--key PATH",
        "Key file of this node. `serve` and `mirror` make it when it does not exist.",
        default="keys/node.toml",
        default_words="`keys/node.toml` in the working directory",
    )
    signing_key_path: Path | None = setting(
        values.path,
        "--signing-key PATH",
        "Key file that signs instead of the node's. It must exist. A serving machine then holds no key"
        " that others trust for more.",
        example="keys/release.toml",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What is published, and under which name."""

    name: str = setting(
        values.provider_name,
        "--name N",
        "Provider's name. It goes into each manifest; at most 255 bytes.",
        default=host_name,
        default_words="this host's",
        example="boot-1",
        live=True,
    )
    channel: str | None = setting(
        values.channel,
        "--channel C",
        "Channel, for example stable. For a directory that holds the files themselves instead of"
        " `<channel>/<arch>/<file>`.",
        example="stable",
        live=True,
    )
    arch: str | None = setting(
        values.arch,
        "--arch A",
        "x86_64, arm64 or riscv64, or an alias. For such a directory likewise; the usual aliases are taken.",
        example="arm64",
        live=True,
    )
    # None: the date of the build
    version: str | None = setting(
        values.version,
        "--version V",
        "Image version, free text. At most 128 bytes.",
        default_words="the date of the build, `YYYY.MM.DD`",
        example="2025.11.26",
        live=True,
    )
    cmdline: str | None = setting(
        values.cmdline,
        "--cmdline S",
        "Kernel command line, signed with the rest. At most 4096 bytes.",
        example="console=ttyS0 root=/dev/vda",
        live=True,
    )
    expires_in_s: int = setting(
        values.duration_s,
        "--expires-in DURATION",
        "Validity, for example 30d or 12h. A running publisher renews a manifest when a third is left.",
        default="30d",
        name="expires_in",
        live=True,
    )
    # None: what suits each file's size, see `core.pieces.piece_length_for`
    piece_length: int | None = setting(
        values.piece_length,
        "--piece-length SIZE",
        "Length of the pieces into which artifacts are cut, a power of two from 64KiB to 16MiB. Longer where a file"
        " would have more than 65,536 pieces. What is published already is cut anew by it, under a higher"
        " `manifest_version`; without it everything keeps the cut that it has.",
        default_words="from 64KiB to 1MiB, so that new content has about 2,048 pieces",
        example="256KiB",
        live=True,
    )
    directory: Path | None = setting(values.path, "DIR", "The artifacts directory.", example="/srv/images")
    # None: nobody here vouches for what is published
    freshness_key_path: Path | None = setting(
        values.path,
        "--freshness-key FILE",
        "Key file that says every few hours what the newest manifest is, with a freshness statement. A key of its own,"
        " apart from those of the node and of what is published; it must exist. Machines believe it where their root,"
        " or `--freshness`, names it ([trust.md](trust.md)).",
        name="freshness_key",
        example="/etc/p2pboot/keys/freshness.toml",
    )
    freshness_valid_s: int = setting(
        values.freshness_validity_s,
        "--freshness-valid DURATION",
        "How long a freshness statement is valid, at least 1m. It is renewed every six hours, or when a quarter of this"
        " is over where that is sooner.",
        default="24h",
        name="freshness_valid",
        live=True,
    )
    settle_s: int = setting(
        values.duration_s,
        "--settle DURATION",
        "After a publication, for how long machines may still take what was published before. Mirrors fill meanwhile;"
        " `p2pboot publish --urgent` does not wait.",
        default="1h",
        name="settle",
        live=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """How the node meets others. Rates are bytes per second, None is unlimited."""

    listen: tuple[str, ...] = setting(
        values.listen_addresses,
        "--listen MULTIADDR",
        "Address to listen on. Port 0 is any free one. `0.0.0.0` and `::` stand for whatever addresses"
        " the machine has at the moment. When nothing is configured, a family that the machine has not is"
        " left out, and when port 4001 is taken another one is used; a configured port that is taken is"
        " an error.",
        default=["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"],
    )
    listen_is_default: bool = True  # then another free port may be taken when the default one is in use
    bootstrap: tuple[str, ...] = setting(
        values.peer_addresses,
        "--bootstrap MULTIADDR",
        "Address of a node, through which others are found: what it prints when it starts, or `/dnsaddr/NAME`. It is"
        " connected again when a connection is lost. A name is tried address by address; `/dnsaddr/NAME` stands for all"
        " peers that the TXT records of `_dnsaddr.NAME` name.",
        default=[],
        example=[_EXAMPLE_PEER],
    )
    mdns: bool = setting(
        values.boolean,
        "--mdns",
        "Find peers on the local network and be found there, by multicast DNS. Over IPv4 and IPv6. In a private mesh it"
        " has to be asked for: it says in the clear that there is a node.",
        default=True,
        default_words="on; off with a swarm key",
    )
    # None: everybody's network
    swarm_key_path: Path | None = setting(
        values.path,
        "--swarm-key FILE",
        "File with the key of a private mesh: only machines with the same key connect with each other. As libp2p's"
        " implementations have it; `p2pboot key swarm FILE` makes one. Others see no more of this node than a nonce."
        " HTTP is then for this machine only, unless `--gateway-public`, and mDNS is off, unless `--mdns`.",
        name="swarm_key",
        example="/etc/p2pboot/keys/swarm.key",
    )
    # none: everybody
    allow_peers: tuple[str, ...] = setting(
        values.peer_ids,
        "--allow-peer PEERID",
        "Let in only peers with these ids (`p2pboot key show`), and those that a bootstrap address names. Nodes have"
        " an id that stays; a client needs `fetch --key`, for it draws a new one each time otherwise. In a private"
        " mesh the swarm key is enough for clients: who has it is served, and whose peer id is not here is not"
        " listened to.",
        default=[],
        default_words="everybody",
        example=["12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"],
    )
    dht: values.DhtMode = setting(
        values.dht_mode,
        "--dht MODE",
        "Part in the table of who has what that the nodes keep together (a DHT): server, client or off. A server"
        " keeps what others put and answers them; a client only asks and puts. `fetch` and `discover` are clients"
        " whatever is said here, and ask when they found nothing otherwise within a second; `off` keeps them from it.",
        default="server",
        default_words="`server` for nodes, `client` for `fetch` and `discover`",
        example="client",
    )
    dht_public: bool = setting(
        values.boolean,
        "--dht-public",
        "Use the hash table with public IP addresses too, and not only within private networks. By default only private"
        " addresses are asked, told of and answered, so that nobody gets into the table of the world by mistake.",
        default=False,
    )
    site: str | None = setting(
        values.site,
        "--site NAME",
        "Name of the place where this machine stands: peers of the same place come first. Whatever subnet they are in:"
        " a rack, a building. Peers in the same subnet are near anyway.",
        example="rack-7",
    )
    gossip: bool = setting(
        values.boolean,
        "--gossip",
        "Announce and hear manifests by gossip. The protocol is GossipSub.",
        default=True,
    )
    sync: bool = setting(
        values.boolean,
        "--sync",
        "Compare manifests with peers, and ask them for further peers. Whenever one connects, and at intervals. Without"
        " it who asks is answered all the same.",
        default=True,
    )
    max_upload: int | None = setting(
        values.rate_bytes_per_s,
        "--max-upload RATE",
        "Limit of all uploads together, for example 2MB/s. To peers and over HTTP; they get equal shares.",
        default="unlimited",
        example="20MB/s",
        live=True,
    )
    max_download: int | None = setting(
        values.rate_bytes_per_s,
        "--max-download RATE",
        "Limit of all downloads together. Who sends more is slowed down, nothing is thrown away.",
        default="unlimited",
        example="20MB/s",
        live=True,
    )
    max_upload_per_peer: int | None = setting(
        values.rate_bytes_per_s,
        "--max-upload-per-peer RATE",
        "Limit of the uploads to one peer, or to one HTTP client's address. However many connections it has;"
        " an address in `trusted_proxies` stands for many clients and has only the limit of all.",
        default="unlimited",
        example="5MB/s",
        live=True,
    )
    max_download_per_peer: int | None = setting(
        values.rate_bytes_per_s,
        "--max-download-per-peer RATE",
        "Limit of the downloads from one peer. However many connections it has.",
        default="unlimited",
        example="5MB/s",
        live=True,
    )
    # longer than gossip remembers a message, else announcements are taken for repeats
    announce_interval_s: int = setting(
        values.duration_s,
        "--announce-interval DURATION",
        "Time between announcements of an unchanged manifest.",
        default="5m",
        name="announce_interval",
    )
    # a comparison is one request of about 100 bytes, and about 4 ms of a processor at each end
    sync_interval_s: int = setting(
        values.duration_s,
        "--sync-interval DURATION",
        "Time between comparisons with a connected peer. With more than 16 peers it is longer, so that a node makes no"
        " more comparisons than with 16.",
        default="15s",
        name="sync_interval",
        example="1m",
    )

    @property
    def allowed(self) -> AllowList:
        """Whom the node lets in."""
        from p2pboot.transport.addresses import parse_address
        from p2pboot.transport.allowlist import EVERYBODY, AllowList

        if not self.allow_peers:
            return EVERYBODY
        named = {peer for address in self.bootstrap if (peer := parse_address(address).peer_id) is not None}
        return AllowList(frozenset(named.union(self.allow_peers)), has_guests=self.swarm_key_path is not None)

    @property
    def rates(self) -> Rates:
        """The limits of bandwidth."""
        from p2pboot.transport.bandwidth import Rates

        return Rates(
            upload=self.max_upload,
            download=self.max_download,
            upload_per_peer=self.max_upload_per_peer,
            download_per_peer=self.max_download_per_peer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """What is offered over HTTP."""

    # None: no gateway
    http: str | None = setting(
        values.http_address,
        "--http HOST:PORT",
        "Offer all of it over HTTP too, for firmware. `HOST:PORT` to listen on, an IPv6 address in"
        ' brackets (`"[::]:8080"` takes IPv4 as well); port 0 is any free one. A port in use is an error.'
        " `systemd:NAME`: the sockets of that name which the service manager opened (`systemd`: all that it opened),"
        " so that port 80 needs no root; a socket named `http` is used without being asked for.",
        default_words="off",
        example="0.0.0.0:8080",
    )
    # none: the addresses it listens on
    advertise_http: tuple[str, ...] = setting(
        values.http_bases,
        "--advertise-http BASE",
        "Beginning of the URLs in manifests and scripts. The manifests are those that `serve` makes, the"
        " scripts those of the gateway. Mirrors, or a proxy, can be named. For `0.0.0.0` and `[::]` the"
        " default is the best four addresses that the machine has at the moment. A manifest with other"
        " `urls` is another version.",
        default=[],
        default_words="the addresses of `--http`",
        example=["http://boot-1.example.net:8080"],
    )
    public: bool = setting(
        values.boolean,
        "--gateway-public",
        "In a private mesh, offer HTTP at the address of `--http`, to everybody who reaches it. Without this it is"
        " offered on the loopback address only, since it asks nobody for the swarm key. Where there is no swarm key it"
        " changes nothing.",
        default=False,
    )
    trusted_proxies: tuple[str, ...] = setting(
        values.networks,
        "--trusted-proxy CIDR",
        'Believe the Forwarded fields of HTTP proxies there. Networks (`"10.0.0.0/8"`, `"fd00::/8"`) or'
        " addresses of proxies before the gateway: what they say of how a client came"
        " ([gateway.md](gateway.md#behind-a-proxy)) is believed, nobody else is.",
        default=[],
        default_words="nobody's",
        example=["192.0.2.10", "fd00::/8"],
    )
    # None: the usual port, or another one
    admin: str | None = setting(
        values.admin_address,
        "--admin HOST:PORT",
        "Where to tell people and Prometheus how the node is. `HOST:PORT` of the status page, `/status`, `/metrics` and"
        " `/events` ([operations.md](operations.md#watching-it)), or `off`. They are for this machine and for"
        " `admin_allow` alone, whatever address is listened on. A port in use is an error if it was named here."
        " `systemd:NAME` as of `--http`.",
        default_words="`127.0.0.1:4080`, or another free port where that is taken",
        example="127.0.0.1:4080",
    )
    admin_allow: tuple[str, ...] = setting(
        values.networks,
        "--admin-allow CIDR",
        "Who may read what is told at `--admin`, apart from this machine. Networks or addresses, for example of the"
        " Prometheus server; what counts is who is connected, never what a proxy says of its clients. A proxy on this"
        " machine that names its clients has to be allowed as `127.0.0.1`.",
        default=[],
        default_words="nobody else",
        example=["192.0.2.30", "fd00:30::/64"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where the node keeps its state, and what it may keep there (a quota of None: unlimited)."""

    # None: where the platform wants it
    chosen: Path | None = setting(
        values.path,
        "--state DIR",
        "State directory. Catalogue, hash cache, trust state, fetched artifacts, control socket. Where"
        " there is no home it must be named.",
        name="state",
        shown="known",
        default_words="the user's, by the platform's convention; on Linux `~/.local/state/p2pboot`",
        example="/var/lib/p2pboot",
    )
    quota_bytes: int | Literal["auto"] | None = setting(
        values.quota_bytes,
        "--quota SIZE",
        "Most that the state directory may hold, for example 20GB; a tenth of the disk stays free unless you say."
        " Fetched artifacts count by their sizes, though holes in them take no room; a publisher's own files are"
        " served where they lie and do not count. Followed snapshots may take as much again in their directory."
        ' `"auto"` counts what the disk has left instead, `"unlimited"` takes all of it.',
        default="auto",
        default_words='`"auto"`: what leaves a tenth of the file system free',
        name="quota",
        example="50GB",
        live=True,
    )
    keep: int = setting(
        values.kept_versions,
        "--keep N",
        "How many versions of an image to keep, 1 or 2. With 2 the version before stays beside the one that is"
        " offered, and yields where a next one finds no room. With 1 the one that is offered yields, too, once"
        " somebody gave a piece of the next one: nothing is offered then until that is whole.",
        default=2,
        live=True,
    )
    max_artifact_bytes: int = setting(
        values.bounded_size_bytes,
        "--max-artifact SIZE",
        "Largest artifact or snapshot to mirror. A trusted publisher's manifest with a larger artifact is not mirrored,"
        " nor is a larger snapshot that trusted signers announce.",
        default="64GiB",
        name="max_artifact",
        example="10GB",
        live=True,
    )

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSettings:
    """The Timetoke snapshots that are served, and whose are followed.

    Raises:
        ConfigError: a threshold that the trusted keys can not reach.
    """

    # None: none are served
    directory: Path | None = setting(
        values.path,
        "--snapshots DIR",
        "Serve the Timetoke snapshots in this directory. It is also the store of `snapshot publish`,"
        " `list` and `show`, unless `--store` names another.",
        example="/srv/snapshots",
        top_level="snapshot_dir",
    )
    key_path: Path = setting(
        values.path,
        "--key PATH",
        "Key file that signs what `snapshot publish` publishes; made when there is none. No node uses it.",
        default="keys/timetoke_snapshot.toml",
        command="snapshot publish",
        default_words="`keys/timetoke_snapshot.toml` in the working directory",
        example="/etc/p2pboot/keys/timetoke_snapshot.toml",
        top_level="timetoke_snapshot_key_path",
    )
    # empty: nobody is followed
    trust: tuple[str, ...] = setting(
        values.key_ids,
        "--snapshot-trust KEYID",
        "Follow the snapshots that this key announces. They are fetched into the directory and served on.",
        default=[],
        example=[_EXAMPLE_KEY],
    )
    threshold: int = setting(
        values.integer,
        "--snapshot-threshold N",
        "How many of these keys must announce the same snapshot.",
        default=1,
    )
    require_signatures: bool = setting(
        values.boolean,
        "--require-signatures",
        "Refuse to serve snapshots without signature. Use it in production.",
        default=False,
        example=True,
    )

    def __post_init__(self) -> None:
        if self.trust and not 1 <= self.threshold <= len(self.trust):
            raise ConfigError(
                f"snapshots: {self.threshold} signatures can not come from {len(self.trust)} keys",
                remedy=f"set its threshold from 1 to {len(self.trust)}, or name more keys",
            )

    @property
    def trusted(self) -> Publisher | None:
        """The keys with their threshold; None where nobody is followed."""
        from p2pboot.core.policy import Publisher

        return Publisher(self.trust, self.threshold) if self.trust else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What the node writes down of what happens."""

    format: values.LogForm = setting(
        values.log_form,
        "--log-format FORM",
        "Form of the log on standard error: auto, text, json or journal. `json` is an object a line, `journal` has"
        " priorities for systemd's journal, and `auto` is that where standard error is the journal, else text"
        " ([logs.md](logs.md)).",
        default="auto",
        example="json",
    )
    # None: in the state directory
    audit: Path | Literal["off"] | None = setting(
        values.audit_log,
        "--audit-log FILE",
        "File that takes down what was published, accepted and refused, and by whose key; off for none. JSON, a line"
        " each; at 10 MB it gets the ending .1, and four former ones are kept ([logs.md](logs.md#the-audit-log)).",
        default_words="`audit.log` in the state directory",
        example="/var/log/p2pboot/audit.log",
    )


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
