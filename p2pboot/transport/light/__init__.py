"""The network for clients: `wire` on trio's sockets, without importing libp2p."""

from p2pboot.transport.light.transport import open_light

__all__ = ["open_light"]
