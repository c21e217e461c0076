"""Does multicast DNS leave this machine, come back to it, and does anybody answer? On each link by itself.

A question as any peer asks it is sent, and one more that nobody else asks: by that this machine knows its own packet
again, which the kernel gives back as if it had come from the link, through the firewall for what comes in.
"""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import field
from typing import Final, Protocol

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.doctor.findings import Code, Finding, State, failed, ok, skipped, warning
from p2pboot.doctor.patient import Patient
from p2pboot.errors import RemoteProtocolError
from p2pboot.transport.interfaces import Listing
from p2pboot.transport.mdns import records
from p2pboot.transport.mdns.links import Link, links_of
from p2pboot.transport.mdns.sockets import LinkSocket
from p2pboot.wire.dns import TXT, Name, Question, read_message, write_question

LISTEN_S: Final = 2.2
"""Who is asked answers within a second and a bit; half of the time is for a packet that is lost."""

AGAIN_S: Final = 1.0
_MAX_PACKETS: Final = 300  # of one link: a flood is not listened to
_MAX_PEERS: Final = 64
_NAMED: Final = 4
_OPEN_5353: Final = "allow UDP port 5353 in and out in this machine's firewall, to 224.0.0.251 and ff02::fb"


class Speaking(Protocol):
    """A socket on a link, as `transport.mdns.sockets.LinkSocket` is one."""

    def send(self, packet: bytes) -> None:
        """Send to everybody on the link; OSError where the system does not take it."""

    async def receive(self) -> tuple[bytes, tuple[str, int]]:
        """Return the next datagram and where it came from."""

    def close(self) -> None:
        """Close it."""


@dataclass(slots=True)
class Heard:
    """What was heard on one link.

    Args:
        link: where.
        not_joined: why it is not possible to take part.
        not_sent: why the questions could not be sent.
        own: whether the own question came back.
        peers: those who answer, by peer id, with the address that they answer from; bounded.
    """

    link: Link
    not_joined: OSError | None = None
    not_sent: OSError | None = None
    own: bool = False
    peers: dict[str, str] = field(default_factory=dict)


async def check_multicast(patient: Patient, within_s: float) -> list[Finding]:
    """Ask on every link, and wait so long for answers at most."""
    if not patient.settings.network.mdns:
        text = "peers are not looked for on the local network: mDNS is off"
        return [skipped(Code.MULTICAST_OFF, "local network", text, "switch it on with --mdns")]
    listing = patient.interfaces.listing()
    heard = await listen(links_of(listing), LinkSocket, min(LISTEN_S, within_s))
    return judge_multicast(heard, listing, own_id=patient.transport.peer_id)


async def listen(
    links: Sequence[Link], open_socket: Callable[[Link], Speaking], within_s: float = LISTEN_S
) -> list[Heard]:
    """Ask on links, and hear who answers.

    Args:
        links: where.
        open_socket: takes part on one; raises OSError.
        within_s: seconds.
    """
    heard = [Heard(link) for link in links]
    async with trio.open_nursery() as nursery:
        for one in heard:
            nursery.start_soon(_listen_on, one, open_socket, within_s)
    return heard


async def _listen_on(heard: Heard, open_socket: Callable[[Link], Speaking], within_s: float) -> None:
    try:
        sock = open_socket(heard.link)
    except OSError as error:
        heard.not_joined = error
        return
    mark: Name = (secrets.token_hex(16).encode(), *records.SERVICE)
    try:
        with trio.move_on_after(within_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ask, sock, heard, mark)
                await _hear(sock, heard, mark)
                await trio.sleep_forever()
    finally:
        sock.close()


async def _ask(sock: Speaking, heard: Heard, mark: Name) -> None:
    for _ in range(2):
        try:
            for packet in (write_question(Question(mark, TXT)), records.QUESTION):
                sock.send(packet)
        except OSError as error:
            heard.not_sent = error
        else:
            heard.not_sent = None
        await trio.sleep(AGAIN_S)


