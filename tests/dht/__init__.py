"""The distributed hash table, by itself and with py-libp2p's."""

import p2pboot.transport.libp2p  # noqa: F401  # puts a stand-in where libp2p wants a package that has no wheels
