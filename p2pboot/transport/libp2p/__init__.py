"""The network on py-libp2p 0.8.1: the only package that imports libp2p, and keeps it at arm's length.

Importing it takes about a second and 83 MB. What is replaced in the library, and why, is in
docs/adr/0002-py-libp2p-adapter.md.
"""

from p2pboot.transport.libp2p import fastecdsa_standin

fastecdsa_standin.install_if_missing()  # before anything here imports libp2p

from p2pboot.transport.libp2p.host import open_libp2p  # noqa: E402
from p2pboot.transport.libp2p.options import Libp2pOptions  # noqa: E402

__all__ = ["Libp2pOptions", "open_libp2p"]
