"""Yanks at the publisher: a release that turned out bad is taken back, and what was before comes under the next number.

The order is what makes it safe to be killed at any moment. First the content that is gone back to is wholly here: if it
can not be had, nothing is yanked. Then the yank, and what is meant to be in force instead, go into the state in one
step. Then that is published; whoever is killed before publishes it when started again (`holding`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from p2pboot.core.amounts import counted
from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, content_digest
from p2pboot.core.manifest.facts import facts
from p2pboot.core.names import base_channel, check_name, is_next, normalise_arch
from p2pboot.core.policy import Publisher
from p2pboot.core.timestamps import format_time
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT
from p2pboot.core.trustdocs.yank import MAX_YANKS, Yank
from p2pboot.errors import NotFoundError, P2PBootError, UsageError
from p2pboot.node.drafting import Drafts, check_met, said
from p2pboot.node.goingback import numbered, released, to_go_back_to
from p2pboot.node.publishing import DirectoryPublisher
from p2pboot.node.retrieving import PATIENCE_S, Retrieving
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.releases import Release
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate, TrustGate

log = logging.getLogger(__name__)

_FACTS: Final = ("channel", "arch", "version", "manifest_version", "digest", "expires_at")


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for.

    Args:
        pair: the channel and arch.
        reason: for people, up to 512 bytes.
        release: the number of the release whose content is bad; None for what is in force.
        back_to: the number of the release whose content is to take its place; None for the newest that fits.
        leave_none: whether nothing is to take its place.
        document: a yank that others signed; None to sign one here.
        patience_s: how long nothing of what is missing may arrive.
    """

    pair: Pair
    reason: str = ""
    release: int | None = None
    back_to: int | None = None
    leave_none: bool = False
    document: bytes | None = None
    patience_s: float = PATIENCE_S


@dataclass(frozen=True, slots=True)
class Plan:
    """What an order comes to.

    Args:
        order: it.
        publisher: whose threshold a yank takes.
        bad: the release that is yanked, as far as it is remembered.
        content: the content that is yanked.
        known: the yank of it that counts already, if there is one.
        target: what takes its place; None for nothing, or where something else is in force.
        ends: whether what is in force ends with it.
    """

    order: Order
    publisher: Publisher
    bad: Release | None
    content: str
    known: Yank | None
    target: Release | None
    ends: bool


