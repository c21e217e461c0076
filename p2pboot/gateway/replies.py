"""Replies that are the same for every route: small documents with validators, and refusals."""

from __future__ import annotations

import hashlib
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from p2pboot.core.manifest import Manifest
from p2pboot.gateway.ranges import NotModified, OutOfRange, Part, PreconditionFailed, Selection, select

# no-transform: a proxy that compresses or re-encodes would break what clients compare with a digest.
REVALIDATE: Final = "no-cache, no-transform"
IMMUTABLE: Final = "public, max-age=31536000, immutable, no-transform"
NO_STORE: Final = "no-store"

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
BINARY: Final = "application/octet-stream"
EFI: Final = "application/efi"  # UEFI's HTTP boot starts what has this media type, or a name that ends so


def refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """An error that a person who tries it with curl understands; one line."""
    return Response(
        f"{text}\n",
        status,
        media_type=TEXT,
        headers={"cache-control": NO_STORE, "x-content-type-options": "nosniff"} | (headers or {}),
    )


def unavailable(text: str, retry_after_s: int | None) -> Response:
    """What is asked for is known and not to be had now: why, and when to ask again where waiting helps."""
    return refusal(503, text, {} if retry_after_s is None else {"retry-after": str(retry_after_s)})


def document(
    request: Request, body: bytes, media_type: str, headers: dict[str, str], *, cache: str = REVALIDATE
) -> Response:
    """A small document, with an entity tag; honours conditions and ranges."""
    tag = hashlib.sha256(body).hexdigest()
    headers = validators(tag, media_type, cache) | headers
    selection = selection_of(request, len(body), tag)
    refused = without_body(selection, headers, len(body))
    if refused is not None:
        return refused
    if isinstance(selection, Part):
        headers["content-range"] = content_range(selection, len(body))
        return Response(body[selection.start : selection.end], 206, headers=headers)
    return Response(body, 200, headers=headers)


def validators(tag: str, media_type: str, cache: str) -> dict[str, str]:
    """The header fields that say what a representation is, and for how long."""
    return {
        "content-type": media_type,
        "etag": f'"{tag}"',
        "cache-control": cache,
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
    }


def manifest_fields(manifest: Manifest) -> dict[str, str]:
    """Which manifest a reply belongs to."""
    return {
        # As UTF-8; a header value is bytes, and starlette encodes it as Latin-1.
        "x-manifest-version": manifest.version.strip().encode().decode("latin-1"),
        "x-manifest-counter": str(manifest.manifest_version),
        "x-manifest-channel": manifest.channel,
        "x-manifest-arch": manifest.arch,
    }


def selection_of(request: Request, size: int, tag: str) -> Selection:
    """What this request wants of a representation."""
    return select(request.method, request.headers.getlist, size=size, tag=tag)


def content_range(part: Part, size: int) -> str:
    """The field that says which part it is; both ends inclusive."""
    return f"bytes {part.start}-{part.end - 1}/{size}"


def without_body(selection: Selection, headers: dict[str, str], size: int) -> Response | None:
    """The reply to a request for which no byte of the representation is sent, or None."""
    match selection:
        case NotModified():
            return Response(
                status_code=304, headers={name: headers[name] for name in headers if name != "content-type"}
            )
        case OutOfRange():
            return refusal(
                416, f"there are {size} bytes", {"content-range": f"bytes */{size}", "etag": headers["etag"]}
            )
        case PreconditionFailed():
            return refusal(412, "it is another one by now", {"etag": headers["etag"]})
    return None
