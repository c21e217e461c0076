"""One form for a path, however the trade writes it; the only place where a path of a request is decoded.

DHCP options, GRUB, U-Boot and scripts put slashes together from parts (`//boot.ipxe`, `/stable//x86_64/kernel`), and
libraries escape what needs no escape (`x86%5F64`). RFC 3986 calls most of these the same path, and so do we. Whatever
could lead out of the names that manifests give is refused, in every spelling.
"""

from __future__ import annotations

import re
from typing import Final

MAX_PATH: Final = 1024
"""Bytes as they were sent: twice what the longest name needs (`/phase/<64>/<7>/dtbs/<255>`), for escapes."""

# What names are made of; `+ , @` are for device trees. Neither `%` nor a backslash, so nothing is decoded twice.
_PLAIN: Final = re.compile(r"/[A-Za-z0-9._/+,@-]*")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
# RFC 3986, section 2.3, without the tilde, and what else is in names: these mean the same with and without an escape.
_NEEDS_NO_ESCAPE: Final = re.compile(r"[A-Za-z0-9._+,@-]")


def plain_path(raw: str) -> str | None:
    """Write a path in the one form that routes know: no escapes, no empty segments, no `.`.

    A slash at the end stays: `/kernel/` is not `/kernel`, as with every web server.

    Args:
        raw: from the request line, without a query; begins with a slash.

    Returns:
        The path; None if it names nothing that can be here (`..`, an escaped slash, a character of no name).
    """
    path = _ESCAPE.sub(_decoded, raw)
    if _PLAIN.fullmatch(path) is None:
        return None
    segments = path.split("/")[1:]
    if ".." in segments:
        return None
    named = [segment for segment in segments if segment not in ("", ".")]
    at_end = "/" if named and segments[-1] in ("", ".") else ""
    return "/" + "/".join(named) + at_end


def _decoded(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if _NEEDS_NO_ESCAPE.fullmatch(character) else escape[0]