async def _hear(sock: Speaking, heard: Heard, mark: Name) -> None:
    for _ in range(_MAX_PACKETS):
        try:
            packet, (host, _) = await sock.receive()
            message = read_message(packet)
        except OSError:
            return
        except RemoteProtocolError:
            continue
        if not message.is_response:
            heard.own |= any(question.name == mark for question in message.questions)
            continue
        for address in records.told(message):
            if address.peer_id is not None and len(heard.peers) < _MAX_PEERS:
                heard.peers.setdefault(address.peer_id, host)


def judge_multicast(heard: Sequence[Heard], listing: Listing, *, own_id: str) -> list[Finding]:
    """What was heard on all links.

    Args:
        heard: on each.
        listing: of the machine's interfaces.
        own_id: the patient's peer id, whose own answers are none.
    """
    outer = [one for one in heard if not one.link.is_loopback]
    if not outer:
        text = "no interface takes part in multicast: nobody is found on a local network"
        remedy = (
            "see what `addresses` says, or name peers with --bootstrap and switch mDNS off with --no-mdns"
        )
        return [failed(Code.MULTICAST_NOWHERE, "local network", text, remedy)]
    here = {str(one.ip) for one in (*listing.addresses, *listing.link_local)}
    found = [_judge_link(one, here, own_id) for one in outer]
    if any(finding.state is State.OK for finding in found):
        # Where one way is well, the others are no reason to find nobody.
        return [_softened(finding) for finding in found]
    return found


def _judge_link(heard: Heard, here: Collection[str], own_id: str) -> Finding:
    subject = str(heard.link)
    if heard.not_joined is not None:
        remedy = (
            "end the program that has UDP port 5353 for itself alone, or have it share the port (SO_REUSEADDR)"
            if heard.not_joined.errno == errno.EADDRINUSE
            else "see that the interface is up and takes multicast (`ip link` shows MULTICAST)"
        )
        text = f"it is not possible to take part in multicast DNS: {_words(heard.not_joined)}"
        return failed(Code.MULTICAST_NOT_JOINED, subject, text, remedy)
    if heard.not_sent is not None:
        refused = heard.not_sent.errno in {errno.EPERM, errno.EACCES}
        text = f"a question to {_group(heard.link)} can not be sent: {_words(heard.not_sent)}"
        remedy = _OPEN_5353 if refused else "see that the interface is up and has a route for multicast"
        return failed(Code.MULTICAST_NOT_SENT, subject, text, remedy)
    others = {peer_id: host for peer_id, host in heard.peers.items() if peer_id != own_id}
    if not heard.own and not others:
        text = "a question was sent, and not even this machine heard it"
        return failed(Code.MULTICAST_NOT_HEARD, subject, text, _OPEN_5353)
    if others:
        neighbours = sum(host not in here for host in others.values())
        named = ", ".join(f"{peer_id} from {host}" for peer_id, host in list(others.items())[:_NAMED])
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        where = "" if neighbours else ", all on this machine"
        return ok(Code.MULTICAST, subject, f"a question was sent, and answered by {named}{more}{where}")
    text = "a question was sent and comes back to this machine, and nobody answers"
    remedy = (
        "see that a node runs on this link without --no-mdns, and that switches and access points let multicast"
        " through; `tcpdump -ni INTERFACE udp port 5353` on both machines shows how far it comes"
    )
    return warning(Code.MULTICAST_ALONE, subject, text, remedy)


def _softened(finding: Finding) -> Finding:
    if finding.state is not State.FAILED:
        return finding
    return warning(finding.code, finding.subject, finding.text, finding.remedy)


def _group(link: Link) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address("ff02::fb" if link.family == socket.AF_INET6 else "224.0.0.251")


def _words(error: OSError) -> str:
    return error.strerror or str(error)
