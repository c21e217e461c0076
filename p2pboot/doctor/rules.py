"""The packet filter's rules of this machine, as far as this user may read them: nftables', else iptables'.

Only so much is read out of them: whether what comes in is dropped unless a rule lets it in, and which ports are let in
by number. Rules are programs, and what is not understood counts as letting in: it is a hint.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from p2pboot.core.dataclass import dataclass

_PATH: Final = "/usr/sbin:/sbin:/usr/bin:/bin"  # not what somebody put into ours: root runs these
_TOOL_S: Final = 3.0
_MAX_OUTPUT: Final = 8 * 1024 * 1024
Ports = tuple[str, int, int]
"""A protocol, "any" for all, and the first and the last of some ports."""

_NO_PORTS: Final = ("icmp", "icmpv6", "ipv6-icmp", "igmp")  # protocols that have none
_UFW: Final = Path("/etc/ufw/ufw.conf")


@dataclass(frozen=True, slots=True)
class Rules:
    """What was read.

    Args:
        dropping: the chains that drop, or reject, what comes in and is let in by no rule; for people.
        let_in: protocol and port ranges that rules let in by number: ("tcp", 4001, 4001).
        kept_out: those that rules drop by number.
        is_open: some rule lets more in than by port, in a way that is not understood here.
    """

    dropping: tuple[str, ...] = ()
    let_in: frozenset[Ports] = field(default_factory=frozenset)
    kept_out: frozenset[Ports] = field(default_factory=frozenset)
    is_open: bool = False

    @property
    def stop_anything(self) -> bool:
        """Whether they drop anything that comes in."""
        return bool(self.dropping or self.kept_out)

    def stops(self, protocol: str, port: int) -> bool:
        """Whether nothing is known by which packets to a port would come in."""
        if _covers(self.let_in, protocol, port):
            return False
        return _covers(self.kept_out, protocol, port) or (bool(self.dropping) and not self.is_open)


def _covers(several: Iterable[Ports], protocol: str, port: int) -> bool:
    return any(kind in {protocol, "any"} and low <= port <= high for kind, low, high in several)


def read_rules() -> Rules | None:
    """Ask the system's tools, as root; None where there are none, or they say nothing. Blocking, bounded."""
    listed = _run("nft", "-j", "list", "ruleset")
    rules = None if listed is None else read_nft(listed)
    if rules is not None and rules.stop_anything and not rules.is_open:
        return rules
    older = [text for tool in ("iptables", "ip6tables") if (text := _run(tool, "-S")) is not None]
    if older and (found := read_iptables("\n".join(older))).stop_anything:
        return found
    return rules if rules is not None else Rules() if older else None


