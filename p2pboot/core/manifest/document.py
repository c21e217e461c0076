"""The document: the shape of a manifest's JSON, and the rules that make it a :class:`.Statement`.

Reads cheaply and strictly what the format names, in the order of the document, and skips what it does not
name: unknown members are judged with the signed bytes, after the signatures (see :mod:`.candidate`).
"""

from __future__ import annotations

from collections.abc import Collection
from types import MappingProxyType
from typing import Any, Final

import msgspec

from p2pboot.core.digests import sha256_cid
from p2pboot.core.jsonform import decode_typed, shown
from p2pboot.core.manifest import fields
from p2pboot.core.manifest.model import Artifact, Statement
from p2pboot.core.manifest.rollout import read_rollout
from p2pboot.core.names import (
    DTB_ARCHIVE,
    DTB_PREFIX,
    REQUIRED_KEYS,
    UKI,
    artifact_path,
    check_artifact_key,
)
from p2pboot.core.pieces import piece_count
from p2pboot.errors import Malformed

SPEC: Final = "p2pboot-manifest/1"
MAX_MANIFEST: Final = 65_536
"""A signed manifest, bytes: what one gossip message carries."""

_DTBS: Final = DTB_PREFIX.removesuffix("/")


class Provider(msgspec.Struct, frozen=True):
    """The member ``provider``."""

    peer_id: str
    name: str


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The members that are signed."""

    spec: str
    version: str
    manifest_version: int
    channel: str
    arch: str
    created_at: str
    expires_at: str
    artifacts: dict[str, msgspec.Raw]
    cmdline: str | msgspec.UnsetType = msgspec.UNSET
    provider: Provider
    rollout: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    signers: list[str]


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The member ``signed``."""

    data: str


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of ``signatures``."""

    keyid: str
    sig: str


class Envelope(msgspec.Struct, frozen=True):
    """The members that are not signed: they carry what is."""

    signed: Signed
    signatures: list[Signature]


class _Pieces(msgspec.Struct, frozen=True):
    length: int
    hash: str


class _Artifact(msgspec.Struct, frozen=True):
    hash: str
    size: int
    path: str
    urls: list[str]
    pieces: _Pieces
    cid: str


ENVELOPE: Final = msgspec.json.Decoder(Envelope)
_BODY: Final = msgspec.json.Decoder(Body)
_TREES: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARTIFACT: Final = msgspec.json.Decoder(_Artifact)


def read_statement(raw: bytes) -> Statement:
    """Read the signed members of a manifest out of a whole document or out of the signed bytes.

    Args:
        raw: JSON; its length is the caller's to bound.

    Raises:
        Malformed: naming the member and what is wrong with it.
    """
    body = decode_typed(raw, _BODY)
    if body.spec != SPEC:
        raise Malformed(f"spec: {body.spec[:40]!r} is not {SPEC!r}")
    channel, arch = fields.check_channel("channel", body.channel), fields.check_arch("arch", body.arch)
    created_at = fields.check_time("created_at", body.created_at)
    expires_at = fields.check_time("expires_at", body.expires_at)
    if expires_at <= created_at:
        raise Malformed("expires_at: must be later than created_at")
    return Statement(
        version=fields.check_text("version", body.version, max_bytes=fields.MAX_VERSION_BYTES),
        manifest_version=fields.check_integer("manifest_version", body.manifest_version),
        channel=channel,
        arch=arch,
        created_at=created_at,
        expires_at=expires_at,
        artifacts=_artifacts(body.artifacts, channel, arch),
        cmdline=_cmdline(body.cmdline),
        provider_peer_id=fields.check_text(
            "provider.peer_id", body.provider.peer_id, max_bytes=fields.MAX_PEER_ID_BYTES
        ),
        provider_name=fields.check_text("provider.name", body.provider.name, max_bytes=fields.MAX_NAME_BYTES),
        signers=fields.check_signers("signers", body.signers),
        rollout=None if isinstance(body.rollout, msgspec.UnsetType) else read_rollout(body.rollout, channel),
    )


def _cmdline(text: str | msgspec.UnsetType) -> str | None:
    if isinstance(text, msgspec.UnsetType):
        return None
    return fields.check_text("cmdline", text, max_bytes=fields.MAX_CMDLINE_BYTES, min_bytes=0)


def _artifacts(members: dict[str, msgspec.Raw], channel: str, arch: str) -> MappingProxyType[str, Artifact]:
    """Read the member ``artifacts``; device trees become keys of their own, ``dtbs/<name>``."""
    found: dict[str, Artifact] = {}
    for name, raw in members.items():
        if name == _DTBS:
            found.update(_device_trees(raw, channel, arch))
        else:
            place = f"artifacts.{shown(name)}"
            found[_plain(place, name)] = _artifact(name, place, raw, channel, arch)
    _check_set(found)
    return MappingProxyType(dict(sorted(found.items())))


def _check_set(found: Collection[str]) -> None:
    """Kernel and initramfs, or one file that is both; device trees one by one, or all in one archive."""
    for key in REQUIRED_KEYS:
        if UKI in found and key in found:
            # Two ways to boot one manifest would be two images: which one is meant, nobody could say.
            raise Malformed(f"artifacts.{key}: not allowed beside {UKI}, which carries its own")
        if UKI not in found and key not in found:
            raise Malformed(f"artifacts.{key}: missing, every manifest has one (or {UKI} in place of both)")
    if DTB_ARCHIVE in found and any(key.startswith(DTB_PREFIX) for key in found):
        # A client puts the archive's members where the single ones go: one of two would win.
        raise Malformed(f"artifacts.{DTB_ARCHIVE}: not allowed beside {_DTBS}")


def _plain(place: str, name: str) -> str:
    # "dtbs/x" here would be the key of a device tree, and overwrite or forge the one in the map.
    if name.startswith(DTB_PREFIX):
        raise Malformed(f"{place}: a device tree is not allowed here, it belongs into {_DTBS}")
    return name


def _device_trees(raw: msgspec.Raw, channel: str, arch: str) -> dict[str, Artifact]:
    """Read ``artifacts.dtbs``, which is a map of device trees and never an artifact itself."""
    place = f"artifacts.{_DTBS}"
    trees = decode_typed(raw, _TREES, place=place)
    return {
        DTB_PREFIX + name: _artifact(DTB_PREFIX + name, f"{place}.{shown(name)}", tree, channel, arch)
        for name, tree in trees.items()
    }


def _artifact(key: str, place: str, raw: msgspec.Raw, channel: str, arch: str) -> Artifact:
    try:
        check_artifact_key(key)
    except ValueError as error:
        raise Malformed(f"{place}: {error}") from None
    wire = decode_typed(raw, _ARTIFACT, place=place)
    sha256 = fields.check_hash(f"{place}.hash", wire.hash, "sha256")
    size = fields.check_integer(f"{place}.size", wire.size)
    path, cid = artifact_path(channel, arch, key), sha256_cid(sha256)
    if wire.path != path:
        # A path that pointed elsewhere would let one channel's signer write over another's files.
        raise Malformed(f"{place}.path: must be {path!r}")
    if wire.cid != cid:
        raise Malformed(f"{place}.cid: must be {cid}, the CID of its hash")
    try:
        piece_count(size, wire.pieces.length)
    except ValueError as error:
        raise Malformed(f"{place}.pieces.length: {error}") from None
    return Artifact(
        key=key,
        sha256=sha256,
        size=size,
        path=path,
        urls=fields.check_urls(f"{place}.urls", wire.urls),
        piece_length=wire.pieces.length,
        table_digest=fields.check_hash(f"{place}.pieces.hash", wire.pieces.hash, "blake3"),
        cid=cid,
    )


def artifact_members(artifacts: list[Artifact]) -> dict[str, Any]:
    """Write the member ``artifacts``: the reverse of what :func:`read_statement` reads."""
    members: dict[str, Any] = {}
    for artifact in artifacts:
        is_tree = artifact.key.startswith(DTB_PREFIX)
        target = members.setdefault(_DTBS, {}) if is_tree else members
        target[artifact.key.removeprefix(DTB_PREFIX)] = {
            "hash": f"sha256:{artifact.sha256}",
            "size": artifact.size,
            "path": artifact.path,
            "urls": list(artifact.urls),
            "pieces": {"length": artifact.piece_length, "hash": f"blake3:{artifact.table_digest}"},
            "cid": artifact.cid,
        }
    return members
