"""Where a publisher's own files lie: the running node serves them there, and its state does not say it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from p2pboot.store.store import Store

_ANSWER_S: Final = 10.0
_AT_ONCE: Final = 256  # digests that are asked for with one request


def learn_in_place(store: Store, digests: Iterable[str]) -> None:
    """Have a store that is only looked at know the files in place of these artifacts, if a node runs with its state.

    Raises:
        P2PBootError: the node does not answer.
    """
    from p2pboot.node.control import request, running

    wanted = sorted(digests)
    if not wanted or running(store.path) is None:
        return
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        answer = request(store.path, {"op": "store", "do": "paths", "digests": some}, _ANSWER_S)
        for digest, paths in answer["paths"].items():
            for path in paths:
                _register(store, digest, Path(path))


def _register(store: Store, digest: str, path: Path) -> None:
    from p2pboot.store.hashes import FileIdentity

    try:
        identity = FileIdentity.of(path.stat())
    except OSError:
        return  # gone, or not ours to see
    known = store.hashes.get(identity)
    if known is not None and known.digest == digest:
        store.blobs.register_in_place(path, digest, known.table, identity)
