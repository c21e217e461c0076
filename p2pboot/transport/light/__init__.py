"""The network for clients: `wire` on trio's sockets, without importing libp2p.

A sketch: it dials and serves streams, but does not listen.
"""

from p2pboot.transport.light.transport import open_light

__all__ = ["open_light"]
