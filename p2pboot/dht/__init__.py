"""The distributed hash table: a small Kademlia of our own, spoken with go-, rust-, js- and py-libp2p alike.

`keys`, `table`, `lookup`, `records` and `answers` decide, without input, output, clock or randomness; `server` and
`client` move bytes. What it tells is a hint of strangers, and bounded: what is believed is decided by signatures.
"""
