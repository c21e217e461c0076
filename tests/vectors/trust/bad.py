"""Documents that must be refused: (name, bytes, kind, reason, part of the message). Each has one fault."""

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from tests.vectors.manifest.form import SMALL, STRANGER, Json, Key, b64, body, canonical, manifest
from tests.vectors.trust.form import (
    F1,
    F2,
    NO_FLEET,
    P1,
    P2,
    R1,
    R2,
    ROOT_1,
    document,
    freshness,
    message,
    publish,
    role,
    root,
    signature,
    yank,
)

_ORDER = 2**252 + 27742317777372353535851937790883648493  # of the curve's group
Bad = tuple[str, bytes, str, str, str]


def _roles(**changes: Any) -> Json:
    usual: Json = {"root": role(R1, R2, threshold=2), "publish": [publish(P1, P2)]}
    return usual | changes


def roots() -> Iterator[Bad]:
    def malformed(name: str, says: str, /, **changes: Any) -> Bad:
        return f"root-{name}", document(root(**changes), R1, R2), "root", "malformed", says

    yield malformed("key-with-two-roles", "a root key has none", roles=_roles(publish=[publish(P1, R1)]))
    yield malformed("snapshots-by-a-root-key", "a root key has none", roles=_roles(snapshots=role(R2)))
    both = publish(P1) | {"freshness": {"keys": [P1.keyid]}}
    yield malformed("fresh-and-publishing", "one key must not do both", roles=_roles(publish=[both]))
    yield malformed("two-roles", "two roles cover", roles=_roles(publish=[publish(P1), publish(P2)]))
    everything = {name: value for name, value in publish(P2).items() if name not in ("channels", "archs")}
    yield malformed("role-for-all", "two roles cover", roles=_roles(publish=[publish(P1), everything]))
    next_of = publish(P2, channels=["stable.next"])
    yield malformed("role-of-roll-outs", "two roles cover", roles=_roles(publish=[publish(P1), next_of]))
    yield malformed("threshold", "can not come from", roles=_roles(root=role(R1, R2, threshold=3)))
    yield malformed("threshold-0", "can not come from", roles=_roles(root=role(R1, R2, threshold=0)))
    yield malformed("no-keys", "0 keys", roles=_roles(root=role(threshold=1)))
    doubled = {"keys": [R1.keyid, R1.keyid], "threshold": 2}
    yield malformed("key-twice", "stands there twice", roles=_roles(root=doubled))
    yield malformed(
        "peer-id", "roles.root.keys[0]", roles=_roles(root={"keys": [R1.peer_id], "threshold": 1})
    )
    yield malformed("no-root-role", "root", roles={"publish": [publish(P1)]})
    yield malformed("no-channels", "at least one", roles=_roles(publish=[publish(P1, channels=[])]))
    yield malformed("alias", "archs", roles=_roles(publish=[publish(P1, archs=["amd64"])]))
    yield malformed("version-0", "version", version=0)
    yield malformed("version-true", "version", version=True)
    yield malformed("version-too-large", "version", version=2**53)
    yield malformed("expires-before", "later", expires_at="2025-01-01T00:00:00Z")
    yield malformed("expires-null", "expires_at", expires_at={})
    yield malformed("on-expiry", "on_expiry", on_expiry="ignore")
    yield malformed("fleet-in-1", "from version 2 on", fleet="ab" * 32)
    yield malformed("fleet", "from version 2 on", version=2, fleet="AB" * 32)
    floor = {"channel": "stable", "arch": "x86_64", "manifest_version": 7}
    yield malformed("floor-twice", "twice", floors=[floor, floor])
    yield malformed("floor-0", "manifest_version", floors=[floor | {"manifest_version": 0}])
    yield malformed("nameless", "name", name="")
    yield malformed("line-end", "control character", name="a\nb")


