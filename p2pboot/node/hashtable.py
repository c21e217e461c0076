"""What a node puts into the distributed hash table, and whom it finds there.

Under the key by which Phase's tools look is the URL of its gateway's manifest, of each channel and arch that it offers;
and it is a provider of these, and of their artifacts. For what it follows it looks for providers, and is connected with
them: whether they have something is asked of them, and whether that is believed, the signatures say.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import trio

from p2pboot.core.manifest import Manifest
from p2pboot.core.trust import Pair
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.keys import content_key, manifest_key, manifest_url, names_of, pair_key
from p2pboot.dht.member import FIRST_S, FRESH_S, DhtCounts, DhtMember
from p2pboot.dht.table import Contact
from p2pboot.errors import P2PBootError
from p2pboot.fetch.asking.neighbours import FULL_MESH
from p2pboot.store.catalogue import Catalogue
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

ALONE_S: Final = 10.0
"""Between two looks while nobody is connected who takes part."""

PROVIDERS: Final = 64
"""Providers that one look tries to be connected with."""


class HashTable:
    """A node's part in it.

    Args:
        transport: the node's network.
        catalogue: what is offered.
        urls: tells the beginnings of the HTTP URLs under which this node's artifacts can be had now, the best first.
        serves: whether it answers others.
        policy: which peers and addresses are used.
        is_trusted: whether a peer is one whom the operator named, by its id.
        follows: tells the channels and archs that are looked for.
    """

    def __init__(
        self,
        transport: Transport,
        catalogue: Catalogue,
        urls: Callable[[], Sequence[str]],
        *,
        serves: bool,
        policy: AddressPolicy,
        is_trusted: Callable[[str], bool],
        follows: Callable[[], Iterable[Pair]],
    ) -> None:
        self._transport = transport
        self._catalogue = catalogue
        self._urls = urls
        self._follows = follows
        self._member = DhtMember(
            transport,
            policy,
            serves=serves,
            is_trusted=is_trusted,
            keeps=lambda: self._has_room,
        )

    @property
    def _has_room(self) -> bool:
        return len(self._transport.peers()) < FULL_MESH

    def counts(self) -> DhtCounts:
        """How its part is now."""
        return self._member.counts()

    async def reconcile(self) -> None:
        """Say what is offered now.

        Raises:
            P2PBootError: that can not be read.
        """
        manifests = await trio.to_thread.run_sync(self._offered)
        base = next(iter(self._urls()), None)
        values = {
            manifest_key(manifest.channel, name): manifest_url(base, manifest.channel, name)
            for manifest in manifests
            for name in names_of(manifest.arch)
            if base is not None
        }
        provided = {pair_key(manifest.channel, manifest.arch) for manifest in manifests}
        provided |= {
            content_key(artifact.sha256) for manifest in manifests for artifact in manifest.artifacts.values()
        }
        self._member.say(values, provided)

    def _offered(self) -> list[Manifest]:
        return [self._catalogue.manifest(row.digest) for row in self._catalogue.offered()]

    async def run(self) -> None:
        """Take part until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._member.run)
            nursery.start_soon(self._look_around)

    async def _look_around(self) -> None:
        pause_s = FIRST_S
        while True:
            await trio.sleep(ALONE_S)
            if len(self._member.client.table):
                for pair in sorted(self._follows()):
                    await self._find(pair)
                await trio.sleep(pause_s * random.uniform(0.9, 1.1))  # noqa: S311 - spreads work, no secret
                pause_s = min(2 * pause_s, FRESH_S)

    async def _find(self, pair: Pair) -> None:
        """Be connected with some who provide a channel and arch."""
        client = self._member.client
        found: list[Contact] = []
        await client.find_providers(pair_key(*pair), found.append)
        for contact in found[:PROVIDERS]:
            if self._has_room:
                try:
                    await client.reach(contact)
                except P2PBootError as error:
                    log.debug("a provider of %s/%s: %s", *pair, error)
