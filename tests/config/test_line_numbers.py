from __future__ import annotations

import tomllib

from p2pboot.config.line_numbers import line_numbers

TEXT = '''
# [commented]
snapshot_dir = "/srv"  # = top
[network]
listen = [
    "/ip4/0.0.0.0/tcp/4001",
]
"mdns" = true
text = """
[no_table]
no_key = 1
"""
after = \'\'\'one line\'\'\'
network.odd . dotted = 1

[[trust]]
keys = ["a"]
[[ trust ]]
threshold = 2

[ provider ]
'''


def test_every_key_has_the_line_it_stands_in() -> None:
    assert tomllib.loads(TEXT)["network"]["after"] == "one line"
    places = line_numbers(TEXT)
    lines = TEXT.split("\n")
    assert {place: lines[line - 1].strip() for place, line in places.items()} == {
        ("snapshot_dir",): 'snapshot_dir = "/srv"  # = top',
        ("network",): "[network]",
        ("network", "listen"): "listen = [",
        ("network", "mdns"): '"mdns" = true',
        ("network", "text"): 'text = """',
        ("network", "after"): "after = '''one line'''",
        ("network", "network"): "network.odd . dotted = 1",
        ("network", "network", "odd"): "network.odd . dotted = 1",
        ("network", "network", "odd", "dotted"): "network.odd . dotted = 1",
        ("trust",): "[[trust]]",
        ("trust", 1): "[[trust]]",
        ("trust", 1, "keys"): 'keys = ["a"]',
        ("trust", 2): "[[ trust ]]",
        ("trust", 2, "threshold"): "threshold = 2",
        ("provider",): "[ provider ]",
    }