class Yanking:
    """See above.

    Args:
        store: of the node.
        catalogue: of the same store.
        documents: the way by which a yank gets into it.
        key: the node's signing key.
        publisher: of the node's directory.
        retrieving: has the artifacts of earlier releases here.
        wall: the machine's clock, unix seconds.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        documents: TrustGate,
        *,
        key: SecretKey,
        publisher: DirectoryPublisher,
        retrieving: Retrieving,
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._documents = documents
        self._key = key
        self._publisher = publisher
        self.retrieving = retrieving
        self._drafts = Drafts(key, wall)
        self._yanking = trio.Lock()

    # -- what is asked -----------------------------------------------------------------------------------------------

    async def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request on the control socket says: `do` is "list", "draft" or "yank".

        Raises:
            P2PBootError: it can not be done, or makes no sense.
        """
        pair = await trio.to_thread.run_sync(self._pair, request)
        match request.get("do"):
            case "list":
                return await trio.to_thread.run_sync(self._list, pair)
            case "draft":
                return await trio.to_thread.run_sync(self._draft, _order(request, pair))
            case "yank":
                return await self.yank(_order(request, pair))
        raise UsageError(f"a node can not do {str(request.get('do'))[:80]!r} with a release")

    async def yank(self, order: Order) -> dict[str, Any]:
        """Take a release back, and publish what takes its place.

        Raises:
            NotFoundError: what is gone back to can not be had; nothing has changed then.
            UsageError: the order makes no sense, or signatures are missing; nothing has changed then.
            StoreError, MachineError: the disk.
        """
        async with self._yanking:
            plan = await trio.to_thread.run_sync(self._plan, order)
            yank = await trio.to_thread.run_sync(self._yank_of, plan)
            if plan.target is not None:
                await self.retrieving.bring(
                    order.pair, Manifest.parse(plan.target.raw), patience_s=order.patience_s
                )
            await trio.to_thread.run_sync(self._take_down, plan, yank)
            published = await self._publisher.instead.go_on(order.pair) if plan.ends else None
        log.warning(
            "%s/%s: content %s was yanked%s",
            *order.pair,
            plan.content,
            f": {yank.body.reason}" if yank.body.reason else "",
            extra=Event.YANKED(channel=order.pair[0], arch=order.pair[1], content=plan.content),
        )
        return {
            "yanked": {
                **said(yank),
                "manifest_version": None if plan.bad is None else plan.bad.manifest_version,
            },
            "went_back_to": None if plan.target is None else plan.target.manifest_version,
            "ends": plan.ends,
            "published": None if published is None else facts(published, *_FACTS),
        }

    async def yank_content(self, pair: Pair, content: str, reason: str) -> Yank:
        """Yank certain content of a channel and arch, and put nothing in its place.

        Where it is in force, or lies in the directory, it is neither published nor renewed any more.

        Raises:
            UsageError: this node's key alone is not enough.
            StoreError, MachineError: the disk.
        """
        async with self._yanking:
            plan = await trio.to_thread.run_sync(self._plan_content, Order(pair, reason), content)
            yank = await trio.to_thread.run_sync(self._yank_of, plan)
            await trio.to_thread.run_sync(self._take_down, plan, yank)
            await self._publisher.instead.go_on(pair)
        return yank

    # -- what it comes to --------------------------------------------------------------------------------------------

    def _pair(self, request: Mapping[str, Any]) -> Pair:
        channel, arch = request.get("channel"), request.get("arch")
        if not isinstance(channel, str):
            raise UsageError("no channel is named")
        if isinstance(arch, str):
            try:
                return check_name(channel, "channel"), normalise_arch(arch)
            except ValueError as error:
                raise UsageError(str(error)) from None
        known = {*self._publisher.signers(), *self._store.publications.pairs((self._key.public.keyid,))}
        archs = sorted(one for name, one in known if name == channel)
        if len(archs) == 1:
            return channel, archs[0]
        raise UsageError(
            f"{channel[:64]} has several architectures: {', '.join(archs)}"
            if archs
            else f"this node published nothing of {channel[:64]!r}",
            remedy="say which one with --arch" if archs else "check the name of the channel",
        )

    def _series(self, pair: Pair) -> set[tuple[str, ...]]:
        in_force = self._publisher.in_force(pair)
        return {(self._key.public.keyid,), *(() if in_force is None else (in_force.signers,))}

    def _who(self, pair: Pair) -> Publisher:
        publisher = self._catalogue.trust.publishing(pair, self._own_signers(pair)).publisher_for(*pair)
        if publisher is None or publisher.fleet is None:
            raise NotFoundError(
                f"nobody is known who may yank what is published of {'/'.join(pair)}",
                remedy="have the root of the fleet at hand: --root FILE",
            )
        return publisher

    def _own_signers(self, pair: Pair) -> tuple[str, ...]:
        return self._catalogue.trust.own.get(pair, (self._key.public.keyid,))

    def _plan(self, order: Order) -> Plan:
        pair, publisher = order.pair, self._who(order.pair)
        yanks, releases = self._catalogue.yanks(*pair), released(self._store, self._series(pair), pair)
        in_force = self._publisher.in_force(pair)
        content, bad = self._meant(order, releases, in_force)
        ends = in_force is None or content_digest(in_force) == content
        if not ends and order.back_to is not None:
            raise UsageError(
                f"--back-to {order.back_to}: what is to be yanked is not in force of {'/'.join(pair)}, so nothing has"
                " to take its place",
                remedy="leave --back-to out; what is in force stays",
            )
        target = None
        if ends and not order.leave_none and not is_next(pair[0]):
            target = to_go_back_to(releases, content, yanks, order.back_to)
            self._check_alone(pair, publisher)
        plan = Plan(order, publisher, bad, content, yanks.get(content), target, ends)
        self._check_room(plan)
        return plan

    def _plan_content(self, order: Order, content: str) -> Plan:
        publisher = self._who(order.pair)
        known = self._catalogue.yanks(*order.pair).get(content)
        plan = Plan(order, publisher, None, content, known, None, ends=False)
        self._check_room(plan)
        return plan

    def _meant(
        self, order: Order, releases: list[Release], in_force: Manifest | None
    ) -> tuple[str, Release | None]:
        """The content that is to be yanked, and the newest release that brings it."""
        pair = order.pair
        if order.document is not None:
            content = self._drafts.read(pair, self._who(pair), order.document).body.content
        elif order.release is not None:
            content = numbered(releases, order.release, "--release").content
        elif in_force is not None:
            content = content_digest(in_force)
            self._check_not_twice(pair, in_force)
        elif releases:
            content = releases[0].content
        else:
            raise UsageError(
                f"this node published nothing of {'/'.join(pair)}",
                remedy="check channel and architecture",
            )
        return content, next((one for one in releases if one.content == content), None)

    def _check_not_twice(self, pair: Pair, in_force: Manifest) -> None:
        """Who asks again, since he did not see the answer, does not mean what was gone back to."""
        held = self._publisher.builder.holding.of(pair)
        if held is not None and held.instead_of in self._catalogue.yanks(*pair):
            number = in_force.manifest_version
            raise UsageError(
                f"{'/'.join(pair)}: what is in force (number {number}) is what was gone back to when another release"
                " was yanked",
                remedy=f"nothing, if that was meant; to yank this one too, name it: --release {number}",
            )

    def _check_alone(self, pair: Pair, publisher: Publisher) -> None:
        if not publisher.is_met_by((self._key.public.keyid,)):
            raise UsageError(
                f"{'/'.join(pair)} takes {counted(publisher.threshold, 'signature')} of {', '.join(publisher.keys)}:"
                " this node alone can not publish what was before under the next number",
                remedy="have the earlier release signed under the next number (`p2pboot manifest build DIR --unsigned"
                " --signer KEYID … --manifest-version N`, `p2pboot manifest sign`), yank with --leave-none, and put its"
                " files with that manifest into the directory",
            )

    def _check_room(self, plan: Plan) -> None:
        channel, arch = base_channel(plan.order.pair[0]), plan.order.pair[1]
        fleet = plan.publisher.fleet
        assert fleet is not None  # noqa: S101 - `_who` looked
        if plan.known is None and len(self._store.documents.yanks(fleet, channel, arch)) >= MAX_YANKS:
            raise UsageError(
                f"{channel}/{arch} has {MAX_YANKS} yanks already, and nobody takes more",
                remedy="set a floor in the root (p2pboot root), which ends everything below it; or use another channel",
            )

    def _yank_of(self, plan: Plan) -> Yank:
        """The yank that counts already, that others signed, or one of this node's own.

        Raises:
            UsageError: too few who have a say signed it.
        """
        pair, publisher, order = plan.order.pair, plan.publisher, plan.order
        if plan.known is not None:
            return plan.known
        raw = order.document or self._drafts.write(pair, publisher, plan.content, order.reason)
        yank = self._drafts.read(pair, publisher, raw)
        check_met(yank, pair, publisher)
        return yank

    def _draft(self, order: Order) -> dict[str, Any]:
        plan = self._plan(order)
        raw = self._drafts.write(order.pair, plan.publisher, plan.content, order.reason)
        return {
            "document": raw.decode(),
            "signed_by": list(Yank.parse(raw).signed_by),
            "keys": list(plan.publisher.keys),
            "threshold": plan.publisher.threshold,
            "manifest_version": None if plan.bad is None else plan.bad.manifest_version,
            "back_to": None if plan.target is None else plan.target.manifest_version,
        }

    # -- what is done ------------------------------------------------------------------------------------------------

    def _take_down(self, plan: Plan, yank: Yank) -> None:
        """The yank, and what is meant to be in force instead, in one step."""
        pair, holding = plan.order.pair, self._publisher.builder.holding
        with self._store.transaction():
            if plan.target is not None:
                holding.hold(pair, Manifest.parse(plan.target.raw), plan.content)
            elif plan.ends:
                holding.hold_nothing(pair)
            judged = self._documents.take_yank(yank.raw, source="this node")
            if judged.fate not in (Fate.NEWS, Fate.KNOWN, Fate.OLDER) or not self._is_kept(yank):
                raise P2PBootError(f"the yank is not taken: {judged.why or 'there are too many'}")
        self._catalogue.tell()  # told before, others may have looked before it was there

    def _is_kept(self, yank: Yank) -> bool:
        body = yank.body
        kept = self._store.documents.yanks(body.fleet, body.channel, body.arch)
        return any(Yank.parse(raw).body.content == body.content for raw in kept)

    # -- what is shown -----------------------------------------------------------------------------------------------

    def _list(self, pair: Pair) -> dict[str, Any]:
        yanks, in_force = self._catalogue.yanks(*pair), self._publisher.in_force(pair)
        releases = released(self._store, self._series(pair), pair)
        missing = {
            content: self.retrieving.lacking(pair, Manifest.parse(raw))
            for content, raw in {one.content: one.raw for one in releases}.items()
        }
        return {
            "channel": pair[0],
            "arch": pair[1],
            "releases": [
                {**_described(one, yanks, in_force), "missing": missing[one.content]} for one in releases
            ],
            "yanks": [said(one) for one in yanks.values()],
        }


