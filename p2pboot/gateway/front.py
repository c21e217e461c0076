"""What every request has to pass first: the form of the request line, one length, Host, a path that can be here.

What a path may look like is `paths`'s. Routes see only paths that passed, in the one form that it makes of them.
"""

from __future__ import annotations

import re
from typing import Final

import h11

from p2pboot.gateway.hosts import is_host
from p2pboot.gateway.paths import MAX_PATH, plain_path
from p2pboot.gateway.replies import Reply, refusal
from p2pboot.gateway.request import Ends, Fields, Request

METHODS: Final = ("GET", "HEAD")
_ABSOLUTE: Final = re.compile(r"http://([^/?#@]+)(/.*)?", re.IGNORECASE)


def read_request(head: h11.Request, ends: Ends) -> Request | Reply:
    """Judge what a client asked for.

    Returns:
        The request, or the refusal of what is none. Who does not speak the protocol gets no second try.
    """
    method = head.method.decode("latin-1")
    raw, _, query = head.target.decode("latin-1").partition("?")
    fields: dict[str, list[str]] = {}
    for name, value in head.headers:
        fields.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    refused = _refusal_of(method, head.http_version, fields)
    if refused is not None:
        return refused
    hosts = fields.get("host", [])
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute is not None:  # as to a proxy; its host counts instead of the field (RFC 9112, section 3.2.2)
        hosts, raw = [absolute[1]], absolute[2] or "/"
    if len(query) > MAX_PATH:  # without it the request would be another one, whose answer may be kept
        return refusal(414, "no query here is as long", is_last=True)
    path = _path_of(raw)
    if isinstance(path, Reply):
        return path
    if not all(map(is_host, hosts)):
        return refusal(400, "Host must be a host name or an address", is_last=True)
    return Request(method, path, fields, hosts[0] if hosts else None, ends, query)


def _refusal_of(method: str, version: bytes, fields: Fields) -> Reply | None:
    """The refusal of what is wrong with every path."""
    if version not in (b"1.0", b"1.1"):
        return refusal(400, "this is an HTTP/1.1 server", is_last=True)
    if "transfer-encoding" in fields and "content-length" in fields:
        # Two lengths: somebody wants a proxy and us to see different requests (RFC 9112, section 6.3).
        return refusal(400, "a request has one length", is_last=True)
    if method not in METHODS:
        return refusal(405, "only GET and HEAD are answered", {"Allow": ", ".join(METHODS)}, is_last=True)
    if any(value.lower() == "websocket" for value in fields.get("upgrade", ())):
        return refusal(400, "there are no WebSockets here", is_last=True)
    return None


def _path_of(raw: str) -> str | Reply:
    """The plain path, or the refusal of what is none."""
    if len(raw) > MAX_PATH:
        return refusal(414, "no path here is as long", is_last=True)
    if not raw.startswith("/"):
        return refusal(400, "not a path", is_last=True)
    return plain_path(raw) or refusal(404, "there is nothing of that name")
