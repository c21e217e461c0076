"""Renewing what is in force without looking at the directory: the same content, said again with a later date.

For when the directory holds something that can not be published, or is being written to, while the files of the
release in force are still what they were; and for content that is in force instead of what the directory holds.
"""

from __future__ import annotations

from dataclasses import replace

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, Rollout, add_signature
from p2pboot.core.names import artifact_path
from p2pboot.publish.build import BuildOptions, blob_urls
from p2pboot.publish.numbering import Content, Series, Wishes, claim
from p2pboot.store.publications import Publications


def renew(
    manifest: Manifest,
    options: BuildOptions,
    *,
    key: SecretKey,
    publications: Publications,
    now: int,
    floor: int = 0,
    rollout: Rollout | None = None,
) -> bytes:
    """Return the document to hand out for the content of a manifest: the one in force, or the next one.

    Args:
        manifest: of the key alone.
        options: what the operator says of provider and validity; the version stays.
        key: the signer.
        publications: counters and last documents.
        now: unix seconds.
        floor: as for :func:`.build`.
        rollout: to which machines it is given from now on; None for the same as before.

    Raises:
        UsageError: an option can not be said in a manifest.
        StoreError, MachineError: the state directory.
    """
    # Named where it can be had now; not in more places than there was room for.
    artifacts = (
        replace(one, urls=blob_urls(options.urls[: len(one.urls)], one.sha256))
        for one in manifest.artifacts.values()
    )
    content = Content(
        Series(manifest.signers, manifest.channel, manifest.arch),
        tuple(artifacts),
        manifest.cmdline,
        options.peer_id or manifest.provider_peer_id,
        options.name,
        rollout or manifest.rollout,
    )
    wishes = Wishes(manifest.version, None, options.expires_in_s, now, floor)
    return claim(content, publications, wishes, lambda raw: add_signature(raw, key)).raw


def republish(
    manifest: Manifest,
    channel: str,
    options: BuildOptions,
    *,
    key: SecretKey,
    publications: Publications,
    now: int,
    floor: int = 0,
) -> bytes:
    """Return the document to hand out for the content of any manifest under a channel: the one in force, or the next.

    Args:
        manifest: of any number, date and signers; of this channel, or of its roll-out.
        channel: where it is published.
        options: as for `renew`; so are the others, and what is raised.
        key: the signer.
        publications: counters and last documents.
        now: unix seconds.
        floor: as for :func:`.build`.
    """
    artifacts = (
        replace(
            one, path=artifact_path(channel, manifest.arch, one.key), urls=blob_urls(options.urls, one.sha256)
        )
        for one in manifest.artifacts.values()
    )
    content = Content(
        Series((key.public.keyid,), channel, manifest.arch),
        tuple(artifacts),
        manifest.cmdline,
        options.peer_id or key.public.peer_id,
        options.name,
    )
    wishes = Wishes(manifest.version, None, options.expires_in_s, now, floor)
    return claim(content, publications, wishes, lambda raw: add_signature(raw, key)).raw
