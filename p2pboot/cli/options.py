"""Options that several commands share, and the command classes they stand on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click

from p2pboot.cli import logs, output

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

_KEY_ID_FORM = re.compile(r"(?:ed25519:)?[0-9A-Fa-f]{64}|12D3KooW\w+")
_WHOLE = 1000  # characters: more than any command's first sentence has
_KEY_ID = "KEYID"  # what the value of an option is called that takes key ids


class Seconds(click.FloatRange):
    """How long to wait, up to a day; what is not a number compares as neither too little nor too much."""

    def __init__(self, *, least: float = 0, open_at_least: bool = False) -> None:
        super().__init__(min=least, min_open=open_at_least, max=86_400)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it, as click wants it."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


class _FilePath(click.Path):
    """A path; whether it exists is found out by opening it. An empty one is a script's unset variable."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("must be the path of a file or directory, and it is empty", param, ctx)
        return super().convert(value, param, ctx)


FILE = _FilePath(path_type=Path, readable=False)  # else click calls a missing permission wrong usage


class Command(click.Command):
    """A command whose options for key ids, as `--trust`, take several in a row as well as repeated."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:  # noqa: D102 - click's
        taking = [name for one in self.params if one.metavar == _KEY_ID for name in one.opts]
        return super().parse_args(ctx, _spread_key_ids(args, taking))


class Group(click.Group):
    """A group that suggests the command which was probably meant."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the whole first sentence of each; click's own list cuts it off at the line's end."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(_WHOLE)) for name, one in commands if one and not one.hidden]
            )

    def resolve_command(  # noqa: D102 - click's
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = (
                f"; did you mean {near[0]}?" if near else f"; there are {', '.join(self.list_commands(ctx))}"
            )
            ctx.fail(f"there is no command {name}{hint}")
        return super().resolve_command(ctx, args)


Group.group_class = Group


class LazyGroup(Group):
    """A group that imports some of its commands only when they are named.

    Args:
        lazy: "module:attribute" by the command's name; listed in this order, after the others.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: D102 - click's
        return [*super().list_commands(ctx), *self._lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: D102 - click's
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, Command | Group)  # noqa: S101 - nothing else is ever named
        return command


def _spread_key_ids(args: Sequence[str], taking: Sequence[str]) -> list[str]:
    """`--trust A B` as `--trust A --trust B`: what looks like a key id after one belongs to it."""
    spread: list[str] = []
    option = None
    for arg in args:
        if option is not None and spread[-1] != option and _KEY_ID_FORM.fullmatch(arg):
            spread.append(option)
        elif option is not None and spread[-1] != option:
            option = None
        if arg in taking:
            option = arg
        spread.append(arg)
    return spread


def options(*decorators: Decorator[F]) -> Decorator[F]:
    """Several option decorators as one, shown in `--help` in this order."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _remembered(*names: str, key: str, words: str) -> Decorator[Any]:
    """A switch that no command takes: it is looked up in the context where it matters."""

    def remember(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta[key] = True  # shared by all contexts of one command line

    return click.option(*names, is_flag=True, expose_value=False, callback=remember, help=words)


verbosity_options: Decorator[Any] = options(
    _remembered("-v", "--verbose", key=logs.VERBOSE, words="Log more."),
    _remembered("-q", "--quiet", key=output.QUIET, words="Log errors only."),
)
json_option: Decorator[Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else on standard output."
)
config_option: Decorator[Any] = click.option(
    "--config", "config_path", type=FILE, help="TOML file with settings."
)
trust_options: Decorator[Any] = options(
    click.option(
        "--root",
        multiple=True,
        metavar="FILE|sha256:HEX",
        help="Root of the fleet to trust, in place of --trust: its file, or the digest of any of its versions.",
    ),
    click.option(
        "--trust",
        multiple=True,
        metavar="KEYID",
        help="Key id (or peer id) of the publisher to trust; repeated: further keys of the same publisher.",
    ),
    click.option(
        "--threshold", type=int, metavar="N", help="How many of these keys must have signed.  [default: 1]"
    ),
    click.option(
        "--freshness",
        multiple=True,
        metavar=_KEY_ID,
        help="Key id of who says, with freshness statements, what the newest manifest of --trust is; repeatable.",
    ),
    click.option(
        "--freshness-required",
        is_flag=True,
        help="Take nothing without such a statement that is young enough.",
    ),
    click.option(
        "--max-age",
        metavar="DURATION",
        help="How old the newest freshness statement may be.  [default: 7d]",
    ),
)
max_lifetime_option: Decorator[Any] = click.option(
    "--max-lifetime",
    metavar="DURATION",
    help="Refuse manifests that are valid for longer.  [default: 400d]",
)
staleness_options: Decorator[Any] = options(
    click.option(
        "--accept-stale",
        is_flag=True,
        help="Take what is older than freshness statements allow all the same, and say so.",
    ),
    click.option(
        "--require-clock",
        is_flag=True,
        help="Take nothing while this machine's clock is behind what is known to have happened.",
    ),
)
min_version_option: Decorator[Any] = click.option(
    "--min-version",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Lowest manifest version to accept.  [default: any]",
)
