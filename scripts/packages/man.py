"""Writes the manual pages, one for the program and one for each command, from what click knows of them.

    python -m scripts.packages.man DIR       writes DIR/man1/p2pboot.1, DIR/man1/p2pboot-key-generate.1, …

What `--help` says stands in them in full, as mdoc(7), which man-db and mandoc read. The statuses are those of
docs/cli.md. They are made when a package is built and are in no repository.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from p2pboot import RELEASE_DATE, __version__
from p2pboot.cli.app import PROGRAM, root
from p2pboot.core.dataclass import dataclass

_STATUSES = Path(__file__).parents[2] / "docs" / "cli.md"
_WIDTH = 76  # columns, below the 80 from which on mandoc calls a line too long
_FILES = {  # what systemd's units name, by the command that they start
    "mirror": ("/etc/p2pboot/mirror.toml", "The configuration of the mirror that systemd starts."),
    "serve": ("/etc/p2pboot/publisher.toml", "The configuration of the publisher that systemd starts."),
}
_DEFAULT_PATH = re.compile(r"(.*?)\s*\[default: [^]]*?((?:~|[\w.-]+)(?:/[\w.-]+)+)")


@dataclass(frozen=True)
class Page:
    """One manual page.

    Args:
        words: of the command, without the program: ("key", "generate").
        command: what click knows of it.
        context: in which click is asked for it.
    """

    words: tuple[str, ...]
    command: click.Command
    context: click.Context

    @property
    def name(self) -> str:
        """`p2pboot-key-generate`."""
        return "-".join((PROGRAM, *self.words))

    @property
    def summary(self) -> str:
        """What the command does, in a few words, without the full stop."""
        first = " ".join((self.command.help or "").strip().partition("\n\n")[0].split())
        first = re.sub(r' \("-": [^)]*\)', "", first)  # that a file may be standard input
        if isinstance(self.command, click.Group):  # whose first line says what is in it
            return first.removesuffix(".")
        return re.split(r"[.;:] |\.$", first, maxsplit=1)[0]

    @property
    def children(self) -> list[Page]:
        """The pages of a group's commands, in their order."""
        if not isinstance(self.command, click.Group):
            return []
        named = [
            (name, self.command.get_command(self.context, name))
            for name in self.command.list_commands(self.context)
        ]
        return [
            _page((*self.words, name), one, self.context) for name, one in named if one and not one.hidden
        ]

    def options(self) -> Iterator[click.Option]:
        """The options in their order, without hidden ones."""
        for one in self.command.get_params(self.context):
            if isinstance(one, click.Option) and not one.hidden:
                yield one

    def text(self) -> str:
        """The page as mdoc(7)."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        date = time.gmtime(RELEASE_DATE)
        yield f'.\\" Made by scripts/packages/man.py of {PROGRAM} {__version__}.'
        yield f".Dd {time.strftime('%B', date)} {date.tm_mday}, {date.tm_year}"
        yield f".Dt {self.name.upper()} 1"
        yield ".Os"
        yield from (".Sh NAME", f".Nm {self.name}", f".Nd {_plain(self.summary)}")
        yield from (".Sh SYNOPSIS", f".Nm {PROGRAM}", *self._usage())
        yield from (".Sh DESCRIPTION", *_paragraphs(self.command.help or ""))
        yield from self._commands()
        yield from (".Sh OPTIONS", ".Bl -tag -width Ds", *self._options(), ".El")
        yield from (".Sh ENVIRONMENT", ".Bl -tag -width Ds", ".It Ev P2PBOOT_DEBUG")
        yield from (*_filled("Set to 1: a failure shows where in the program it happened."), ".El")
        yield from self._files()
        yield from (".Sh EXIT STATUS", ".Bl -tag -width 130", *_statuses(), ".El")
        yield from (".Sh SEE ALSO", *_references(self._related()))

    def _usage(self) -> Iterator[str]:
        if self.words:
            yield f".Cm {' '.join(self.words)}"
        yield ".Op Ar option ..."
        for one in self.command.collect_usage_pieces(self.context):
            if one == "[OPTIONS]":
                continue
            for word in one.split():  # "COMMAND [ARGS]..." of a group
                optional = re.fullmatch(r"\[(.+)\](\.\.\.)?", word)
                yield (
                    f".Op Ar {_plain(optional[1])}{optional[2] or ''}" if optional else f".Ar {_plain(word)}"
                )

    def _commands(self) -> Iterator[str]:
        if not self.children:
            return
        yield from (".Sh COMMANDS", ".Bl -tag -width Ds")
        for one in self.children:
            yield from (f".It Xr {one.name} 1", *_filled(f"{one.summary}."))
        yield ".El"

    def _options(self) -> Iterator[str]:
        for one in self.options():
            # "off / on" switches have two names, whatever takes a value names it behind each.
            metavar = "" if one.is_flag or one.count else f" Ar {_plain(one.make_metavar(self.context))}"
            names = (f"Fl {name.removeprefix('-')}{metavar}" for name in (*one.opts, *one.secondary_opts))
            yield f".It {' , '.join(names)}"
            record = one.get_help_record(self.context)
            yield from _filled(record[1] if record else "")

    def _files(self) -> Iterator[str]:
        named = [_FILES[name] for name in _FILES if self.words in ((), (name,))]
        for one in self.options():
            record = one.get_help_record(self.context) if one.metavar in ("DIR", "FILE", "PATH") else None
            if record and (found := _DEFAULT_PATH.match(record[1])):
                named.append((found[2], f"{found[1]} Another one is named by `{one.opts[-1]}`."))
        if not named:
            return
        yield from (".Sh FILES", ".Bl -tag -width Ds")
        for path, meaning in named:
            yield from (f".It Pa {_plain(path)}", *_filled(meaning))
        yield ".El"

    def _related(self) -> list[str]:
        parent = _page(self.words[:-1], self.context.parent.command, None) if self.context.parent else None
        beside = [] if parent is None or not parent.words else [PROGRAM, parent.name]
        return sorted({*([PROGRAM] if self.words else []), *beside, *(one.name for one in self.children)})


def pages() -> Iterator[Page]:
    """The page of the program, and that of each command and each command of a group."""
    waiting = [_page((), root, None)]
    while waiting:
        page = waiting.pop(0)
        yield page
        waiting += page.children


def write_pages(directory: Path) -> list[Path]:
    """Write all pages into `directory`/man1, which is made if need be; returns their files."""
    section = directory / "man1"
    section.mkdir(parents=True, exist_ok=True)
    written = []
    for page in pages():
        file = section / f"{page.name}.1"
        file.write_text(page.text(), encoding="ascii")
        written.append(file)
    return written


def _page(words: tuple[str, ...], command: click.Command, parent: click.Context | None) -> Page:
    # The width is that of help on a terminal, of which a page must not depend.
    context = click.Context(
        command, parent=parent, info_name=words[-1] if words else PROGRAM, terminal_width=80
    )
    return Page(words, command, context)


def _statuses() -> Iterator[str]:
    """The items of the statuses that docs/cli.md has in its table.

    Raises:
        ValueError: it has none.
    """
    section = _STATUSES.read_text().partition("## Exit status\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", section, re.MULTILINE)
    if not rows:
        raise ValueError(f"{_STATUSES} has no table below the heading Exit status")
    for status, meaning in rows:
        yield from (f".It {status}", *_filled(f"{meaning[0].upper()}{meaning[1:]}."))


def _references(names: Iterable[str]) -> Iterator[str]:
    names = list(names)
    for name in names:
        yield f".Xr {name} 1{' ,' if name != names[-1] else ''}"


def _paragraphs(text: str) -> Iterator[str]:
    """Click's help: paragraphs, of which those behind a backspace keep their lines."""
    for number, paragraph in enumerate(re.split(r"\n[ \t]*\n", inspect.cleandoc(text))):
        if paragraph.startswith("\b\n"):
            yield from (".Bd -literal -offset indent", *map(_escaped, paragraph[2:].split("\n")), ".Ed")
            continue
        if number:
            yield ".Pp"
        yield from _filled(paragraph)


