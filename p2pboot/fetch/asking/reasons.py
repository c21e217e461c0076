"""Why peers do not give what is asked for: what they say themselves and what went wrong with them, as lines for people.

What a peer says is that peer's word, bounded and printable since it was read (`protocol.withheld`). It is shown, and
decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.protocol.messages import Head
from p2pboot.protocol.withheld import WithheldHead

MAX_NAMED: Final = 4
"""Peers, and things of one peer, that a message names; a person reads no more, and a line stays a line."""

_MAX_PHRASE: Final = 400  # characters about one peer: no stranger fills the line
_MAX_PAIRS: Final = 16
_WITH_ITS_OPERATOR: Final = frozenset({"refused", "unpublishable"})
_BY_REASON: Final = {
    "yanked": "wait for its publisher's next release: this one was taken back",
    "untrusted": "have its publisher sign it anew, with keys that the root in force names",
    "floor": "have its publisher publish a newer one: the root in force takes nothing so old",
    "root-expired": "ask the fleet's owners for a newer root",
}
_DOCTOR: Final = "`p2pboot doctor` looks for the reason"
_ON_ITS_WAY: Final = "incomplete"  # the word of `WithheldHead.reason` for what passes by itself


@dataclass(frozen=True, slots=True)
class PeerWord:
    """What a peer says beside its offers.

    Args:
        withheld: of what was asked for, what it knows and does not offer.
        elsewhere: where it offers nothing of that: other pairs, as "channel/arch".
    """

    withheld: tuple[WithheldHead, ...] = ()
    elsewhere: tuple[str, ...] = ()

    def sentence(self) -> str:
        """The whole as what one says of the peer; "" where it says nothing."""
        parts = [
            f"knows {one.channel}/{one.arch} but does not offer it: {one.text}"
            for one in self.withheld[:MAX_NAMED]
        ]
        if len(self.withheld) > MAX_NAMED:
            parts.append(f"withholds {len(self.withheld) - MAX_NAMED} more")
        if self.elsewhere:
            parts.append(f"has {_listed(self.elsewhere)}")
        return ", and ".join(parts)

    def to_json(self) -> dict[str, object]:
        """Plain values for a JSON document."""
        return {"withheld": [asdict(one) for one in self.withheld], "elsewhere": list(self.elsewhere)}


def pairs_of(heads: Iterable[Head]) -> tuple[str, ...]:
    """The channels and architectures of a list of heads, at most 16."""
    return tuple(dict.fromkeys(f"{head.channel}/{head.arch}" for head in heads))[:_MAX_PAIRS]


def describe_peers(words: Mapping[str, PeerWord], failures: Mapping[str, str]) -> str:
    """One phrase for each of the first peers, beginning with its id; "" when there is nothing to say of any.

    Args:
        words: what peers said, by peer id.
        failures: what went wrong with peers, by peer id.
    """
    said = {peer: sentence for peer, word in words.items() if (sentence := word.sentence())}
    phrases = [f"peer {peer} {sentence}" for peer, sentence in said.items()]
    phrases += [f"peer {peer}: {why}" for peer, why in failures.items() if peer not in said]
    shown = [_cut(phrase) for phrase in phrases[:MAX_NAMED]]
    left = len(phrases) - MAX_NAMED
    return "; ".join(shown + ([f"and {left} more"] if left > 0 else []))


def peers_to_json(words: Mapping[str, PeerWord], failures: Mapping[str, str]) -> dict[str, object]:
    """The same as data: by peer id, what it said and what went wrong with it."""
    return {
        peer: {**words.get(peer, PeerWord()).to_json(), "failure": failures.get(peer)}
        for peer in sorted({*words, *failures})
    }


def remedy_for(words: Iterable[PeerWord]) -> str | None:
    """What helps against what peers withhold; None where they withhold nothing."""
    withheld = {one.reason for word in words for one in word.withheld}
    if not withheld:
        return None
    if _ON_ITS_WAY in withheld:
        return "wait a moment and run it again, or ask another provider: --bootstrap MULTIADDR"
    for reason, remedy in _BY_REASON.items():
        if withheld == {reason}:
            return f"{remedy}, or ask another provider: --bootstrap MULTIADDR"
    if withheld <= _WITH_ITS_OPERATOR:
        return "ask who runs it, or ask another provider: --bootstrap MULTIADDR"
    return (
        "ask its publisher to run `p2pboot serve`, which renews what it offers, or ask another provider:"
        " --bootstrap MULTIADDR"
    )


def remedy_for_nobody(addresses: Iterable[str]) -> str:
    """What helps where no peer could be asked.

    Args:
        addresses: at which peers were looked for; none: on the local network alone.
    """
    if any(True for _ in addresses):
        return f"check the bootstrap addresses and that the provider runs, or raise --timeout; {_DOCTOR}"
    return f"check that a provider runs on this network, or name one: --bootstrap MULTIADDR; {_DOCTOR}"


def _cut(phrase: str) -> str:
    return phrase if len(phrase) <= _MAX_PHRASE else phrase[: _MAX_PHRASE - 1] + "…"


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
