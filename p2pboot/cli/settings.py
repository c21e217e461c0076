"""Options made of the settings' declarations, and what is given with them as what wins over the configuration file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.options import (
    Decorator,
    config_option,
    max_lifetime_option,
    options,
    trust_options,
    verbosity_options,
)
from p2pboot.config.setting import Setting
from p2pboot.config.settings import SETTINGS, TABLES

if TYPE_CHECKING:
    from p2pboot.config.load import Overrides


def setting_options(*chosen: str) -> Decorator[Any]:
    """The options of settings, with everything that their declarations say.

    Args:
        chosen: dotted names, or tables for all of theirs that any node takes; what stands twice is one option. The
            artifacts directory is an argument, and no option.
    """
    found = (
        one
        for word in chosen
        for one in SETTINGS.values()
        if one.flag.startswith("-") and (one.dotted == word or (one.table == word and not one.command))
    )
    return options(*(_option(one) for one in dict.fromkeys(found)))


def _option(one: Setting) -> Decorator[Any]:
    words, default = one.help, one.default_words
    attributes: dict[str, Any] = {"metavar": one.metavar}
    spelling = one.flag.partition(" ")[0]
    match one.default:
        case bool():
            default = default or ("on" if one.default else "off")
            spelling = f"{spelling}/--no-{spelling.removeprefix('--')}"
            attributes = {"default": None}
        case list():
            default = default or ", ".join(one.default)
            words = words.removesuffix(".") + "; repeatable."
            attributes["multiple"] = True
        case int():
            default = default or str(one.default)
            attributes["type"] = int
        case str():
            default = default or one.default
    if default:
        words += f"  [default: {default.replace('`', '')}]"
    return click.option(spelling, one.parameter, help=words, **attributes)


node_options: Decorator[Any] = options(
    click.argument("provider_directory", metavar="[DIR]", required=False),
    setting_options(
        "provider.channel",
        "provider.arch",
        *TABLES,
    ),
    trust_options,
    max_lifetime_option,
    config_option,
    verbosity_options,
)

rate_options: Decorator[Any] = setting_options(
    "network.max_upload",
    "network.max_download",
    "network.max_upload_per_peer",
    "network.max_download_per_peer",
)


def overrides_of(params: dict[str, Any]) -> Overrides:
    """The options that were given, as what wins over the configuration file.

    What was not given is None or empty.
    """
    from p2pboot.config.load import Overrides

    given = {
        one.dotted: params[one.parameter]
        for one in SETTINGS.values()
        if params.get(one.parameter) not in (None, ())
    }
    trust = tuple(params.get("trust") or ())
    root = tuple(params.get("root") or ())
    freshness = (
        tuple(params.get("freshness") or ()),
        bool(params.get("freshness_required")),
        params.get("max_age"),
    )
    return Overrides(given, trust, root, params.get("threshold"), params.get("max_lifetime"), *freshness)


def take_pair(params: dict[str, Any]) -> tuple[str | None, str | None]:
    """Channel and arch of the command line only, out of the parameters: the file's say what this machine publishes."""
    from p2pboot.config.load import load

    pair = {name: params.pop(name) for name in ("provider_channel", "provider_arch")}
    provider = load(overrides_of(pair)).settings.provider
    return provider.channel, provider.arch
