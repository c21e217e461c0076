"""What a running node is asked of its store on the control socket: `p2pboot store` while a node has the state.

`op` is "store", and `do` says what. Everything that changes the store is done by the node itself, which offers at once
what came in, and is not surprised by what went.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from p2pboot.config.load import Overrides, load
from p2pboot.core.manifest.fields import check_base64
from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.timestamps import clock_text
from p2pboot.core.trustdocs.chain import DIGEST_PREFIX, Anchor
from p2pboot.core.trustdocs.root import Root
from p2pboot.errors import Malformed, SignatureError, UsageError
from p2pboot.exports.source import Source, open_source
from p2pboot.exports.taking import Taken, Taking
from p2pboot.node.control import Request
from p2pboot.node.images import Images
from p2pboot.node.mending import Mending
from p2pboot.node.mirroring import Mirror
from p2pboot.node.scrubbing import Scrubber, Scrubbing
from p2pboot.store.garbage import collect_garbage
from p2pboot.store.gate import Gate
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store
from p2pboot.store.trustgate import TrustGate

_MAX_DIGESTS = 512  # that are asked for at once: their paths have to go into one answer


class StoreKeeping:
    """See above.

    Args:
        store: of the node.
        gate: of the same store.
        images: tells how large an artifact may be.
        mirror: stands aside for what is imported.
        scrubber: reads what is held; those of snapshots are added to `scrubbers`.
        mending: knows what is damaged.
        trust_gate: of the same store; judges what is carried with a release.
    """

    def __init__(  # noqa: PLR0917 - the parts of a node that it speaks for
        self,
        store: Store,
        gate: Gate,
        images: Images,
        mirror: Mirror[HeadRow],
        scrubber: Scrubber,
        mending: Mending,
        trust_gate: TrustGate | None = None,
    ) -> None:
        self._store = store
        self._gate = gate
        self._images = images
        self._mirror = mirror
        self.scrubbers = [scrubber]
        self._mending = mending
        self._trust_gate = trust_gate

    async def answer(self, request: Request) -> dict[str, Any]:
        """Do what a request says.

        Raises:
            P2PBootError: it can not be done, or makes no sense.
        """
        match request.get("do"):
            case "import":
                return await self._import(request)
            case "paths":
                return await trio.to_thread.run_sync(self._paths, request.get("digests"))
            case "scrub":
                before = await self._scrubbing()
                for scrubber in self.scrubbers:
                    scrubber.begin()
                before["scrub"]["running"] = True
                return before
            case "scrubbing":
                return await self._scrubbing()
            case "gc":
                return await self._collect(dry_run=request.get("dry_run") is not False)
        raise UsageError(f"a node can not do {str(request.get('do'))[:80]!r} with its store")

    def describe(self) -> dict[str, Any]:
        """The passes over all that is held, and what was damaged since the node began, as plain values."""
        return _describe(Scrubbing.of_all([one.state for one in self.scrubbers]), self._mending)

    async def _scrubbing(self) -> dict[str, Any]:
        """How the pass goes that was asked for, or is under way, and what is damaged now."""
        await trio.to_thread.run_sync(self._mending.look)
        scrub = self.describe()
        scrub["running"] = scrub["running"] or any(one.is_asked for one in self.scrubbers)
        scrub["found"] = sum(one.state.damaged for one in self.scrubbers)
        damaged = [{"path": str(one.path), "digest": one.digest} for one in self._store.blobs.damage()]
        return {"scrub": scrub, "damaged": damaged[:_MAX_DIGESTS]}

    async def _collect(self, *, dry_run: bool) -> dict[str, Any]:
        collect = partial(collect_garbage, self._store, self._gate.catalogue, dry_run=dry_run)
        found = await trio.to_thread.run_sync(collect)
        return {"garbage": [one.to_json() for one in found], "dry_run": dry_run}

    def _paths(self, digests: object) -> dict[str, Any]:
        """Where artifacts are served in place, for who exports or checks them."""
        if not isinstance(digests, list) or len(digests) > _MAX_DIGESTS:
            raise UsageError(f"digests must be a list of at most {_MAX_DIGESTS}")
        return {
            "paths": {
                digest: [str(file.path) for file in self._store.blobs.in_place(digest)]
                for digest in digests
                if isinstance(digest, str)
            }
        }

    async def _import(self, request: Request) -> dict[str, Any]:
        shown, asked = str(request.get("path"))[:4096], _asked_trust(request)
        descriptor, request.descriptor = (
            request.descriptor,
            None,
        )  # ours from here on, and closed by the source
        if descriptor is None:
            raise UsageError("an export has to be sent along as a descriptor")
        source = await trio.to_thread.run_sync(open_source, descriptor, shown)
        try:
            taken = await self._take(source, asked)
        finally:
            source.close()
            self._gate.catalogue.tell()
        return {"imported": taken.to_json()}

    async def _take(self, source: Source, asked: TrustPolicy | None) -> Taken:
        taking = await trio.to_thread.run_sync(Taking, source, self._store, self._gate, self._trust_gate)
        subject = f"{taking.description.channel}/{taking.description.arch}"
        async with self._mirror.standing_aside(subject):
            return await trio.to_thread.run_sync(
                partial(
                    taking.take,
                    asked,
                    max_artifact_bytes=self._images.max_artifact_bytes,
                    told=lambda _name, _done, _size: trio.from_thread.check_cancelled(),
                )
            )


def _asked_trust(request: Request) -> TrustPolicy | None:
    """Whom the one who asks trusts, beside the node's own settings."""
    keys, roots = request.get("trust") or [], request.get("root") or []
    if not keys and not roots:
        return None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UsageError("trust must be a list of key ids")
    if not isinstance(roots, list) or not all(isinstance(root, str) for root in roots):
        raise UsageError("root must be a list of roots and digests")
    threshold = request.get("threshold")
    if threshold is not None and not isinstance(threshold, int):
        raise UsageError("threshold must be a number")
    if not keys:
        return TrustPolicy.of((), (TrustedRoot(_anchor(root)) for root in roots))
    return load(Overrides({}, tuple(keys), (), threshold)).settings.policy


def _anchor(text: str) -> Anchor:
    """A root as the one who asks names it: `sha256:` and a digest, or itself in base64. Its files are his to read."""
    try:
        if text.startswith(DIGEST_PREFIX):
            return Anchor.of_digest(text)
        return Anchor.of_root(Root.parse(check_base64("root", text)))
    except (ValueError, Malformed, SignatureError) as error:
        raise UsageError(f"root must be one, or sha256: and 64 hex digits: {error}") from None


def _describe(scrubbing: Scrubbing, mending: Mending) -> dict[str, Any]:
    """Times as RFC 3339, None for never."""
    return {
        "running": scrubbing.running,
        "begun_at": _time(scrubbing.begun_at),
        "last_finished_at": _time(scrubbing.last_finished_at),
        "read_bytes": scrubbing.read_bytes,
        "total_bytes": scrubbing.total_bytes,
        "damaged": mending.damaged,
        "mended": mending.mended,
    }


def _time(unix_s: float | None) -> str | None:
    return None if unix_s is None else clock_text(unix_s)
