"""Replies as values, and those that are the same for every route: small documents with validators, and refusals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.gateway.body import ArtifactBody, LiveBody
from p2pboot.gateway.ranges import NotModified, OutOfRange, Part, PreconditionFailed, Whole, select
from p2pboot.gateway.request import Request

# no-transform: a proxy that compresses or re-encodes would break what clients compare with a digest.
REVALIDATE: Final = "no-cache, no-transform"
IMMUTABLE: Final = "public, max-age=31536000, immutable, no-transform"
NO_STORE: Final = "no-store"

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
BINARY: Final = "application/octet-stream"
EFI: Final = "application/efi"  # UEFI's HTTP boot starts what has this media type, or a name that ends so


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered with.

    Args:
        status: of HTTP.
        headers: by their names as they are written, which old parsers in firmware compare; the connection adds
            Date, Content-Length where it is known, and Connection where it ends.
        body: as a GET gets it; a HEAD gets only its length.
        is_last: whether the connection ends with it.
        kind: of the route, for the counters: from a closed set.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | ArtifactBody | LiveBody = b""
    is_last: bool = False
    kind: str = "other"


def refusal(
    status: int, text: str, headers: Mapping[str, str] | None = None, *, is_last: bool = False
) -> Reply:
    """An error that a person who tries it with curl understands; one line."""
    fields = {"Content-Type": TEXT, "Cache-Control": NO_STORE, "X-Content-Type-Options": "nosniff"}
    return Reply(status, {**fields, **(headers or {})}, f"{text}\n".encode(), is_last)


def unavailable(text: str, retry_after_s: int | None) -> Reply:
    """What is asked for is known and not to be had now: why, and when to ask again where waiting helps."""
    return refusal(503, text, {} if retry_after_s is None else {"Retry-After": str(retry_after_s)})


def document(
    request: Request, body: bytes, media_type: str, headers: dict[str, str], *, cache: str = REVALIDATE
) -> Reply:
    """A small document, with an entity tag; honours conditions and ranges."""
    headers = {"Content-Type": media_type, "Cache-Control": cache} | headers
    tag = hashlib.sha256(body).hexdigest()
    return representation(request, tag, len(body), headers, lambda start, end: body[start:end])


def representation(
    request: Request,
    tag: str,
    size: int,
    headers: Mapping[str, str],
    body: Callable[[int, int], bytes | ArtifactBody],
) -> Reply:
    """What a request wants of a representation: all of it, a part, or no byte.

    Args:
        request: with its conditions and ranges.
        tag: the strong entity tag, without the quotes.
        size: of all of it, bytes.
        headers: of all of it, with its media type and for how long it is good.
        body: gives the bytes from one offset up to, but not including, another.
    """
    headers = {"ETag": f'"{tag}"', "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff", **headers}
    match select(request.method, request.values, size=size, tag=tag):
        case NotModified():
            return Reply(304, {name: headers[name] for name in headers if name != "Content-Type"})
        case OutOfRange():
            return refusal(
                416, f"there are {size} bytes", {"Content-Range": f"bytes */{size}", "ETag": headers["ETag"]}
            )
        case PreconditionFailed():
            return refusal(412, "it is another one by now", {"ETag": headers["ETag"]})
        case Part(start, end):  # in the field, both ends are inclusive
            return Reply(
                206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}, body(start, end)
            )
        case Whole():
            return Reply(200, headers, body(0, size))


def manifest_fields(manifest: Manifest) -> dict[str, str]:
    """Which manifest a reply belongs to."""
    return {
        # As UTF-8; a header value is bytes, and the connection encodes it as Latin-1.
        "X-Manifest-Version": manifest.version.strip().encode().decode("latin-1"),
        "X-Manifest-Counter": str(manifest.manifest_version),
        "X-Manifest-Channel": manifest.channel,
        "X-Manifest-Arch": manifest.arch,
    }
