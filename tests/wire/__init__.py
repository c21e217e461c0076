"""The connection stack, against vectors, itself, and py-libp2p."""

import p2pboot.transport.libp2p  # noqa: F401  # puts a stand-in where libp2p wants a package that has no wheels
