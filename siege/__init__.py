"""What strangers can do to a node, done to one: each attack is a class, and runs in a process of its own.

`python -m siege` lays siege to a real node and prints what each attack cost it. `docs/security.md` says what stops
each of them, and where.
"""
