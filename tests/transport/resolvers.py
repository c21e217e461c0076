"""Resolvers that tests make answers for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from p2pboot.transport.interface import DialError


class FakeResolver:
    """Tells what it was given.

    Args:
        hosts: addresses by name and kind.
        texts: TXT records by name.
        late_s: seconds after which it answers, by name, kind, or "TXT".
    """

    def __init__(
        self,
        hosts: Mapping[tuple[str, str], Sequence[str]] | None = None,
        texts: Mapping[str, Sequence[str]] | None = None,
        late_s: Mapping[str, float] | None = None,
    ) -> None:
        self._hosts, self._texts, self._late_s = hosts or {}, texts or {}, late_s or {}
        self.asked: list[str] = []

    async def hosts(self, name: str, kind: str) -> tuple[str, ...]:
        self.asked.append(name)
        await trio.sleep(self._late_s.get(kind, self._late_s.get(name, 0)))
        if (name, kind) not in self._hosts:
            raise DialError("Name or service not known")
        return tuple(self._hosts[name, kind])

    async def texts(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        await trio.sleep(self._late_s.get("TXT", self._late_s.get(name, 0)))
        if name not in self._texts:
            raise DialError("The DNS query name does not exist")
        return tuple(self._texts[name])