def _described(one: Release, yanks: Mapping[str, Yank], in_force: Manifest | None) -> dict[str, Any]:
    manifest, yank = Manifest.parse(one.raw), yanks.get(one.content)
    return {
        "manifest_version": one.manifest_version,
        "version": manifest.version,
        "created_at": format_time(manifest.created_at),
        "digest": one.digest,
        "content": one.content,
        "in_force": in_force is not None and in_force.digest == one.digest,
        "yanked": None if yank is None else said(yank),
    }


def _order(request: Mapping[str, Any], pair: Pair) -> Order:
    reason, document = request.get("reason") or "", request.get("document")
    numbers = {}
    for name in ("release", "back_to"):
        number = numbers[name] = request.get(name)
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise UsageError(f"{name} must be a number")
    if not isinstance(reason, str) or not isinstance(document, str | None):
        raise UsageError("reason and document must be text")
    if document is not None and len(document) > MAX_DOCUMENT:
        raise UsageError("the document is too long to be a yank")
    leave_none = request.get("leave_none") is True
    if leave_none and numbers["back_to"] is not None:
        raise UsageError("back_to and leave_none exclude each other", remedy="say either")
    return Order(
        pair,
        reason,
        numbers["release"],
        numbers["back_to"],
        leave_none,
        None if document is None else document.encode(errors="replace"),
        _patience(request.get("patience_s")),
    )


def _patience(told: object) -> float:
    """How long to wait for what does not come, seconds, as somebody said it; else the default."""
    return float(told) if isinstance(told, int | float) and 0 < told <= 86_400 else PATIENCE_S
