"""The form in which a setting is declared: everything that is said of it, once. `config.settings` has all declarations.

The command line is made of them at every start, so this imports nothing that is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from p2pboot.core.dataclass import dataclass

T = TypeVar("T")
Parse = Callable[[object, Path], T]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """One setting.

    Args:
        parse: reads its value, see `config.values`.
        flag: what sets it on the command line, with the name of its value: "--listen MULTIADDR"; without dashes it is
            an argument.
        text: what it is. The first sentence is for `--help` and the example file, all of it for the documentation.
        default: as one would write it in the file, or what makes it; None: it is not set. A boolean makes its flag a
            switch, a list one that can be repeated, a number one that takes a number.
        default_words: the default, where the value alone does not say it.
        example: its value in the example file, where that is not the default.
        live: a running node takes a changed value on SIGHUP; otherwise it needs a restart.
        top_level: another name of it, at the top level of the file.
        command: the only command that has the flag, where that is none which runs a node.
        shown: the attribute that tells its value in force, where that is worked out from what was said.
        name: its name in the file, where the attribute has its unit in the name.
        table: the TOML table it stands in, which is the attribute of `NodeSettings`; found by `declared_in`.
        attribute: of the table's settings; likewise.
    """

    parse: Parse[object]
    flag: str = ""
    text: str
    default: object = None
    default_words: str = ""
    example: object = None
    live: bool = False
    top_level: str = ""
    command: str = ""
    shown: str = ""
    name: str = ""
    table: str = ""
    attribute: str = ""

    @property
    def help(self) -> str:
        """What it is, in a sentence."""
        return self.text.partition(". ")[0].removesuffix(".") + "."

    @property
    def dotted(self) -> str:
        """Its name in messages and in `Overrides`: "network.listen"."""
        return f"{self.table}.{self.name}"

    @property
    def parameter(self) -> str:
        """What a command calls the option's value."""
        return f"{self.table}_{self.name}"

    @property
    def option(self) -> str:
        """What is given to change it: "--listen", "--no-mdns", "DIR"."""
        option = self.flag.partition(" ")[0]
        return option.replace("--", "--no-") if self.default is True else option

    @property
    def metavar(self) -> str | None:
        """What the flag's value is called in `--help`."""
        return self.flag.partition(" ")[2] or None

    def default_value(self) -> object:
        """The value in force when nobody says anything."""
        if callable(self.default):
            return self.default()
        return None if self.default is None else self.parse(self.default, Path())

    def of(self, settings: object) -> object:
        """Its value in force in finished settings."""
        return getattr(getattr(settings, self.table), self.shown or self.attribute)


def setting(parse: Parse[T], flag: str, text: str, **said: Any) -> T:
    """Declare a setting as the field of a dataclass; arguments as those of `Setting`.

    For the type checker this is the field's value, so that it compares the parser with the field.
    """
    declared = Setting(parse=parse, flag=flag, text=text, **said)
    return cast(T, field(default_factory=declared.default_value, metadata={"declared": declared}))


def declared_in(tables: Mapping[str, type]) -> dict[str, Setting]:
    """The settings that each table's dataclass declares, by their dotted names."""
    found = (
        replace(said, table=table, attribute=one.name, name=said.name or one.name)
        for table, declarations in tables.items()
        for one in fields(declarations)
        if (said := one.metadata.get("declared"))
    )
    return {one.dotted: one for one in found}
