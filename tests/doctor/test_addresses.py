"""What a machine's addresses are good for."""

from __future__ import annotations

import pytest

from p2pboot.doctor.addresses import judge_addresses
from p2pboot.doctor.findings import Code, State
from p2pboot.transport.interfaces import Listing, Reach
from tests.doctor.patients import LOOPBACK, own, short

FOUR, SIX = own("192.0.2.7"), own("2001:db8::7")
LOCAL = own("fe80::7")


@pytest.mark.parametrize(
    ("listing", "code", "state", "said"),
    [
        (Listing((FOUR, SIX, LOOPBACK)), Code.ADDRESSES, State.OK, "IPv4 and IPv6: 192.0.2.7 on eth0"),
        (Listing((SIX, LOOPBACK), link_local=(LOCAL,)), Code.ADDRESSES, State.OK, "IPv6 only: 2001:db8::7"),
        (Listing((FOUR,)), Code.ADDRESSES, State.OK, "IPv4 only"),
        (Listing((LOOPBACK,), link_local=(LOCAL,)), Code.LINK_LOCAL_ONLY, State.WARNING, "fe80::7 on eth0"),
        (Listing((LOOPBACK,)), Code.NO_ADDRESS, State.FAILED, "no other machine"),
        (Listing(()), Code.NO_ADDRESS, State.FAILED, "no other machine"),
        (Listing((own("192.0.2.7", Reach.DOWN),)), Code.NO_ADDRESS, State.FAILED, "carrier"),
        (
            Listing((own("172.17.0.1", Reach.CONTAINER, "docker0"),)),
            Code.NO_ADDRESS,
            State.FAILED,
            "within it",
        ),
        (
            Listing((), link_local=(own("fe80::1", Reach.DOWN), own("fe80::2", Reach.CONTAINER))),
            *(Code.NO_ADDRESS, State.FAILED, "within it"),
        ),
    ],
)
def test_what_addresses_are_good_for(listing: Listing, code: Code, state: State, said: str) -> None:
    (finding,) = judge_addresses(listing)
    assert (finding.code, finding.state) == (code, state)
    assert said in finding.text
    assert (finding.remedy is None) is (state is State.OK)


def test_a_cage_that_hides_interfaces_is_named() -> None:
    found = judge_addresses(Listing((FOUR,), refused="Operation not permitted"))
    assert short(found) == [(Code.INTERFACES, State.WARNING), (Code.ADDRESSES, State.OK)]
    assert "Operation not permitted" in found[0].text


def test_of_a_hundred_addresses_a_line_names_some() -> None:
    (finding,) = judge_addresses(Listing(tuple(own(f"10.0.0.{i}") for i in range(1, 101))))
    assert finding.text.endswith("and 92 more")
