"""The rules of Phase's own three clients, as they were measured on their sources, written a second time.

`phase-verify` is `tests.core.phase_verify`, which takes the digest with and without its algorithm.
"""

from __future__ import annotations

import hashlib
import http.client
import re
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from p2pboot.testing.waiting import HANG_S

_BARE_HEX = re.compile(r"[0-9a-f]{64}")


class PhaseFailsError(Exception):
    """Phase's client would not take it."""


def http_get(url: str) -> tuple[http.client.HTTPResponse, bytes]:
    """As both clients ask: no redirect is followed, nothing is decompressed."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise PhaseFailsError(f"not an absolute http URL: {url}")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=HANG_S)
    with closing(connection):
        connection.request("GET", parts.path)
        reply = connection.getresponse()
        if reply.status != 200:
            raise PhaseFailsError(f"{url}: {reply.status}")
        return reply, reply.read()


def phase_fetch(artifact: dict[str, Any]) -> bytes:
    """Download one artifact of a manifest as `phase-fetch` does: from the first URL, checked against hash and size."""
    if _BARE_HEX.fullmatch(artifact["hash"]) is None:
        raise PhaseFailsError(f"hash: {artifact['hash']}")
    reply, data = http_get(artifact["urls"][0])
    if reply.getheader("Content-Encoding") is not None:
        raise PhaseFailsError("compressed")
    if reply.getheader("Content-Length") != str(artifact["size"]):
        raise PhaseFailsError(f"Content-Length: {reply.getheader('Content-Length')}")
    if hashlib.sha256(data).hexdigest() != artifact["hash"]:
        raise PhaseFailsError("hash mismatch")
    return data


def boot_image_script(base: str) -> dict[str, bytes]:
    """What the init script of Phase's boot image gets, which reads JSON with grep and cut."""
    text = http_get(f"{base}/manifest.json")[1].decode()
    found = {}
    for name in ("kernel", "initramfs"):
        match = re.search(rf'"download_url":"([^"]*{name}[^"]*)"', text)
        if match is None:
            raise PhaseFailsError(f"no download_url of the {name}")
        found[name] = http_get(base + match[1])[1]
    return found
