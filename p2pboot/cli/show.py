"""`p2pboot manifest show`: what a manifest says, without asking whether to believe it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.files import naming_manifest, read_start
from p2pboot.cli.options import FILE, Command, json_option
from p2pboot.cli.output import emit_json, say
from p2pboot.core.amounts import duration_text, size_text

if TYPE_CHECKING:
    from p2pboot.core.manifest import Candidate


@click.command(cls=Command)
@click.argument("file", type=FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show the manifest FILE ("-": standard input), whoever signed it.

    It must be well-formed, and the signatures that are there must match; some may still be missing. Whether
    to trust it is what `manifest verify` answers.
    """
    from p2pboot.core.manifest import MAX_MANIFEST, Candidate

    raw = read_start(file, MAX_MANIFEST + 1, what="manifest")
    with naming_manifest(file):
        candidate = Candidate.decode(raw)
        candidate.check_present_signatures()
        candidate.check_canonical()
    if as_json:
        missing = list(candidate.missing_signers)
        emit_json({"digest": candidate.digest, "missing_signers": missing, "manifest": json.loads(raw)})
    else:
        _say(candidate)


def _say(candidate: Candidate) -> None:
    from p2pboot.core.timestamps import format_time

    said = candidate.claims
    left_s = said.expires_at - wall_now()
    when = f"in {duration_text(left_s)}" if left_s > 0 else f"{duration_text(left_s)} ago"
    say(f"{said.channel}/{said.arch}  version {said.version}  manifest version {said.manifest_version}")
    say(f"digest     sha256:{candidate.digest}")
    age_s = wall_now() - said.created_at
    age = f"  ({duration_text(age_s)} ago)" if age_s > 0 else ""
    say(f"created    {format_time(said.created_at)}{age}")
    say(f"expires    {format_time(said.expires_at)}  ({when})")
    say(f"provider   {said.provider_name}  {said.provider_peer_id}")
    if said.cmdline is not None:
        say(f"cmdline    {said.cmdline}")
    if said.rollout is not None:
        plan = said.rollout
        how_long = f"over {duration_text(plan.duration_s)}" if plan.duration_s else "at once"
        say(f"roll-out   into {plan.into}: {plan.percent} % from {format_time(plan.start)}, {how_long}")
    for keyid in said.signers:
        state = "has not signed yet" if keyid in candidate.missing_signers else "has signed"
        say(f"signer     {keyid}  {state}")
    width = max(map(len, said.artifacts))
    for key, artifact in said.artifacts.items():
        say(f"artifact   {key:<{width}}  {size_text(artifact.size):>8}  sha256:{artifact.sha256}")
        for url in artifact.urls:
            say(f"           {'':<{width}}  {url}")
