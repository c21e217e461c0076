"""Whom a node is connected with, and what that may take: the settings of `[network]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from p2pboot.config import values
from p2pboot.config.setting import setting
from p2pboot.core.dataclass import dataclass

if TYPE_CHECKING:
    from p2pboot.transport.allowlist import AllowList
    from p2pboot.transport.bandwidth import Rates


_EXAMPLE_PEER = "/dns4/boot-2.example.net/tcp/4001/p2p/12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"


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