def _filled(text: str) -> Iterator[str]:
    """Prose: a line for each sentence, as mdoc wants it, and none too long."""
    for sentence in re.split(r"(?<=[.!?])(?<!\.\.\.)\s+|(?<=[.!?]\))\s+", " ".join(text.split())):
        yield from map(
            _guarded,
            textwrap.wrap(_marked(sentence), _WIDTH, break_long_words=False, break_on_hyphens=False),
        )


def _marked(text: str) -> str:
    """Prose with what is in backquotes in bold; options get a hyphen that can be copied."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _plain(text)
    return "".join(
        rf"\fB{_copied(part)}\fR" if number % 2 else _plain(part) for number, part in enumerate(parts)
    )


def _copied(text: str) -> str:
    """Text in which every hyphen is the one that shells know."""
    return re.sub(r"(?<!\\)-", r"\-", _plain(text))


def _plain(text: str) -> str:
    """Text with nothing that roff would obey, in ASCII."""
    text = text.replace("\\", r"\e")
    text = re.sub(r"(?<![\w\\])-+(?=\w)", lambda found: r"\-" * len(found[0]), text)
    return "".join(letter if letter.isascii() else rf"\[u{ord(letter):04X}]" for letter in text)


def _escaped(line: str) -> str:
    """A line that stays as it is."""
    return _guarded(_copied(line))


def _guarded(line: str) -> str:
    return rf"\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