def _run(tool: str, *arguments: str) -> str | None:
    path = shutil.which(tool, path=_PATH)
    if path is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - a tool of the system's, which only lists
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TOOL_S,
            env={"PATH": _PATH, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0 or len(done.stdout) > _MAX_OUTPUT:
        return None
    return done.stdout.decode("utf-8", "replace")


def managers() -> list[str]:
    """Programs that look after the rules here, as far as everybody may know: ufw, firewalld. Blocking."""
    found = []
    try:
        if re.search(r"^ENABLED=yes\s*$", _UFW.read_text(encoding="utf-8", errors="replace"), re.MULTILINE):
            found.append("ufw")
    except OSError:
        pass
    for name in Path("/proc").glob("[0-9]*/comm"):
        try:
            if name.read_text().strip() == "firewalld":
                found.append("firewalld")
                break
        except OSError:
            continue
    return found


# nftables


def read_nft(text: str) -> Rules | None:
    """Read `nft -j list ruleset`; None for what is not that."""
    try:
        entries = json.loads(text)["nftables"]
        chains = [one["chain"] for one in entries if "chain" in one]
        rules = [one["rule"] for one in entries if "rule" in one]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    dropping = []
    let_in: set[Ports] = set()
    kept_out: set[Ports] = set()
    is_open = False
    for chain in chains:
        if chain.get("hook") != "input" or chain.get("type") != "filter":
            continue
        # Chains that it jumps to are in its table.
        of_table = [rule for rule in rules if _same(rule, chain)]
        own = [rule for rule in of_table if rule.get("chain") == chain.get("name")]
        kept_out |= {ports for rule in own if _drops(rule) for ports in _ports(rule)}
        if chain.get("policy") == "drop" or any(_drops(rule) and not _has_match(rule) for rule in own):
            dropping.append(" ".join(str(chain.get(name)) for name in ("family", "table", "name")))
            for rule in of_table:
                ports, opens = _lets_in(rule)
                let_in |= ports
                is_open = is_open or opens
    return Rules(tuple(dropping), frozenset(let_in), frozenset(kept_out - let_in), is_open)


def _same(rule: Mapping[str, Any], chain: Mapping[str, Any]) -> bool:
    return all(rule.get(name) == chain.get(name) for name in ("family", "table"))


def _expressions(rule: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in rule.get("expr", []) if isinstance(one, dict)]


def _drops(rule: Mapping[str, Any]) -> bool:
    return any("drop" in one or "reject" in one for one in _expressions(rule))


def _has_match(rule: Mapping[str, Any]) -> bool:
    return any("match" in one for one in _expressions(rule))


def _sides(rule: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """What is compared, and with what."""
    for one in _expressions(rule):
        match = one.get("match")
        if isinstance(match, dict):
            yield match.get("left"), match.get("right")


def _ports(rule: Mapping[str, Any]) -> set[Ports]:
    """The ports that a rule is for by number."""
    found: set[Ports] = set()
    for left, right in _sides(rule):
        payload = left.get("payload", {}) if isinstance(left, dict) else {}
        if payload.get("field") == "dport":
            protocol = str(payload.get("protocol"))
            kind = protocol if protocol in {"tcp", "udp"} else "any"
            found |= {(kind, low, high) for low, high in _ranges(right)}
    return found


def _lets_in(rule: Mapping[str, Any]) -> tuple[set[Ports], bool]:
    """The ports that a rule lets in, and whether it lets in more than that."""
    expressions = _expressions(rule)
    if not any("accept" in one for one in expressions):
        # What iptables made is not told here, and a map of verdicts is read for none but those of connections.
        maps = [one["vmap"] for one in expressions if isinstance(one.get("vmap"), dict)]
        is_map = any("ct" not in (key if isinstance(key := one.get("key"), dict) else {}) for one in maps)
        return set(), is_map or any("xt" in one for one in expressions)
    sides = list(_sides(rule))
    names_ports = any(
        isinstance(left, dict) and left.get("payload", {}).get("field") == "dport" for left, _ in sides
    )
    return _ports(rule), not names_ports and not any(_is_for_others(left, right) for left, right in sides)


def _is_for_others(left: Any, right: Any) -> bool:
    """Whether a match leaves out what a stranger sends first: answers, loopback, pings."""
    if not isinstance(left, dict):
        return False
    named = right["set"] if isinstance(right, dict) and isinstance(right.get("set"), list) else right
    values = named if isinstance(named, list) else [named]
    if left.get("ct", {}).get("key") == "state":
        return "new" not in values
    if left.get("meta", {}).get("key") in {"iif", "iifname"}:
        return values == ["lo"]
    if str(left.get("payload", {}).get("protocol")).startswith("icmp"):
        return True
    return all(one in _NO_PORTS for one in values)


def _ranges(right: Any) -> Iterator[tuple[int, int]]:
    """The ports that the right side of a match names; a named set may hold any."""
    if isinstance(right, bool):
        return
    if isinstance(right, int):
        yield right, right
    elif isinstance(right, str) and right.startswith("@"):
        yield 0, 65535
    elif isinstance(right, dict) and isinstance(right.get("range"), list) and len(right["range"]) == 2:
        low, high = right["range"]
        if isinstance(low, int) and isinstance(high, int):
            yield low, high
    elif isinstance(right, dict) and isinstance(right.get("set"), list):
        for one in right["set"]:
            yield from _ranges(one)


# iptables


def read_iptables(text: str) -> Rules:
    """Read what `iptables -S` lists, or `ip6tables -S`, or one after the other."""
    lines = text.splitlines()
    dropping = [line for line in lines if re.fullmatch(r"-P INPUT (DROP|REJECT)", line)]
    dropping += [line for line in lines if re.fullmatch(r"-A INPUT -j (DROP|REJECT)( .*)?", line)]
    accepting = [line for line in lines if line.startswith("-A ") and re.search(r" -j ACCEPT\b", line)]
    refusing = [line for line in lines if re.match(r"-A INPUT .*-j (DROP|REJECT)\b", line)]
    let_in: set[Ports] = set()
    is_open = False
    for line in accepting:
        ports = list(_iptables_ports(line))
        let_in |= set(ports)
        harmless = re.search(
            r"-i lo\b|-p (icmp|icmpv6|ipv6-icmp)\b|ctstate|--state|-A (OUTPUT|FORWARD)\b", line
        )
        is_open = is_open or (not ports and not harmless)
    kept_out = {ports for line in refusing for ports in _iptables_ports(line)}
    return Rules(tuple(dropping), frozenset(let_in), frozenset(kept_out - let_in), is_open)


def _iptables_ports(line: str) -> Iterable[Ports]:
    protocol = match[1] if (match := re.search(r"-p (tcp|udp)\b", line)) else "any"
    for said in re.findall(r"--dports? (\S+)", line):
        for one in said.split(","):
            low, _, high = one.partition(":")
            if low.isdigit() and (high or low).isdigit():
                yield protocol, int(low), int(high or low)
