"""The trust documents, a second time, for the vectors: no code of p2pboot is used here.

Keys are seeds of 32 equal bytes, times are fixed. The keys are known to everyone: trust none of them.
"""

import hashlib
from typing import Any

from tests.vectors.manifest.form import Json, Key, b64, canonical

R1, R2, R3, R4 = Key(0x11), Key(0x12), Key(0x13), Key(0x14)
P1, P2, P3 = Key(0x21), Key(0x22), Key(0x23)
F1, F2 = Key(0x31), Key(0x32)
S1 = Key(0x41)
KEYS = {"R1": R1, "R2": R2, "R3": R3, "R4": R4, "P1": P1, "P2": P2, "P3": P3, "F1": F1, "F2": F2, "S1": S1}

NO_FLEET = "0" * 64


def message(body: Json) -> bytes:
    """What is signed of a document."""
    spec: str = body["spec"]
    return spec.encode() + b"\0" + canonical(body)


def signature(key: Key, signed: bytes) -> Json:
    return {"keyid": key.keyid, "sig": b64(key.secret.sign(signed))}


def document(body: Json, *keys: Key) -> bytes:
    in_order = sorted(keys, key=lambda key: key.keyid)
    return canonical(body | {"signatures": [signature(key, message(body)) for key in in_order]})


def digest(body: Json) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()


def role(*keys: Key, threshold: int = 1, **more: Any) -> Json:
    return {"keys": sorted(key.keyid for key in keys), "threshold": threshold} | more


def publish(*keys: Key, threshold: int = 1, **more: Any) -> Json:
    rule = {"keys": [F1.keyid, F2.keyid], "required": True, "max_age_s": 604_800}
    usual = {"channels": ["stable"], "archs": ["arm64", "x86_64"], "freshness": rule}
    return role(*keys, threshold=threshold) | usual | more


def root(version: int = 1, **changes: Any) -> Json:
    roles = {
        "root": role(R1, R2, R3, threshold=2),
        "publish": [publish(P1, P2, P3, threshold=2)],
        "snapshots": role(S1),
    }
    body: Json = {
        "spec": "p2pboot-root/1",
        "name": "example fleet",
        "version": version,
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2027-01-01T00:00:00Z",
        "on_expiry": "warn",
        "roles": roles,
        "floors": [],
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


ROOT_1 = root()
FLEET = digest(ROOT_1)
ROOT_2 = root(
    2,
    fleet=FLEET,
    created_at="2026-03-01T00:00:00Z",
    expires_at="never",
    on_expiry="refuse",
    roles={"root": role(R2, R3, R4, threshold=2), "publish": [publish(P1, P2)], "snapshots": role(S1)},
    floors=[{"channel": "stable", "arch": "x86_64", "manifest_version": 7}],
)


def chain(length: int) -> list[bytes]:
    """So many versions: each has one root key of its own, and is signed by it and by the one before."""
    keys = [Key(0x80 + index) for index in range(length)]
    found: list[bytes] = []
    for index, key in enumerate(keys):
        roles = {"root": role(key), "publish": [publish(P1)]}
        body = root(index + 1, roles=roles)
        if index:
            body["fleet"] = digest(root(1, roles={"root": role(keys[0]), "publish": [publish(P1)]}))
        found.append(document(body, *{one.keyid: one for one in (key, keys[max(index - 1, 0)])}.values()))
    return found


def freshness(*keys: Key, **changes: Any) -> Json:
    body: Json = {
        "spec": "p2pboot-freshness/1",
        "fleet": FLEET,
        "root_version": 2,
        "channel": "stable",
        "arch": "x86_64",
        "created_at": "2026-03-02T06:00:00Z",
        "valid_until": "2026-03-03T06:00:00Z",
        "head": {"manifest_version": 9, "digest": "5a" * 32},
        "minimum": 8,
        "signers": sorted(key.keyid for key in keys),
    }
    return body | changes


def yank(**changes: Any) -> Json:
    body: Json = {
        "spec": "p2pboot-yank/1",
        "fleet": FLEET,
        "channel": "stable",
        "arch": "x86_64",
        "content": "c0" * 32,
        "reason": "does not mount its root: ext4 → btrfs",
        "created_at": "2026-03-02T12:00:00Z",
    }
    return body | changes


def content(body: Json) -> str:
    """The content digest of a manifest's body: its artifacts without `urls`, with the paths of the channel itself."""
    base = body["channel"].removesuffix(".next")

    def plain(one: Json) -> Json:
        path = one["path"].replace(f"/{body['channel']}/", f"/{base}/", 1)
        return {name: value for name, value in one.items() if name != "urls"} | {"path": path}

    artifacts = {
        name: {key: plain(tree) for key, tree in one.items()} if name == "dtbs" else plain(one)
        for name, one in body["artifacts"].items()
    }
    said = {"artifacts": artifacts} | ({"cmdline": body["cmdline"]} if "cmdline" in body else {})
    return hashlib.sha256(canonical(said)).hexdigest()


def place(salt: str, machine: str) -> bytes:
    """The first 8 bytes of what a machine's place in a roll-out is drawn from."""
    return hashlib.sha256(b"p2pboot-place/1\0" + salt.encode() + b"\0" + machine.encode()).digest()[:8]
