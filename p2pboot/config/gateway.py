"""What a node offers over HTTP, and to whom: the settings of `[gateway]`."""

from __future__ import annotations

from p2pboot.config import values
from p2pboot.config.setting import setting
from p2pboot.core.dataclass import dataclass


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
