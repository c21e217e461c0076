"""`p2pboot publish`: tells a running node, over its control socket, that its directory is ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2pboot.cli.options import Command, Seconds, config_option, json_option, verbosity_options
from p2pboot.cli.output import emit_json, say, warn
from p2pboot.cli.settings import overrides_of, setting_options

_PUBLISH_TIMEOUT_S = 600.0  # hashing a rootfs of 100 GB takes minutes; the node answers when it has published


@click.command(cls=Command)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path, readable=False))
@setting_options("store.state")
@config_option
@click.option(
    "--urgent",
    is_flag=True,
    help="Have machines take nothing older from now on, without waiting until mirrors have it (--settle).",
)
@click.option("--timeout", type=Seconds(least=0.1), default=_PUBLISH_TIMEOUT_S, metavar="S", help="Seconds.")
@json_option
@verbosity_options
def publish(
    directory: Path | None,
    config_path: Path | None,
    urgent: bool,
    timeout: float,
    as_json: bool,
    **params: Any,
) -> None:
    """Tell the running `serve` that its directory is ready now: it publishes at once what is there.

    With DIR it is an error if that is not the directory which the node serves. What can not be published is said
    on standard error; it is an error only when nothing can be. --urgent needs a node with a freshness key.
    """
    from p2pboot.node.control import request

    message: dict[str, Any] = {"op": "publish"}
    if urgent:
        message["urgent"] = True
    if directory is not None:
        message["directory"] = str(directory.resolve())
    answer = request(_state(params, config_path), message, timeout)
    if as_json:
        emit_json(answer)
        return
    for manifest in answer["published"]:
        what = "unchanged" if manifest["unchanged"] else "published"
        say(
            f"{what}: {manifest['channel']}/{manifest['arch']} version {manifest['version']},"
            f" manifest version {manifest['manifest_version']}, sha256:{manifest['digest']}"
        )
    for one in answer["withdrawn"]:
        say(
            f"withdrawn: {one['channel']}/{one['arch']} version {one['version']}, manifest version"
            f" {one['manifest_version']}: mirrors keep it until {one['expires_at']}"
        )
    for problem in answer["problems"]:
        if problem["code"] != "withdrawn":
            remedy = f" ({problem['remedy']})" if problem["remedy"] else ""
            warn(f"{problem['subject']}: {problem['text']}{remedy}")


def _state(params: dict[str, Any], config_path: Path | None) -> Path:
    from p2pboot.config.load import load_settings

    return load_settings(overrides_of(params), config_path).store.state
