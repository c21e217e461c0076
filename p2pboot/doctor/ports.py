"""Can be listened on what is to be listened on, who has it otherwise, and does this machine reach itself there?"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.doctor.findings import Code, Finding, failed, ok, skipped, warning
from p2pboot.doctor.holders import Holder, holders_of
from p2pboot.doctor.patient import Patient, in_thread
from p2pboot.errors import MachineError
from p2pboot.transport.addresses import Address, can_listen, parse_address
from p2pboot.transport.interfaces import Interfaces, reachable
from p2pboot.transport.tcp.sockets import bound_address, open_listeners

DIAL_S: Final = 1.5
"""To oneself: more than the second after which the kernel sends the first packet again."""

_DIALS: Final = 4  # own addresses that are tried of each port


@dataclass(frozen=True, slots=True)
class Port:
    """What came of listening on one address.

    Args:
        address: that is to be listened on.
        what: it is for: "peers" or "HTTP".
        error: why it can not be; None if it can, or this node does.
        holders: who listens on the port, as far as that is known.
        closed: own addresses at which this machine does not reach its own port.
        reached: those at which it does.
    """

    address: Address
    what: str
    error: MachineError | None = None
    holders: tuple[Holder, ...] = ()
    closed: tuple[Address, ...] = ()
    reached: tuple[Address, ...] = ()


async def check_ports(patient: Patient) -> list[Finding]:
    """Look at all that this node listens on, or would."""
    if patient.is_node:
        listening = [parse_address(one) for one in patient.transport.listens_on()]
        if not listening:
            text = "this node listens nowhere: nobody can dial it"
            return [
                failed(Code.NOT_LISTENING, "peers", text, "name an address of this machine with --listen")
            ]
        ports = [await _dial_itself(Port(one, "peers"), one, patient.interfaces) for one in listening]
        return [judge_port(port, is_node=True) for port in ports]
    network = patient.settings.network
    found = []
    for address in map(parse_address, network.listen):
        if network.listen_is_default and not await in_thread(can_listen, address.kind):
            text = (
                "this machine, or this process, has no such addresses at all: nobody is dialled there either"
            )
            found.append(skipped(Code.NO_FAMILY, "IPv6" if address.kind == "ip6" else "IPv4", text))
            continue
        port = await _try(address, "peers", patient.interfaces)
        found.append(judge_port(port, is_default=network.listen_is_default, running=patient.running))
    http = _http_address(patient.settings.gateway.http)
    if http is not None:
        found.append(judge_port(await _try(http, "HTTP", patient.interfaces), running=patient.running))
    return found


def _http_address(text: str | None) -> Address | None:
    """`HOST:PORT` as an address; None for none, and for a name."""
    host, _, port = (text or "").rpartition(":")
    host = host.strip("[]")
    kind = "ip6" if ":" in host else "ip4"
    if not host or (not host.replace(".", "").isdigit() and kind == "ip4"):
        return None
    return Address(kind, host, int(port))


async def _try(address: Address, what: str, interfaces: Interfaces) -> Port:
    try:
        listeners = open_listeners([address])
    except MachineError as error:
        holders = await in_thread(holders_of, address.port) if address.port else []
        return Port(address, what, error, tuple(holders))
    async with listeners[0]:
        return await _dial_itself(Port(address, what), bound_address(listeners[0]), interfaces)


async def _dial_itself(port: Port, bound: Address, interfaces: Interfaces) -> Port:
    """Connect to what listens at this machine's own addresses; the kernel answers, whoever accepts."""
    own = await in_thread(reachable, [bound], interfaces)
    reached: list[Address] = []
    closed: list[Address] = []

    async def dial(address: Address) -> None:
        results = closed
        with trio.move_on_after(DIAL_S), suppress(OSError):
            async with await trio.open_tcp_stream(address.host, address.port):
                results = reached
        results.append(address)

    async with trio.open_nursery() as nursery:
        for address in own[:_DIALS]:
            nursery.start_soon(dial, address)
    return replace(port, closed=tuple(closed), reached=tuple(reached))


def judge_port(
    port: Port, *, is_node: bool = False, is_default: bool = False, running: int | None = None
) -> Finding:
    """What became of one port.

    Args:
        port: what was tried.
        is_node: whether it is a running node's own.
        is_default: whether nobody configured it: then another one is taken.
        running: process id of the node that runs with the same state directory.
    """
    subject = f"{port.address} ({port.what})"
    if port.error is not None:
        return _judge_error(port, port.error, subject, is_default=is_default, running=running)
    if port.closed and not port.reached:
        where = ", ".join(map(str, port.closed))
        text = f"it is listened on, and this machine does not get through to its own {where}"
        remedy = f"let TCP port {port.closed[0].port} in, in this machine's firewall"
        return failed(Code.OWN_PORT_CLOSED, subject, text, remedy)
    text = "it is listened on" if is_node else "it can be listened on"
    if port.reached:
        text += f", and answers at {', '.join(one.host for one in port.reached)}"
    return ok(Code.PORTS, subject, text)


def _judge_error(
    port: Port, error: MachineError, subject: str, *, is_default: bool, running: int | None
) -> Finding:
    number = getattr(error.__cause__, "errno", None)
    if number != errno.EADDRINUSE:
        return failed(Code.CANNOT_LISTEN, subject, error.message, error.remedy)
    if running is not None and any(holder.pid == running for holder in port.holders):
        return ok(
            Code.PORTS,
            subject,
            f"the node that runs with this state (process {running}) listens there; `p2pboot doctor --node` has it look"
            " itself",
        )
    who = " and ".join(map(str, port.holders)) or "another program, whose name this user may not know,"
    text = f"{who} has the port"
    if is_default:
        return warning(
            Code.PORT_TAKEN,
            subject,
            f"{text}: a node takes another free one, which no firewall knows",
            "choose one with --listen",
        )
    return failed(Code.PORT_TAKEN, subject, text, error.remedy)


def ports_of(patient: Patient) -> Sequence[int]:
    """The TCP ports that others have to reach; without those of which any will do."""
    said = patient.transport.listens_on() if patient.is_node else patient.settings.network.listen
    return sorted({port for one in said if (port := parse_address(one).port)})
