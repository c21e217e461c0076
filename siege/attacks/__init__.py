"""The attacks, by what they are aimed at."""

from __future__ import annotations

from siege.attack import Attack
from siege.attacks import (
    connections,
    giants,
    gossip,
    hashtable,
    http,
    lan,
    liars,
    private,
    reading,
    swarm,
    sync,
    trust,
)

ATTACKS: dict[str, type[Attack]] = {
    attack.name: attack
    for module in (
        connections,
        reading,
        sync,
        swarm,
        liars,
        hashtable,
        gossip,
        trust,
        http,
        giants,
        private,
        lan,
    )
    for attack in module.ATTACKS
}
"""By name, in the order in which they are tried alone."""
