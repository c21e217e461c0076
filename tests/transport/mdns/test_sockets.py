"""What comes out of which socket."""

from __future__ import annotations

import json

from tests.lan import network
from tests.transport.namespaces import run_python

# On a machine with two interfaces, to the second of which a neighbour sends: to the group, and to the machine alone.
CAME = """
import json, socket, subprocess, sys, trio
from p2pboot.transport.mdns.links import Link
from p2pboot.transport.mdns.sockets import GROUPS, LinkSocket
async def main():
    index = {name: socket.if_nametoindex(name) for name in ("eth0", "eth1")}
    links = [Link(family, index[name], name) for family in GROUPS for name in index]
    sockets = {link: LinkSocket(link) for link in links}
    subprocess.run([*json.loads('INSIDE'), sys.executable, "-c", SEND], check=True)
    came = {}
    for link, one in sockets.items():
        packets = []
        with trio.move_on_after(0.1):
            while True:
                packets.append((await one.receive())[0].decode())
        came[str(link)] = [len(packets), sorted(set(packets))]
    print(json.dumps(came))
SEND = '''
import socket
index = socket.if_nametoindex("eth0")
for number in range(20):  # from several ports: by them packets might be dealt out
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.0.2.9"))
        sender.sendto(b"group", ("224.0.0.251", 5353))
        sender.sendto(b"alone", ("192.0.2.2", 5353))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"group", ("ff02::fb", 5353, 0, index))
        sender.sendto(b"alone", ("fe80::2", 5353, 0, index))
'''
trio.run(main)
"""


def test_a_socket_hears_its_own_link_and_what_is_said_to_everybody() -> None:
    with network(("here", "there"), switches=("one", "two")) as net:
        net.plug("here", "one", "eth0")
        net.plug("here", "two", "eth1")
        net.plug("there", "two")
        for machine, host, device in (
            ("here", "198.51.100.1/24", "eth0"),
            ("here", "192.0.2.2/24", "eth1"),
            ("here", "fe80::2/64", "eth1"),
            ("there", "192.0.2.9/24", "eth0"),
        ):
            net.ip(machine, f"addr add {host} dev {device}")
        code = CAME.replace("INSIDE", json.dumps(net.inside("there")))
        assert run_python(net.inside("here"), code) == {
            "eth0 (IPv4)": [0, []],
            "eth1 (IPv4)": [20, ["group"]],
            "eth0 (IPv6)": [0, []],
            "eth1 (IPv6)": [20, ["group"]],
        }
