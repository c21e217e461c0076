"""Finding peers on the local network: libp2p's mDNS, as js, go and rust speak it.

Spec: https://github.com/libp2p/specs/blob/master/discovery/mdns.md, RFC 6762. Over IPv4 and IPv6, on each interface by
itself, also on those that come later. What is found is a hint from whoever is on the wire: bounded by the address that
it came from, and checked by dialling.

- `discovery`: takes part, from the point of view of a node; here is `open_mdns`.
- `speaking`: asks, answers and listens on one interface.
- `links`: on which interfaces, and what is told on each.
- `sockets`: one for each interface and family.
- `records`: what is said, and what is read out of what others say.
- `sources`: how much is taken of whom.
"""

from p2pboot.transport.mdns.discovery import open_mdns

__all__ = ["open_mdns"]
