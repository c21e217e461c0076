"""Rules as nft and iptables list them, and what dials tell of firewalls elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pboot.doctor.dials import Dialled
from p2pboot.doctor.findings import Code, State
from p2pboot.doctor.firewall import Seen, judge_firewall
from p2pboot.doctor.rules import Rules, read_iptables, read_nft
from p2pboot.transport.interface import DialFailure
from tests.doctor.patients import short

RULESETS = Path(__file__).parent / "rulesets"
WANTED = [("tcp", 4001), ("udp", 5353)]
ACCEPT, DROP = {"accept": None}, {"drop": None}


def dport(right: Any, protocol: str = "tcp") -> dict[str, Any]:
    left = {"payload": {"protocol": protocol, "field": "dport"}}
    return {"match": {"op": "==", "left": left, "right": right}}


ANSWERS = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}
LOOPBACK = {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}}
PING = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "ipv6-icmp"}}
NEXT_HEADER = {
    "match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "nexthdr"}}, "right": "ipv6-icmp"}
}
PINGS = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": ["icmp", "igmp"]}}}
STATES = {
    "vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", ACCEPT], ["invalid", DROP]]}}
}
NEW = {"match": {"op": "==", "left": {"ct": {"key": "state"}}, "right": {"set": ["new", "untracked"]}}}
FROM_THE_LAN = {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth1"}}


def nft(*rules: list[dict[str, Any]], policy: str = "drop", hook: str = "input", jump: bool = False) -> str:
    place = {"family": "inet", "table": "filter"}
    chain = {**place, "name": "in", "type": "filter", "hook": hook, "prio": 0, "policy": policy}
    name = "of-services" if jump else "in"
    entries: list[dict[str, Any]] = [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {**place}},
        {"chain": chain},
    ]
    entries += [{"rule": {**place, "chain": name, "handle": 1, "expr": list(rule)}} for rule in rules]
    return json.dumps({"nftables": entries})


@pytest.mark.parametrize(
    ("listed", "stopped"),
    [
        (nft(), WANTED),
        (nft([ANSWERS, ACCEPT], [LOOPBACK, ACCEPT], [PING, ACCEPT]), WANTED),
        (nft([NEXT_HEADER, ACCEPT], [STATES], [PINGS, ACCEPT]), WANTED),
        (nft([{"vmap": {"key": dport(0)["match"]["left"], "data": "@services"}}]), []),
        (nft([dport(4001), ACCEPT]), WANTED[1:]),
        (nft([dport(4001), ACCEPT], jump=True), WANTED[1:]),
        (nft([dport({"set": [22, {"range": [4000, 4100]}]}), ACCEPT]), WANTED[1:]),
        (nft([dport(5353, "udp"), ACCEPT]), WANTED[:1]),
        (nft([dport(4001, "udp"), ACCEPT]), WANTED),
        (nft([dport([4000, 4100], "th"), ACCEPT]), WANTED),  # not a form of nft's
        (nft([dport("@open", "th"), ACCEPT]), []),
        (nft([FROM_THE_LAN, ACCEPT]), []),
        (nft([NEW, ACCEPT]), []),
        (nft([dport(4001), DROP]), WANTED),
        (nft([dport(4001), DROP], policy="accept"), WANTED[:1]),
        (nft([dport(4001), ACCEPT], [dport(4001), DROP]), WANTED[1:]),
        (nft([dport({"range": [4000, 4100]}), {"reject": None}], policy="accept"), WANTED[:1]),
        (nft(policy="accept"), []),
        (nft([{"counter": {}}, {"reject": None}], policy="accept"), WANTED),
        (nft(hook="forward"), []),
        (nft([{"xt": None}]), []),  # iptables' own words, which are not understood here
    ],
)
def test_what_nftables_stops(listed: str, stopped: list[tuple[str, int]]) -> None:
    rules = read_nft(listed)
    assert rules is not None
    assert [one for one in WANTED if rules.stops(*one)] == stopped


@pytest.mark.parametrize(
    ("name", "stopped"),
    [("filter", []), ("zones", [("tcp", 4001)])],
)
def test_rules_as_nft_1_0_6_lists_them(name: str, stopped: list[tuple[str, int]]) -> None:
    """Made by `nft -f NAME.nft` and `nft -j list ruleset` in a network namespace."""
    rules = read_nft((RULESETS / f"{name}.json").read_text())
    assert rules is not None
    assert len(rules.dropping) == 1
    assert not rules.is_open
    assert [one for one in WANTED if rules.stops(*one)] == stopped
    assert rules.stops("tcp", 22) is False


@pytest.mark.parametrize("listed", ["", "{}", "[]", '{"nftables": 5}', '{"nftables": [7]}', "[" * 100_000])
def test_what_is_no_list_of_rules_is_none(listed: str) -> None:
    assert read_nft(listed) is None


@pytest.mark.parametrize(
    ("listed", "stopped"),
    [
        ("-P INPUT DROP", WANTED),
        ("-P INPUT ACCEPT", []),
        ("-P INPUT ACCEPT\n-A INPUT -p udp -m udp --dport 5353 -j DROP", WANTED[1:]),
        ("-P INPUT ACCEPT\n-A INPUT -j REJECT --reject-with icmp-host-prohibited", WANTED),
        (
            "-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
            WANTED,
        ),
        ("-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 4001 -j ACCEPT", WANTED[1:]),
        (
            "-P INPUT DROP\n-N svc\n-A INPUT -j svc\n-A svc -p tcp -m multiport --dports 22,4000:4100 -j ACCEPT",
            WANTED[1:],
        ),
        ("-P INPUT DROP\n-A INPUT -s 10.0.0.0/8 -j ACCEPT", []),
        ("-P INPUT DROP\n-A OUTPUT -o eth0 -j ACCEPT", WANTED),
    ],
)
def test_what_iptables_stops(listed: str, stopped: list[tuple[str, int]]) -> None:
    rules = read_iptables(listed)
    assert [one for one in WANTED if rules.stops(*one)] == stopped


def test_rules_that_drop_are_named_with_what_opens_them() -> None:
    seen = Seen(Rules(("inet filter in",)))
    (finding,) = judge_firewall(seen, WANTED, [])
    assert short([finding]) == [(Code.FIREWALL_DROPS, State.WARNING)]
    assert "inet filter in" in finding.text
    assert "4001/tcp, 5353/udp" in finding.text
    assert finding.remedy == "have rules accept them: tcp dport 4001 accept; udp dport 5353 accept"


@pytest.mark.parametrize(
    ("manager", "command"), [("ufw", "ufw allow 4001/tcp"), ("firewalld", "firewall-cmd")]
)
def test_who_looks_after_the_rules_gets_his_command(manager: str, command: str) -> None:
    (finding,) = judge_firewall(Seen(Rules(("x",)), managers=(manager,)), WANTED, [])
    assert finding.remedy is not None
    assert finding.remedy.startswith(command)


def test_rules_that_are_open_or_unknown_are_no_warning() -> None:
    assert short(judge_firewall(Seen(Rules()), WANTED, [])) == [(Code.FIREWALL, State.OK)]
    let_in = frozenset({("tcp", 4001, 4001), ("any", 5353, 5353)})
    assert short(judge_firewall(Seen(Rules(("x",), let_in)), WANTED, [])) == [(Code.FIREWALL, State.OK)]
    unread = judge_firewall(Seen(None, "only root may read them", ("ufw",)), WANTED, [])
    assert short(unread) == [(Code.FIREWALL_UNREAD, State.SKIPPED)]
    assert "ufw" in unread[0].text


def test_what_never_comes_back_is_suspected_more_where_others_refuse() -> None:
    late = Dialled("a", "/ip4/192.0.2.1/tcp/4001", DialFailure.TIMEOUT, "nothing")
    refused = Dialled("b", "/ip4/192.0.2.2/tcp/4001", DialFailure.REFUSED, "refused")
    found = judge_firewall(Seen(Rules()), WANTED, [late])
    assert short(found) == [(Code.FIREWALL, State.OK), (Code.FIREWALL_SUSPECTED, State.WARNING)]
    assert "192.0.2.1" in found[1].text
    assert "refuse" not in found[1].text
    assert "refuse at once" in judge_firewall(Seen(Rules()), WANTED, [late, refused])[1].text
    assert len(judge_firewall(Seen(Rules()), WANTED, [refused])) == 1
