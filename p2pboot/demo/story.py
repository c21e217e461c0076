"""How the demo tells what happens: numbered steps, the commands as they are run, and what came of them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

_WIDTH = 110


class Story:
    """Prints to one console; colours and the moving line only where that is a terminal."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._steps = 0
        self.began = clock()

    @classmethod
    def on_stdout(cls) -> Story:
        """For a person who runs the demo."""
        console = Console(highlight=False)
        return cls(console if console.is_terminal else Console(highlight=False, width=_WIDTH))

    def step(self, title: str) -> None:
        """Begin the next numbered step."""
        self._steps += 1
        self._console.print()
        self._console.print(Text(f"{self._steps}. {title}", style="bold cyan"))

    def tell(self, text: str) -> None:
        """A sentence to the reader."""
        self._console.print(Text(f"   {text}"), soft_wrap=True)

    def command(self, arguments: Sequence[str]) -> None:
        """A command line that is run now, fit to be copied."""
        self._console.print(Text(f"   $ p2pboot {shlex.join(arguments)}", style="dim"), soft_wrap=True)

    def output(self, text: str) -> None:
        """What a command printed."""
        for line in text.splitlines():
            self._console.print(Text(f"     {line}"), soft_wrap=True)

    def good(self, text: str) -> None:
        """What a step has shown."""
        self._console.print(Text.assemble(("   ✓ ", "bold green"), text), soft_wrap=True)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show on a terminal that something is going on."""
        with self._console.status(f"   {what} …"):
            yield

    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self.began
