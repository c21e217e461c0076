"""Own addresses: the order, from facts; and what the kernel says, in network namespaces made for it."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from p2pboot.transport import interfaces
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interfaces import (
    Card,
    Found,
    Interfaces,
    Listing,
    OwnAddress,
    Reach,
    list_own,
    order_by_reach,
    reachable,
)
from tests.transport.namespaces import namespace, run_python

LO = Card("lo")
NIC = Card("eth0", is_physical=True)
SECOND_NIC = Card("eth1", is_physical=True)
UNPLUGGED = Card("eth2", is_physical=True, has_carrier=False)
VETH = Card("eth0")  # a container's own end: nothing says that it is one
DOCKER = Card("docker0", is_bridge=True)
COMPOSE = Card("br-0123456789ab", is_bridge=True)
VIRTUAL_MACHINES = Card("virbr0", is_bridge=True, has_carrier=False)
PROXMOX = Card("vmbr0", is_bridge=True, is_physical=True)
PLAIN_BRIDGE = Card("lan", is_bridge=True)
VPN = Card("wg0", is_tunnel=True)


def ordered(*found: tuple[Card, str], sources: Sequence[str] = ()) -> list[str]:
    facts = [Found(ipaddress.ip_address(text), card) for card, text in found]
    own = order_by_reach(facts, [ipaddress.ip_address(text) for text in sources])
    assert own == order_by_reach(reversed(facts), [ipaddress.ip_address(text) for text in sources])
    return [str(one.ip) for one in own]


@pytest.mark.parametrize(
    ("found", "sources", "expected"),
    [
        pytest.param(
            [(DOCKER, "172.17.0.1"), (NIC, "192.168.1.5")], [], ["192.168.1.5", "172.17.0.1"], id="docker"
        ),
        pytest.param(
            [(DOCKER, "172.17.0.1"), (VETH, "192.168.77.1")], [], ["192.168.77.1", "172.17.0.1"], id="veth"
        ),
        pytest.param(
            [(COMPOSE, "10.0.0.1"), (VIRTUAL_MACHINES, "10.0.1.1"), (NIC, "192.168.1.5")],
            [],
            ["192.168.1.5", "10.0.0.1", "10.0.1.1"],
            id="bridges of containers and virtual machines, with and without a carrier",
        ),
        pytest.param(
            [(NIC, "10.0.0.5"), (SECOND_NIC, "192.168.1.5")],
            ["192.168.1.5"],
            ["192.168.1.5", "10.0.0.5"],
            id="the route counts, not the number",
        ),
        pytest.param(
            [(DOCKER, "10.0.0.1"), (PROXMOX, "192.168.1.5")],
            ["192.168.1.5"],
            ["192.168.1.5", "10.0.0.1"],
            id="a bridge that holds the default route",
        ),
        pytest.param(
            [(PROXMOX, "10.0.0.1"), (NIC, "192.168.1.5")], [], ["192.168.1.5", "10.0.0.1"], id="bridged card"
        ),
        pytest.param(
            [(UNPLUGGED, "10.0.0.1"), (NIC, "192.168.1.5")], [], ["192.168.1.5", "10.0.0.1"], id="no cable"
        ),
        pytest.param(
            [(UNPLUGGED, "10.0.0.1"), (NIC, "192.168.1.5")],
            ["10.0.0.1"],
            ["192.168.1.5", "10.0.0.1"],
            id="no cable, with the default route left on it",
        ),
        pytest.param(
            [(DOCKER, "10.0.0.1"), (UNPLUGGED, "192.168.1.5")],
            [],
            ["192.168.1.5", "10.0.0.1"],
            id="the cable comes later than docker",
        ),
        pytest.param(
            [(VPN, "10.8.0.2"), (NIC, "192.168.1.5")],
            ["10.8.0.2"],
            ["192.168.1.5", "10.8.0.2"],
            id="all traffic goes through a VPN",
        ),
        pytest.param(
            [(PLAIN_BRIDGE, "192.168.77.1"), (DOCKER, "172.17.0.1")],
            [],
            ["192.168.77.1", "172.17.0.1"],
            id="a bridge of somebody's own",
        ),
        pytest.param(
            [(Card("br0", is_bridge=True, has_carrier=False), "172.17.0.1"), (PLAIN_BRIDGE, "192.168.77.1")],
            [],
            ["192.168.77.1", "172.17.0.1"],
            id="of bridges, the one that something is plugged into",
        ),
        pytest.param(
            [(NIC, "192.168.1.100"), (NIC, "192.168.1.20"), (NIC, "192.168.1.3")],
            [],
            ["192.168.1.3", "192.168.1.20", "192.168.1.100"],
            id="numbers are no text",
        ),
        pytest.param(
            [(NIC, "192.168.1.3"), (NIC, "192.168.1.20")],
            ["192.168.1.20"],
            ["192.168.1.20", "192.168.1.3"],
            id="the primary address of one card",
        ),
        pytest.param(
            [(NIC, "fd00::5"), (NIC, "2a00::5"), (NIC, "10.0.0.7"), (NIC, "10.0.0.8")],
            [],
            ["10.0.0.7", "2a00::5", "10.0.0.8", "fd00::5"],
            id="versions take turns, and an address for the world comes before one for a site",
        ),
        pytest.param(
            [(LO, "127.0.0.1"), (LO, "::1"), (DOCKER, "172.17.0.1"), (LO, "10.1.1.1")],
            [],
            ["10.1.1.1", "172.17.0.1", "127.0.0.1", "::1"],
            id="loopback last, but not what is routed to it",
        ),
        pytest.param(
            [(NIC, "fe80::1"), (NIC, "169.254.3.4"), (NIC, "192.168.1.5"), (NIC, "192.168.1.5")],
            [],
            ["169.254.3.4", "fe80::1", "192.168.1.5"],
            id="each is there once",
        ),
    ],
)
def test_addresses_are_ordered_by_reach(
    found: list[tuple[Card, str]], sources: list[str], expected: list[str]
) -> None:
    assert ordered(*found, sources=sources) == expected


def test_an_address_that_fades_comes_after_the_others_of_its_card() -> None:
    facts = [
        Found(ipaddress.ip_address("2a00::1"), NIC, is_fading=True),
        Found(ipaddress.ip_address("2a00::2"), NIC),
        Found(ipaddress.ip_address("172.17.0.1"), DOCKER),
    ]
    assert [str(one.ip) for one in order_by_reach(facts, [])] == ["2a00::2", "2a00::1", "172.17.0.1"]


def test_a_container_that_starts_moves_nothing() -> None:
    quiet = Card("docker0", is_bridge=True, has_carrier=False)
    rest = [(COMPOSE, "172.18.0.1"), (NIC, "192.168.1.5")]
    assert ordered((quiet, "172.17.0.1"), *rest) == ordered((DOCKER, "172.17.0.1"), *rest)


def listing(*texts: str) -> Interfaces:
    own = tuple(OwnAddress(ipaddress.ip_address(text), "x", 2, Reach.PHYSICAL) for text in texts)
    return Interfaces(lambda: Listing(own))


@pytest.mark.parametrize(
    ("listening", "own", "expected"),
    [
        (
            ["/ip4/0.0.0.0/tcp/1"],
            ["192.0.2.9", "fd00::1", "192.0.2.1", "127.0.0.1"],
            ["192.0.2.9", "192.0.2.1"],
        ),
        (["/ip6/::/tcp/1"], ["192.0.2.9", "fd00::1", "127.0.0.1", "::1"], ["fd00::1"]),
        (
            ["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1"],
            ["fd00::1", "192.0.2.9", "127.0.0.1", "::1"],
            ["fd00::1", "192.0.2.9"],
        ),
        (["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1"], ["192.0.2.9", "127.0.0.1", "::1"], ["192.0.2.9"]),
        (["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1"], ["127.0.0.1", "::1"], ["127.0.0.1", "::1"]),
        (["/ip4/0.0.0.0/tcp/1"], ["fd00::1"], []),
        (["/ip4/127.0.0.1/tcp/1"], ["192.0.2.9"], ["127.0.0.1"]),
        (["/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.9/tcp/1"], ["192.0.2.9"], ["192.0.2.9", "127.0.0.1"]),
        (
            ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.9/tcp/1"],
            ["192.0.2.9", "192.0.2.1"],
            ["192.0.2.9", "192.0.2.1"],
        ),
        (["/ip4/192.0.2.9/tcp/1", "/ip4/0.0.0.0/tcp/1"], ["192.0.2.9", "127.0.0.1"], ["192.0.2.9"]),
        ([], ["192.0.2.9"], []),
    ],
)
def test_what_is_listened_on_becomes_what_can_be_dialled(
    listening: list[str], own: list[str], expected: list[str]
) -> None:
    found = reachable([parse_address(text) for text in listening], listing(*own))
    assert [address.host for address in found] == expected


def test_nothing_is_looked_at_where_nothing_depends_on_it() -> None:
    def look() -> Listing:
        raise AssertionError("looked")

    one = parse_address("/ip4/192.0.2.1/tcp/4001")
    assert reachable([one], Interfaces(look)) == (one,)
    assert reachable([], Interfaces(look)) == ()


def test_a_look_is_good_for_a_second_and_no_longer() -> None:
    now, looks = [10.0], [0]

    def look() -> Listing:
        looks[0] += 1
        return Listing((), refused=f"look {looks[0]}")

    own = Interfaces(look, now=lambda: now[0])
    assert Interfaces(look).refused is None  # nobody needed one
    own.listing()
    now[0] += 0.9
    assert (own.listing().refused, own.refused, looks) == ("look 1", "look 1", [1])
    now[0] += 0.2
    assert own.listing().refused == "look 2"


def test_both_ways_of_asking_the_kernel_find_the_same() -> None:
    asked = interfaces._ask_netlink()
    assert asked
    assert sorted(map(str, asked)) == sorted(map(str, interfaces._ask_without_netlink()))


@pytest.mark.parametrize(
    ("family", "attributes", "found"),
    [
        (socket.AF_INET, {1: b"\x0a\0\0\x02", 2: b"\x0a\0\0\x01", 3: b"lo\0"}, "10.0.0.1"),  # of a tunnel
        (socket.AF_INET6, {1: bytes(15) + b"\x01"}, "::1"),
        (socket.AF_INET, {3: b"lo\0"}, None),
        (socket.AF_UNIX, {1: b"\x0a\0\0\x02"}, None),
    ],
)
def test_netlink_tells_own_addresses(family: int, attributes: dict[int, bytes], found: str | None) -> None:
    said = struct.pack("=BBBBI", family, 8, 0, 0, socket.if_nametoindex("lo"))
    for kind, value in attributes.items():
        said += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    one = interfaces._read_address(memoryview(said))
    assert one == (None if found is None else ("lo", ipaddress.ip_address(found), 8))


def test_what_netlink_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "_RTM_GETADDR", 9999)  # no such question
    with pytest.raises(OSError, match="not supported"):
        interfaces._ask_netlink()


def test_an_address_is_listed_with_the_bits_that_name_its_subnet() -> None:
    prefixes = {str(one.ip): one.prefix for one in list_own().addresses}
    assert prefixes["127.0.0.1"] == 8


def test_link_local_addresses_are_apart_and_ports_of_a_bridge_without_them() -> None:
    commands = (
        *("link add eth0 type veth peer name far", "link add lan type bridge", "link set far master lan"),
        *(f"addr add fe80::{n}/64 dev {name} nodad" for n, name in enumerate(("eth0", "far"), start=1)),
        *(f"link set {name} addrgenmode none" for name in ("eth0", "far", "lan")),
        *(f"link set {name} up" for name in ("eth0", "far", "lan")),
    )
    show = "[[(str(one.ip), one.interface) for one in part] for part in (own.addresses, own.link_local)]"
    with namespace(*commands) as inside:
        imports = "import json\nfrom p2pboot.transport.interfaces import list_own"
        code = f"{imports}\nown = list_own()\nprint(json.dumps({show}))"
        assert run_python(inside, code) == [[["127.0.0.1", "lo"], ["::1", "lo"]], [["fe80::1", "eth0"]]]


def refuse(*_: object) -> list[object]:
    raise OSError(97, "Address family not supported by protocol")


def test_without_netlink_the_addresses_are_the_same_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = list_own()
    monkeypatch.setattr(interfaces, "_ask_netlink", refuse)
    assert list_own() == Listing(free.addresses, "Address family not supported by protocol", free.link_local)


def test_where_nothing_can_be_listed_what_is_certain_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(interfaces, "_ask_netlink", refuse)
    monkeypatch.setattr(interfaces, "_IF_INET6", tmp_path / "none")
    monkeypatch.setattr(interfaces, "_ipv4_addresses", list)
    own = list_own()
    assert own.refused
    assert str(own.addresses[-1].ip) == "127.0.0.1"


def in_namespace(*commands: str, show: str = "[[str(a.ip), a.reach.name] for a in own.addresses]") -> object:
    """Run `ip` commands in a new network namespace and list its addresses there."""
    with namespace(*commands) as inside:
        return run_python(
            inside,
            "import json\nfrom p2pboot.transport.interfaces import list_own\n"
            f"own = list_own()\nprint(json.dumps({show}))",
        )


WIRE = ("link add eth0 type veth peer name far", "link set eth0 up", "link set far up")
LAN = (*WIRE, "addr add 192.168.77.10/24 dev eth0")


def test_the_kernel_tells_a_bridge_from_the_network_and_the_route() -> None:
    assert in_namespace(
        "link add docker0 type bridge",
        "addr add 172.17.0.1/16 dev docker0",
        "link set docker0 up",
        "link add aaa0 type bridge",
        "addr add 10.0.0.1/24 dev aaa0",
        "link set aaa0 up",
        *LAN,
        "addr add 192.168.77.9/24 dev eth0",
        "addr add fd00:77::1/64 dev eth0 nodad",
        "link add eth1 type veth peer name off",
        "addr add 10.5.0.1/24 dev eth1",
        "link set eth1 up",  # nobody is at its other end
    ) == [
        ["192.168.77.9", "OTHER"],
        ["fd00:77::1", "OTHER"],
        ["192.168.77.10", "OTHER"],
        ["10.0.0.1", "BRIDGE"],
        ["10.5.0.1", "DOWN"],
        ["172.17.0.1", "CONTAINER"],
        ["127.0.0.1", "LOOPBACK"],
        ["::1", "LOOPBACK"],
    ]


def test_the_kernel_tells_where_the_default_route_is() -> None:
    assert in_namespace(
        *LAN,
        "link add eth1 type veth peer name far1",
        "link set far1 up",
        "addr add 192.168.99.1/24 dev eth1",
        "link set eth1 up",
        "route add default via 192.168.99.254",
        show="[[str(a.ip), a.reach.name] for a in own.addresses[:2]]",
    ) == [["192.168.99.1", "ROUTED"], ["192.168.77.10", "OTHER"]]


def test_an_address_on_its_way_out_is_told_last_and_one_that_is_not_in_use_yet_not_at_all() -> None:
    assert in_namespace(
        *LAN,
        "addr add fd00:99::1/64 dev eth0 nodad preferred_lft 0",
        "addr add fd00:99::2/64 dev eth0 nodad",
        "link set far down",  # so the next one's check for others with that address does not end
        "addr add fd00:99::3/64 dev eth0",
        show="[str(a.ip) for a in own.addresses if a.ip.version == 6]",
    ) == ["fd00:99::2", "fd00:99::1", "::1"]


@pytest.mark.parametrize(
    ("name", "files", "links", "is_physical", "is_bridge", "is_tunnel"),
    [
        pytest.param("eno1", ["device/vendor"], {}, True, False, False, id="card"),
        pytest.param("vlan7", [], {"lower_bond0": "bond0"}, True, False, False, id="VLAN on a bond of cards"),
        pytest.param(
            "vmbr0", ["bridge/x"], {"lower_eno1": "eno1"}, True, True, False, id="bridge with a card"
        ),
        pytest.param(
            "web", ["bridge/x"], {"lower_vethab": "vethab"}, False, True, False, id="bridge without"
        ),
        pytest.param("vpn", ["tun_flags"], {}, False, False, True, id="tun"),
        pytest.param("loop", [], {"lower_loop": "loop"}, False, False, False, id="a circle ends"),
        pytest.param("vethab", [], {}, False, False, False, id="veth"),
    ],
)
def test_what_an_interface_is_comes_from_sys(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    files: list[str],
    links: dict[str, str],
    is_physical: bool,
    is_bridge: bool,
    is_tunnel: bool,
) -> None:
    monkeypatch.setattr(interfaces, "_SYS_NET", tmp_path)
    others = {"eno1": ["device/vendor"], "bond0": ["lower_eno1/device/vendor"], "vethab": ["carrier"]}
    for path in [
        *(f"{other}/{file}" for other in others for file in others[other]),
        *(f"{name}/{f}" for f in files),
    ]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / "ifindex").write_text("0\n")  # no interface of this machine is called so
    for link, target in links.items():
        (tmp_path / name / link).symlink_to(tmp_path / target)
    card = interfaces._describe(name)
    assert card == Card(name, 0, is_physical, is_bridge, is_tunnel)


@pytest.mark.parametrize(
    ("name", "reach"),
    [("docker0", "CONTAINER"), ("br-0123456789ab", "CONTAINER"), ("virbr1", "CONTAINER"), ("veth12", "CONTAINER"),
     ("cni0", "CONTAINER"), ("br0", "BRIDGE"), ("br-lan", "BRIDGE"), ("tun0", "TUNNEL"), ("wg0", "TUNNEL"),
     ("enp3s0", "OTHER"), ("", "OTHER")],
)  # fmt: skip
def test_without_sys_the_name_is_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, reach: str
) -> None:
    monkeypatch.setattr(interfaces, "_SYS_NET", tmp_path / "none")
    (own,) = order_by_reach([Found(ipaddress.ip_address("192.0.2.1"), interfaces._describe(name))], [])
    assert own.reach.name == reach


def test_sys_of_another_namespace_is_not_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(interfaces, "_SYS_NET", tmp_path)
    (tmp_path / "eth77" / "device").mkdir(parents=True)
    (tmp_path / "eth77" / "ifindex").write_text("77\n")
    assert not interfaces._describe("eth77").is_physical
