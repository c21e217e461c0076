"""Yamux, `/yamux/1.0.0`: many streams on one connection, each with a window.

Spec: https://github.com/hashicorp/yamux/blob/master/spec.md, and what go-, rust- and js-libp2p really do.
"""
