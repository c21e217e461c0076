"""A client that plays along and gives wrong bytes; as a process.

    python -m benchmarks.storm.poisoner [--vouch DIR] fetch ...

It is `p2pboot fetch` with all its options: it takes deals, tells what it has, asks others. But every piece that it
gives is made up. With `--vouch` it says besides that it has what the others with the same directory were given, so that
whoever deals believes that they pass it on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio

import p2pboot.serving.swarm
from p2pboot.cli.main import main
from p2pboot.core.changes import Change, Form
from p2pboot.core.origins import Party
from p2pboot.core.pieces import PieceSet
from p2pboot.protocol.messages import Reply, Status
from p2pboot.protocol.swarm import Runs
from p2pboot.serving.contents import Content
from p2pboot.serving.swarm import SwarmServer
from p2pboot.store.partials import PartialBlob
from p2pboot.transport.interface import Stream

_LOOK_S: Final = 0.2


class Poisoner(SwarmServer):
    """Gives bytes that nobody signed, in good form."""

    async def pieces(self, content: Content, runs: Runs, reserve: Callable[[int], Any]) -> Reply:
        length = sum(
            content.table.span(index)[1] for first, count in runs for index in range(first, first + count)
        )
        await reserve(length)
        return Reply(Status.OK, b"\xff" * length)


class Voucher(Poisoner):
    """Says that it has what its fellows have as well.

    What each has lies in a file of the directory, by table and process.
    """

    directory = Path()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._claims: dict[str, _Claims] = {}
        self._looked_at = 0.0

    async def handle(self, stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_on)
            await super().handle(stream)
            nursery.cancel_scope.cancel()

    async def find(self, table: str, party: Party) -> Content | None:
        content = await super().find(table, party)
        if content is None or content.partial is None:
            return content
        claims = self._claims.get(table)
        if claims is None or claims.partial is not content.partial:
            claims = self._claims[table] = _Claims(content.partial)
        return Content(table, content.digest, content.table, claims, content.blobs)  # type: ignore[arg-type]

    async def _look_on(self) -> None:
        while True:
            await trio.sleep(_LOOK_S)
            if trio.current_time() > self._looked_at + _LOOK_S:  # every stream has such a task
                self._looked_at = trio.current_time()
                for table, claims in self._claims.items():
                    claims.exchange(self.directory, table)


class _Claims:
    """A partial that has more than it has; in everything else the real one."""

    def __init__(self, partial: PartialBlob) -> None:
        self.partial = partial
        self._claimed = PieceSet(partial.table.count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.partial, name)

    @property
    def held(self) -> PieceSet:
        return self.partial.held | self._claimed

    def exchange(self, directory: Path, table: str) -> None:
        """Tell the fellows what was given here, and claim what was given to them."""
        own = directory / f"{table}.{os.getpid()}"
        new = own.with_suffix(".new")
        new.write_bytes(self.partial.held.to_bytes())
        new.rename(own)
        claimed = self._claimed
        for file in directory.glob(f"{table}.*[0-9]"):
            if file != own:
                claimed |= PieceSet.from_bytes(file.read_bytes(), self.partial.table.count)
        news = claimed - self.held
        self._claimed = claimed
        self.partial.changes.append(Change(Form.HELD, run) for run in news.runs())


def _main() -> None:
    kind: type[Poisoner] = Poisoner
    if sys.argv[1] == "--vouch":
        kind, Voucher.directory = Voucher, Path(sys.argv[2])
        del sys.argv[1:3]
    p2pboot.serving.swarm.SwarmServer = kind  # type: ignore[misc]
    main()


if __name__ == "__main__":
    _main()
