"""What this machine is called in roll-outs, and the options that say otherwise.

The name stays here: it draws the machine's place, and is never sent to anybody.
"""

from __future__ import annotations

import array
import math
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from p2pboot.cli.options import Decorator, options
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.core.rollouts import Machine

SYS: Final = Path("/sys")
_ETHERNET: Final = "1"  # ARPHRD_ETHER
_BURNT_IN: Final = "0"  # NET_ADDR_PERM
_SIOCETHTOOL: Final = 0x8946
_GET_PERMANENT: Final = 0x20  # ETHTOOL_GPERMADDR
_MAC_BYTES: Final = 6
_MOST_BYTES: Final = 32  # MAX_ADDR_LEN

machine_options: Decorator[Any] = options(
    click.option(
        "--machine-id",
        metavar="NAME",
        help="What this machine is called in roll-outs; it is told to nobody.  [default: the UUID of its firmware, or"
        " its lowest hardware address]",
    ),
    click.option(
        "--wariness",
        type=click.FloatRange(0, 1),
        metavar="W",
        help="When this machine takes part in roll-outs, from 0 (first) to 1 (last), whatever it is called.",
    ),
    click.option("--canary", is_flag=True, help="Take part in roll-outs first: --wariness 0."),
)


def machine_of(machine_id: str | None, wariness: float | None, *, canary: bool) -> Machine:
    """How this machine takes part in roll-outs, by what the command line says, else by what its hardware does.

    Raises:
        UsageError: a name that is none, or two words for one thing.
    """
    from p2pboot.core.rollouts import Machine, choose_machine, machine_name

    if canary and wariness is not None:
        raise UsageError("--canary is --wariness 0", remedy="give one of the two")
    if wariness is not None and math.isnan(wariness):  # which is in every range
        raise UsageError("--wariness: nan is no number", remedy="give one from 0 (first) to 1 (last)")
    if canary or wariness is not None:
        return Machine(None, wariness=0.0 if canary else wariness)
    if machine_id is not None:
        try:
            return Machine(machine_name(machine_id), "--machine-id")
        except ValueError as error:
            raise UsageError(f"--machine-id: {error}", remedy="such as a UUID or a MAC address") from None
    uuid = _read(SYS / "class/dmi/id/product_uuid")
    name = choose_machine(uuid, [] if choose_machine(uuid, []) else sorted(_burnt_in()))
    return Machine(name, "the UUID of its firmware" if choose_machine(uuid, []) else "its hardware address")


def _read(path: Path) -> str | None:
    with suppress(OSError, ValueError):  # only root may read the UUID
        return path.read_text().strip()
    return None


def _burnt_in() -> Iterator[str]:
    """The permanent hardware addresses of this machine's network cards.

    A card's present address may be another one: of a bond, or chosen at random.
    """
    with suppress(OSError):
        for card in (SYS / "class/net").iterdir():
            if _read(card / "type") == _ETHERNET:
                own = _read(card / "address") if _read(card / "addr_assign_type") == _BURNT_IN else None
                mac = _permanent(card.name) or own
                if mac is not None:
                    yield mac


def _permanent(name: str) -> str | None:
    """What the driver says was burnt in; None where it says nothing."""
    import fcntl

    answer = array.array("B", struct.pack("II", _GET_PERMANENT, _MOST_BYTES) + bytes(_MOST_BYTES))
    request = struct.pack("16sP", name.encode()[:15], answer.buffer_info()[0])
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        fcntl.ioctl(asked, _SIOCETHTOOL, request)
        _, size = struct.unpack_from("II", answer)
        mac = answer.tobytes()[8 : 8 + size]
        if size == _MAC_BYTES and any(mac):
            return mac.hex(":")
    return None
