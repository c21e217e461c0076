"""Has this machine addresses by which others can speak with it?"""

from __future__ import annotations

from collections.abc import Iterable

from p2pboot.doctor.findings import Code, Finding, failed, ok, warning
from p2pboot.transport.interfaces import Listing, OwnAddress, Reach

_NAMED = 8
_SUBJECT = "this machine"
_INNER = {Reach.LOOPBACK, Reach.CONTAINER}  # for itself, and for what runs inside of it


def judge_addresses(listing: Listing) -> list[Finding]:
    """What the machine's addresses are good for.

    Args:
        listing: of its interfaces.
    """
    found = []
    if listing.refused is not None:
        found.append(
            warning(
                Code.INTERFACES,
                _SUBJECT,
                f"its interfaces can not be listed by AF_NETLINK ({listing.refused}): addresses may be missing, and"
                " nobody is looked for on the local network",
                "add AF_NETLINK to RestrictAddressFamilies= in the unit",
            )
        )
    outer = [one for one in listing.addresses if one.reach not in _INNER]
    local = [one for one in listing.link_local if one.reach not in {*_INNER, Reach.DOWN}]
    if any(one.reach is not Reach.DOWN for one in outer):
        return [*found, ok(Code.ADDRESSES, _SUBJECT, _listed(outer))]
    if outer:
        text = f"{_named(outer)}, and no interface with an address has a carrier"
        return [
            *found,
            failed(Code.NO_ADDRESS, _SUBJECT, text, "plug the cable in, or see what is at its other end"),
        ]
    if local:
        text = f"link-local addresses only: {_named(local)}; they lead to who is on the same link"
        remedy = "see that DHCP, or a router that announces an IPv6 prefix, reaches this machine"
        return [*found, warning(Code.LINK_LOCAL_ONLY, _SUBJECT, text, remedy)]
    text = "no address but those within it: no other machine can be reached"
    remedy = "bring an interface up, and give it an address by DHCP, by a router's announcements, or by hand"
    return [*found, failed(Code.NO_ADDRESS, _SUBJECT, text, remedy)]


def _listed(outer: list[OwnAddress]) -> str:
    versions = {one.ip.version for one in outer}
    families = "IPv4 and IPv6" if len(versions) == 2 else f"IPv{versions.pop()} only"
    return f"{families}: {_named(outer)}"


def _named(several: Iterable[OwnAddress]) -> str:
    shown = [f"{one.ip} on {one.interface or 'an unknown interface'}" for one in several]
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more
