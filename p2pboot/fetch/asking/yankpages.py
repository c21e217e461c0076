"""All yanks that a peer has of one channel and arch: page by page, since large ones do not fit into one reply.

A page that could have held one more of any size is the last, so as a rule nothing more is asked. The walk ends as well
with as many documents as a channel and arch may have yanks, with a page of which nothing counts, and with one that
begins with what came before: a node that knows no `after` gives its first page again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.yank import MAX_YANKS, decode_yank
from p2pboot.errors import Malformed, SignatureError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.protocol.client import ask_yanks, may_be_cut


async def take_all_yanks(
    requests: RequestStream,
    pair: Pair,
    take: Callable[[Sequence[bytes]], Awaitable[bool]],
    page: Sequence[bytes] | None = None,
) -> int:
    """Ask for yanks until the peer has no more.

    Args:
        requests: to the peer.
        pair: the channel and arch.
        take: judges those of one page, at most `MAX_YANKS` of all pages together; returns whether any of them counts.
            What it raises ends the walk.
        page: the first one, where it was asked for already; None to ask for it.

    Returns:
        The bytes of the documents that came.

    Raises:
        PeerRefused, RemoteProtocolError: see `RequestStream.ask`.
    """
    if page is None:
        page = await requests.ask(ask_yanks(*pair))
    seen: set[bytes] = set()
    size = count = 0
    while page and page[0] not in seen:
        size += sum(map(len, page))
        looked_at = page[: MAX_YANKS - count]
        counts = await take(looked_at)
        seen.update(looked_at)
        count += len(looked_at)
        after = _content(page[-1])
        if not counts or after is None or count >= MAX_YANKS or not may_be_cut(page):
            break
        page = await requests.ask(ask_yanks(*pair, after))
    return size


def _content(raw: bytes) -> str | None:
    try:
        return decode_yank(raw).claims.content
    except (Malformed, SignatureError):
        return None