def statements() -> Iterator[Bad]:
    def malformed(name: str, says: str, /, **changes: Any) -> Bad:
        return f"freshness-{name}", document(freshness(F1, **changes), F1), "freshness", "malformed", says

    yield malformed("minimum", "minimum", minimum=10)
    yield malformed("minimum-below-0", "minimum", minimum=-1)
    yield malformed("valid-before", "valid_until", valid_until="2026-03-02T06:00:00Z")
    yield malformed(
        "head-0", "manifest_version", head={"manifest_version": 0, "digest": "5a" * 32}, minimum=0
    )
    yield malformed(
        "head-digest", "head.digest", head={"manifest_version": 9, "digest": "sha256:" + "5a" * 29}
    )
    yield malformed("root-0", "root_version", root_version=0)
    yield malformed("root-without-fleet", "root_version", fleet=NO_FLEET)
    yield malformed("paused-later", "paused.since", paused={"since": "2026-03-02T06:00:01Z"})
    yield malformed("paused-now", "paused", paused=True)
    yield malformed("alias", "arch", arch="amd64")
    yield malformed("time", "created_at", created_at="2026-03-02T06:00:00+00:00")
    yield malformed("large", "4096", padding="x" * 4096)
    no_signers = document(freshness(F1, signers=[]), F1)
    yield "freshness-no-signers", no_signers, "freshness", "malformed", "0 signers"
    for name, signers in (("missing", (F1, F2)), ("foreign", (F1,))):
        raw = document(freshness(*signers), *((F1,) if name == "missing" else (F1, F2)))
        yield f"freshness-{name}-signature", raw, "freshness", "signature", "one of each of the signers"


def yanks() -> Iterator[Bad]:
    def malformed(name: str, says: str, /, **changes: Any) -> Bad:
        return f"yank-{name}", document(yank(**changes), P1), "yank", "malformed", says

    yield malformed("content", "content", content="sha256:" + "c0" * 32)
    yield malformed("reason", "512", reason="x" * 513)
    yield malformed("reason-line", "control character", reason="a\u2028b")
    yield malformed("channel", "channel", channel="Stable")
    yield malformed("fleet", "fleet", fleet="")


def rollouts() -> Iterator[Bad]:
    """Manifests of `stable.next`, rightly signed."""
    plan = {
        "into": "stable",
        "over": "c0" * 32,
        "start": "2026-03-02T00:00:00Z",
        "duration_s": 86_400,
        "percent": 80,
        "salt": "2026.03.02",
    }

    def bad(name: str, says: str, channel: str = "stable.next", **changes: Any) -> Bad:
        raw = manifest(body(P1, sizes=SMALL, channel=channel) | {"rollout": plan | changes}, P1)
        return f"rollout-{name}", raw, "manifest", "malformed", says

    yield bad("elsewhere", "rollout.into", into="beta")
    yield bad("odd", "rollout.into", into="\u202e")
    yield bad("in-the-channel", "rollout.into", channel="stable")
    yield bad("of-a-roll-out", "itself", channel="stable.next.next", into="stable.next")
    yield bad("over", "rollout.over", over="sha256:" + "c0" * 32)
    yield bad("percent", "rollout.percent", percent=101)
    yield bad("percent-true", "rollout.percent", percent=True)
    yield bad("duration", "rollout.duration_s", duration_s=-1)
    yield bad("long", "rollout.duration_s", duration_s=366 * 86_400 + 1)
    yield bad("start", "rollout.start", start="2026-03-02")
    yield bad("salt", "rollout.salt", salt="")
    yield bad("long-salt", "rollout.salt", salt="x" * 65)
    whole = {name: value for name, value in plan.items() if name != "salt"}
    raw = manifest(body(P1, sizes=SMALL, channel="stable.next") | {"rollout": whole}, P1)
    yield "rollout-without-salt", raw, "manifest", "malformed", "salt"


