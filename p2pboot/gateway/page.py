"""The page for people: what can be booted from here. Everything in it is escaped; it loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from p2pboot import __version__
from p2pboot.core.manifest import Manifest
from p2pboot.core.timestamps import format_time
from p2pboot.core.withheld import Withheld

_STYLE: Final = (
    "body{font:1rem sans-serif;margin:2rem}td,th{text-align:left;padding:0 1rem 0 0}code{font-size:.8rem}"
)


def render(manifests: Sequence[Manifest], withheld: Sequence[Withheld], *, peer_id: str, now: int) -> bytes:
    """Write the page.

    Args:
        manifests: what is on offer.
        withheld: what is known and not on offer.
        peer_id: of the node.
        now: unix seconds.
    """
    sections = [*(_section(manifest, now) for manifest in manifests), *map(_withheld, withheld)]
    tables = "".join(sections) or "<p>Nothing is held here yet.</p>"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>p2pboot</title><style>{_STYLE}</style>"
        f"<h1>p2pboot</h1><p>Node <code>{escape(peer_id)}</code>, version {escape(__version__)};"
        " <a href=/status>status</a>, <a href=/metrics>metrics</a></p>"
        f"{tables}</html>\n"
    ).encode()


def _section(manifest: Manifest, now: int) -> str:
    base = f"/{manifest.channel}/{manifest.arch}"
    days, age_days = (manifest.expires_at - now) // 86_400, max(0, now - manifest.created_at) // 86_400
    return (
        f"<h2>{escape(manifest.channel)} {escape(manifest.arch)}</h2>"
        f"<p>Version {escape(manifest.version)} (manifest {manifest.manifest_version}) of"
        f" {escape(manifest.provider_name)}, {age_days} days old,"
        f" valid until {format_time(manifest.expires_at)} ({days} days).</p>"
        f"<p>{_links(base, ('manifest.json', 'manifest.json.sig', 'boot.ipxe'))}</p>"
        f"<table><tr><th>artifact<th>bytes<th>SHA-256{''.join(_rows(manifest, base))}</table>"
    )


def _withheld(one: Withheld) -> str:
    return f"<h2>{escape(one.channel)} {escape(one.arch)}</h2><p>Not offered now: {escape(one.text)}.</p>"


def _rows(manifest: Manifest, base: str) -> Iterable[str]:
    for key, artifact in manifest.artifacts.items():
        yield f"<tr><td>{_links(base, (key,))}<td>{artifact.size}<td><code>{artifact.sha256}</code>"


def _links(base: str, names: Iterable[str]) -> str:
    return " ".join(f'<a href="{escape(f"{base}/{name}")}">{escape(name)}</a>' for name in names)
