"""TCP connections for both transports: sockets, and what carries `wire`'s state machines over them.

A transport decides who may connect, what a stream's protocol is, and what is told of peers.
"""
