"""Options that several commands share, and the command classes they stand on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pboot.cli import logs, output

if TYPE_CHECKING:
    from p2pboot.config.load import Overrides

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

_KEY_ID = re.compile(r"(?:ed25519:)?[0-9A-Fa-f]{64}|12D3KooW\w+")
_KEY_ID_OPTIONS = ("--trust", "--signer", "--snapshot-trust")


class _FilePath(click.Path):
    """A path; whether it exists is found out by opening it. An empty one is a script's unset variable."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("must be the path of a file or directory, and it is empty", param, ctx)
        return super().convert(value, param, ctx)


FILE = _FilePath(path_type=Path, readable=False)  # else click calls a missing permission wrong usage


class Command(click.Command):
    """A command whose `--trust` and `--signer` take several key ids in a row as well as repeated."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:  # noqa: D102 - click's
        return super().parse_args(ctx, _spread_key_ids(args))


class Group(click.Group):
    """A group that suggests the command which was probably meant."""

    command_class = Command

    def resolve_command(  # noqa: D102 - click's
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = (
                f"; did you mean {near[0]}?" if near else f"; there are {', '.join(self.list_commands(ctx))}"
            )
            ctx.fail(f"there is no command {name}{hint}")
        return super().resolve_command(ctx, args)


Group.group_class = Group


def _spread_key_ids(args: Sequence[str]) -> list[str]:
    """`--trust A B` as `--trust A --trust B`: what looks like a key id after one belongs to it."""
    spread: list[str] = []
    option = None
    for arg in args:
        if option is not None and spread[-1] != option and _KEY_ID.fullmatch(arg):
            spread.append(option)
        elif option is not None and spread[-1] != option:
            option = None
        if arg in _KEY_ID_OPTIONS:
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


def _remember(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def callback(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta[name] = True  # shared by all contexts of one command line

    return callback


verbosity_options: Decorator[Any] = options(
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_remember(logs.VERBOSE),
        help="Log more.",
    ),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_remember(output.QUIET),
        help="Log errors only.",
    ),
)
json_option: Decorator[Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else on standard output."
)
config_option: Decorator[Any] = click.option(
    "--config", "config_path", type=FILE, help="TOML file with settings."
)
key_option: Decorator[Any] = click.option(
    "--key", "key_path", metavar="PATH", help="Key file of this node.  [default: keys/node.toml]"
)
signing_key_option: Decorator[Any] = click.option(
    "--signing-key", "signing_key_path", metavar="PATH", help="Key file that signs instead of the node's."
)
state_option: Decorator[Any] = click.option(
    "--state", metavar="DIR", help="State directory.  [default: the user's, by the platform's convention]"
)
channel_option: Decorator[Any] = click.option("--channel", metavar="C", help="Channel, for example stable.")
arch_option: Decorator[Any] = click.option(
    "--arch", metavar="A", help="x86_64, arm64 or riscv64, or an alias."
)
trust_options: Decorator[Any] = options(
    click.option(
        "--trust",
        multiple=True,
        metavar="KEYID",
        help="Key id (or peer id) of the publisher to trust; repeated: further keys of the same publisher.",
    ),
    click.option(
        "--threshold", type=int, metavar="N", help="How many of these keys must have signed.  [default: 1]"
    ),
)
timeout_option: Decorator[Any] = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait for peers, and then for progress.",
)
min_version_option: Decorator[Any] = click.option(
    "--min-version",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Lowest manifest version to accept.  [default: any]",
)
provider_options: Decorator[Any] = options(
    click.option("--version", metavar="V", help="Image version, free text.  [default: today, YYYY.MM.DD]"),
    click.option("--name", metavar="N", help="Provider's name.  [default: this host's]"),
    click.option("--cmdline", metavar="S", help="Kernel command line, signed with the rest."),
    click.option(
        "--expires-in", metavar="DURATION", help="Validity, for example 30d or 12h.  [default: 30d]"
    ),
)
bootstrap_option: Decorator[Any] = click.option(
    "--bootstrap", multiple=True, metavar="MULTIADDR", help="Peer to connect to; repeatable."
)
mdns_option: Decorator[Any] = click.option(
    "--mdns/--no-mdns", default=None, help="Find peers on the local network.  [default: on]"
)
listen_option: Decorator[Any] = click.option(
    "--listen",
    multiple=True,
    metavar="MULTIADDR",
    help="Address to listen on; repeatable.  [default: port 4001, IPv4 and IPv6]",
)
node_options: Decorator[Any] = options(
    config_option,
    key_option,
    listen_option,
    bootstrap_option,
    mdns_option,
    click.option(
        "--gossip/--no-gossip", default=None, help="Announce and hear manifests by gossip.  [default: on]"
    ),
    click.option("--sync/--no-sync", default=None, help="Compare manifests with peers.  [default: on]"),
    click.option("--max-upload", metavar="RATE", help="Limit of all uploads together, for example 2MB/s."),
    click.option(
        "--announce-interval", metavar="DURATION", help="Time between announcements.  [default: 5m]"
    ),
    click.option("--sync-interval", metavar="DURATION", help="Time between comparisons.  [default: 15s]"),
    click.option(
        "--http", metavar="HOST:PORT", help="Offer all of it over HTTP too, for firmware.  [default: off]"
    ),
    click.option(
        "--advertise-http",
        multiple=True,
        metavar="BASE",
        help="Beginning of the URLs in manifests and scripts; repeatable.  [default: the addresses of --http]",
    ),
    click.option(
        "--trusted-proxy",
        multiple=True,
        metavar="CIDR",
        help="Believe the Forwarded fields of HTTP proxies there; repeatable.  [default: nobody's]",
    ),
    state_option,
    click.option("--max-artifact", metavar="SIZE", help="Largest artifact to mirror.  [default: 64GiB]"),
    click.option("--quota", metavar="SIZE", help="Most that the state directory may hold, for example 20GB."),
    verbosity_options,
)


snapshot_options: Decorator[Any] = options(
    click.option("--snapshots", metavar="DIR", help="Serve the Timetoke snapshots in DIR."),
    click.option(
        "--snapshot-trust",
        multiple=True,
        metavar="KEYID",
        help="Follow the snapshots that this key announces; repeatable.",
    ),
    click.option(
        "--snapshot-threshold",
        type=int,
        metavar="N",
        help="How many of these keys must announce the same snapshot.  [default: 1]",
    ),
    click.option(
        "--require-signatures/--no-require-signatures",
        default=None,
        help="Refuse to serve snapshots without signature.  [default: off]",
    ),
)


def overrides_of(params: dict[str, Any]) -> Overrides:
    """The options that were given, as what wins over the configuration file.

    What was not given is None or empty.
    """
    from p2pboot.config.keys import KEYS
    from p2pboot.config.load import Overrides

    given = {key.dotted: params[key.parameter] for key in KEYS if params.get(key.parameter) not in (None, ())}
    return Overrides(given, tuple(params.get("trust") or ()), params.get("threshold"))
