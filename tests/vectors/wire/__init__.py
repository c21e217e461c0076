"""What other implementations put on the wire."""

import p2pboot.transport.libp2p  # noqa: F401  # puts a stand-in where libp2p wants a package that has no wheels