def forms() -> Iterator[Bad]:
    """What no document may be, shown with a yank."""
    good = document(yank(), P1, P2)
    members = json.loads(good)

    def bad(name: str, raw: bytes, says: str, reason: str = "malformed") -> Bad:
        return f"form-{name}", raw, "yank", reason, says

    yield bad("white-space", good.replace(b'"fleet":', b'"fleet": '), "does not match", "signature")
    yield bad("line-end", good + b"\n", "does not match", "signature")
    yield bad(
        "order",
        json.dumps(members, separators=(",", ":"), ensure_ascii=False, sort_keys=False).encode()[:-1]
        + b',"zz":1,"ab":1}',
        "signature",
        "signature",
    )
    yield bad("escape", good.replace("→".encode(), rb"\u2192"), "signature", "signature")
    yield bad("twice", _signed_again(good, b'"spec"', b'"reason":"x","spec"'), "twice")
    yield bad("nested", document(yank(x=[[[[[[[[]]]]]]]]), P1), "nested")
    yield bad("fraction", document(yank(x=0.5), P1), "fraction")
    yield bad("integer", document(yank(x=2**53), P1), "2^53-1")
    yield bad("control", document(yank(x="\u202e"), P1), "control character")
    yield bad("other-spec", document(yank(spec="p2pboot-yank/2"), P1), "spec")
    yield bad("not-sorted", canonical(members | {"signatures": members["signatures"][::-1]}), "sorted")
    doubled = [members["signatures"][0]] * 2
    yield bad("signed-twice", canonical(members | {"signatures": doubled}), "each once")
    more = {"keyid": P1.keyid, "sig": members["signatures"][0]["sig"], "x": 1}
    yield bad("more-in-signature", canonical(members | {"signatures": [more]}), "signatures")
    yield bad("no-signatures", canonical(yank()), "signatures")
    again = canonical(yank(zz={"signatures": []}) | {"signatures": []})
    yield bad("signatures-again", again, "a second time")
    many = [{"keyid": Key(index).keyid, "sig": b64(bytes(64))} for index in range(33)]
    many.sort(key=lambda one: one["keyid"])
    yield bad("many-signatures", canonical(members | {"signatures": many}), "more than 32")
    for name, text in (("short", b64(bytes(63))), ("text", "A" * 88), ("zeros", b64(bytes(64)))):
        raw = canonical(members | {"signatures": [{"keyid": P1.keyid, "sig": text}]})
        yield bad(f"signature-{name}", raw, "signature", "signature")
    said = yank()
    entry = members["signatures"][0]
    sig = base64.b64decode(entry["sig"])
    high = int.from_bytes(sig[32:], "little") + _ORDER
    malleable = entry | {"sig": b64(sig[:32] + high.to_bytes(32, "little"))}
    raw = canonical(members | {"signatures": [malleable]})
    yield bad("signature-malleable", raw, "does not match", "signature")
    small = {"keyid": "ed25519:01" + "0" * 62, "sig": b64(b"\x01" + bytes(63))}
    raw = canonical(members | {"signatures": [small]})
    yield bad("key-of-small-order", raw, "does not match", "signature")
    for name, signed in (
        ("no-spec", canonical(said)),
        ("no-nul", said["spec"].encode() + canonical(said)),
        ("of-a-root", b"p2pboot-root/1\0" + canonical(said)),
        ("of-the-digest", hashlib.sha256(message(said)).digest()),
    ):
        raw = canonical(said | {"signatures": [signature(P1, signed)]})
        yield bad(f"signed-{name}", raw, "does not match", "signature")
    altered = canonical(members | {"reason": "nothing"})
    yield bad("altered", altered, "does not match", "signature")
    stranger = canonical(members | {"signatures": [signature(STRANGER, message(ROOT_1))]})
    yield bad("anothers-signature", stranger, "does not match", "signature")
    yield bad("latin-1", good.replace("→".encode(), b"\xe4"), "UTF-8")
    yield bad("array", b"[" + good + b"]", "object")


def _signed_again(good: bytes, old: bytes, new: bytes) -> bytes:
    """A document of which the signed bytes are no canonical form, rightly signed as they are."""
    members = json.loads(good)
    text = canonical({name: value for name, value in members.items() if name != "signatures"})
    text = text.replace(old, new, 1)
    entry = signature(P1, members["spec"].encode() + b"\0" + text)
    before, _, after = text.partition(b'"spec":')
    return before + b'"signatures":' + canonical([entry]) + b',"spec":' + after
