"""Why nothing is found, looked for step by step: what `p2pboot doctor` and a running node do.

Each check is a module of its own: what it finds out about the machine or the network, and, apart from that, what it
makes of it. `examination` runs them in order, in a bounded time, and `findings` is the form of what they say.
"""
