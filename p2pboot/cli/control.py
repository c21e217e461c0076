"""`p2pboot publish` and `p2pboot status`: talk to a running node over its control socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2pboot.cli.options import Command, Seconds, config_option, json_option, verbosity_options
from p2pboot.cli.output import emit_json, say, warn
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.core.amounts import duration_text, size_text

_PUBLISH_TIMEOUT_S = 600.0  # hashing a rootfs of 100 GB takes minutes; the node answers when it has published
_STATUS_TIMEOUT_S = 10.0


@click.command(cls=Command)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path, readable=False))
@setting_options("store.state")
@config_option
@click.option("--timeout", type=Seconds(least=0.1), default=_PUBLISH_TIMEOUT_S, metavar="S", help="Seconds.")
@json_option
@verbosity_options
def publish(
    directory: Path | None, config_path: Path | None, timeout: float, as_json: bool, **params: Any
) -> None:
    """Tell the running `serve` that its directory is ready now: it publishes at once what is there.

    With DIR it is an error if that is not the directory which the node serves. What can not be published is said
    on standard error; it is an error only when nothing can be.
    """
    from p2pboot.node.control import request

    message: dict[str, Any] = {"op": "publish"}
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


@click.command(cls=Command)
@setting_options("store.state")
@config_option
@json_option
@verbosity_options
def status(config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Show what a running node offers and whom it is connected with."""
    from p2pboot.node.control import request

    answer = request(_state(params, config_path), {"op": "status"}, _STATUS_TIMEOUT_S)
    if as_json:
        emit_json(answer)
    else:
        _say(answer)


def _state(params: dict[str, Any], config_path: Path | None) -> Path:
    from p2pboot.config.load import load_settings

    return load_settings(overrides_of(params), config_path).store.state


def _say(answer: dict[str, Any]) -> None:
    say(f"peer id    {answer['peer_id']}")
    for address in answer["addresses"]:
        say(f"address    {address}")
    _say_mesh(answer.get("mesh"))
    say(f"up         {duration_text(answer['uptime_s'])}")
    for head in answer["heads"]:
        if head["expired"]:
            continue  # said below, as withheld
        say(
            f"offers     {head['channel']}/{head['arch']} version {head['version']},"
            f" manifest version {head['manifest_version']}, {duration_text(head['age_s'])} old,"
            f" until {head['expires_at']}"
        )
    for one in answer["withheld"]:
        say(f"withheld   {one['channel']}/{one['arch']}: {one['text']}")
    for one in answer["ignored"]:
        say(f"ignored    {one['channel']}/{one['arch']}: {one['path']}: {one['why']}")
    for pending in answer["fetching"]:
        say(f"fetching   {pending['channel']}/{pending['arch']} number {pending['manifest_version']}")
    _say_room(answer.get("store"))
    _say_dht(answer.get("dht"))
    for peer in answer["peers"]:
        source = next(iter(peer.get("sources", ())), "-")  # nodes of earlier versions say nothing of it
        say(f"peer       {peer['peer_id']}  {source}  {' '.join(peer['addresses'])}")
    for kind in sorted({row["kind"] for row in answer["traffic"]}):
        sent, received = (
            size_text(sum(row[way] for row in answer["traffic"] if row["kind"] == kind))
            for way in ("sent", "received")
        )
        say(f"bytes      {kind}: {sent} sent, {received} received")
    for problem in answer["problems"]:
        say(f"problem    {problem['subject']}: {problem['text']}")
        if problem["remedy"]:
            say(f"  remedy   {problem['remedy']}")
    for peer_id, why in answer["dropped_peers"].items():
        say(f"dropped    {peer_id}: {why}")
    if answer["equivocations"]:
        say(f"ALARM      {answer['equivocations']} pairs of contradicting manifests from a trusted key")


def _say_mesh(mesh: dict[str, Any] | None) -> None:
    if mesh is not None and mesh["private"]:  # nodes of earlier versions say nothing of it
        say(f"mesh       private; its swarm key has the fingerprint {mesh['swarm_key_fingerprint']}")


def _say_dht(dht: dict[str, Any] | None) -> None:
    if dht is None:  # it is off, or the node is of an earlier version
        return
    refused = sum(dht["refused"].values())
    say(
        f"hash table {dht['peers']} peers known; {dht['values']} values and {dht['providers']} provider records kept;"
        f" {sum(dht['requests'].values())} requests answered" + (f", {refused} refused" if refused else "")
    )


def _say_room(store: dict[str, Any] | None) -> None:
    if store is None:  # a node of an earlier version
        return
    most = "no limit" if store["limit"] is None else f"at most {size_text(store['limit'])}"
    if store["quota"] == "auto":
        most += ", which leaves a tenth of the disk free"
    say(f"store      {size_text(store['used'])} of fetched artifacts; {most}")
