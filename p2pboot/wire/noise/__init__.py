"""Noise as libp2p uses it: the XX handshake, who signed its keys, and the messages after it.

Spec: https://noiseprotocol.org/noise.html and https://github.com/libp2p/specs/blob/master/noise/README.md.
"""
