"""How `p2pboot store usage` shows what a state takes to a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2pboot.cli.output import counted, say
from p2pboot.core.amounts import size_text


def say_usage(document: Mapping[str, Any]) -> None:
    """Print it, a line each: the whole, then each publisher with its releases and their artifacts."""
    limit = "no limit" if document["limit"] is None else f"at most {size_text(document['limit'])}"
    disk, sizes = size_text(document["disk_bytes"]), size_text(document["used"])
    say(f"state      {document['state']}")
    say(f"used       {disk} on the disk, {sizes} by its sizes; {limit}")
    say(f"disk       {size_text(document['disk']['free'])} free of {size_text(document['disk']['size'])}")
    say(f"memory     {size_text(document['memory_bytes'])} in the database and its record")
    for publisher in document["publishers"]:
        say(f"publisher  {size_text(publisher['disk_bytes']):>8}  {publisher['publisher']}")
        for release in publisher["releases"]:
            _say_release(release)
    garbage = document["garbage"]
    if garbage:
        unneeded = size_text(sum(one["disk_bytes"] for one in garbage))
        say(
            f"unneeded   {unneeded:>8}  {counted(len(garbage), 'file')}: p2pboot store gc removes what nobody needs"
        )


def _say_release(release: Mapping[str, Any]) -> None:
    is_shared = any(one["shared_with"] for one in release["artifacts"])
    own = f", {size_text(release['own_bytes'])} of it not shared" if is_shared else ""
    say(
        f"  {size_text(release['disk_bytes']):>8}  {release['channel']}/{release['arch']}"
        f" version {release['version']}, manifest version {release['manifest_version']}, {release['role']}{own}"
    )
    for one in release["artifacts"]:
        shared = f", shared with {', '.join(one['shared_with'])}" if one["shared_with"] else ""
        size = size_text(one["size"])
        say(f"    {size_text(one['disk_bytes']):>8}  {one['name']}: {one['state']}, {size}{shared}")
