"""The connection stack of libp2p without input or output: bytes in, events and bytes out.

Owns multistream-select, Noise, Yamux, identify and ping as state machines; knows no trio, socket, clock or
randomness: whoever drives it passes bytes, keys and times. :mod:`p2pboot.wire.connection` puts the layers of one
connection together; each is usable and tested alone.

::

    multistream-select   /noise                              wire.multistream
    Noise XX             identities, keys                    wire.noise
    multistream-select   /yamux/1.0.0, unless the handshake chose it
    Yamux                streams with windows                wire.yamux
    multistream-select   a protocol for each stream          wire.multistream
    identify, ping       on streams of their own             wire.identify, wire.ping

Everything that a peer sends is bounded before memory is spent on it. What the peer may not send raises
`RemoteProtocolError` with one line for the log, and the connection is over; what we may not do raises
`LocalProtocolError` and changes nothing.
"""
