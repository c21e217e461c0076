"""Make the files of this directory, always the same: `python -m tests.vectors.trust.make`."""

import json
from pathlib import Path

from tests.vectors.manifest.form import Json, body, manifest
from tests.vectors.trust import bad
from tests.vectors.trust.form import (
    F1,
    F2,
    FLEET,
    KEYS,
    NO_FLEET,
    P1,
    P2,
    P3,
    R1,
    R2,
    R3,
    R4,
    ROOT_1,
    ROOT_2,
    content,
    digest,
    document,
    freshness,
    place,
    yank,
)

HERE = Path(__file__).parent
SIZES = {"kernel": 200_000, "initramfs": 65_536, "dtbs/board": 70_000}
MACHINES = ("4c4c4544-0042-3510-8056-b7c04f4d3232", "00:1e:06:4a:02:0f", "x", "m" * 64)


def images() -> tuple[Json, Json, Json]:
    """What machines have, the same image in the roll-out and in the channel."""
    before = body(P1, sizes=SIZES | {"kernel": 100_000}) | {"manifest_version": 8}
    into = body(P1, sizes=SIZES, urls=2) | {"cmdline": "quiet root=LABEL=x", "manifest_version": 9}
    after = body(P1, sizes=SIZES, channel="stable.next") | {"cmdline": "quiet root=LABEL=x"}
    after["rollout"] = {
        "into": "stable",
        "over": content(before),
        "start": "2026-03-02T00:00:00Z",
        "duration_s": 86_400,
        "percent": 80,
        "salt": "2026.03.02-é",
    }
    return before, after, into


def good() -> dict[str, tuple[str, bytes, str]]:
    """Name → kind, document, identity."""
    before, after, into = images()
    paused = freshness(F2, channel="stable.next", minimum=0, paused={"since": "2026-03-02T05:00:00Z"})
    without = freshness(F1, fleet=NO_FLEET, root_version=0)
    bodies = {
        "root-1": ("root", document(ROOT_1, R1, R3), digest(ROOT_1)),
        "root-1-others": ("root", document(ROOT_1, R1, R2, R3), digest(ROOT_1)),
        "root-2": ("root", document(ROOT_2, R2, R3, R4), digest(ROOT_2)),
        "freshness": ("freshness", document(freshness(F1, F2), F1, F2), digest(freshness(F1, F2))),
        "freshness-paused": ("freshness", document(paused, F2), digest(paused)),
        "freshness-without-root": ("freshness", document(without, F1), digest(without)),
        "yank": ("yank", document(yank(), P1, P3), digest(yank())),
        "yank-unknown-members": ("yank", document(yank(reason="", x={"é": [1, None]}), P2), ""),
    }
    bodies["yank-unknown-members"] = (
        *bodies["yank-unknown-members"][:2],
        digest(yank(reason="", x={"é": [1, None]})),
    )
    for name, one in (("before", before), ("rollout", after), ("into", into)):
        bodies[name] = ("manifest", manifest(one, P1), digest(one))
    return bodies


def files() -> dict[str, bytes]:
    """Every file of this directory that is made: path → content."""
    made: dict[str, bytes] = {}
    index: Json = {"keys": {}, "fleet": FLEET, "good": {}, "bad": {}, "content": {}, "places": []}
    index["keys"] = {name: {"seed": key.seed.hex(), "keyid": key.keyid} for name, key in KEYS.items()}
    for name, (kind, raw, identity) in good().items():
        made[f"good/{name}.json"] = raw
        index["good"][name] = {"kind": kind, "digest": identity, "size": len(raw)}
    for name, one in zip(("before", "rollout", "into"), images(), strict=True):
        index["content"][name] = content(one)
    for salt in ("2026.03.02-é", "2026.03.03"):
        index["places"] += [
            {"salt": salt, "machine": machine, "first_bytes": place(salt, machine).hex()}
            for machine in MACHINES
        ]
    index["fractions"] = [  # of the roll-out above: seconds after its start, percent · 1000
        {"after_s": after_s, "mille": mille}
        for after_s, mille in ((-1, 0), (0, 0), (10_800, 100), (43_200, 400), (86_400, 800), (10**9, 800))
    ]
    for family in (bad.roots, bad.statements, bad.yanks, bad.rollouts, bad.forms):
        for name, raw, kind, reason, says in family():
            if f"bad/{name}.json" in made:
                raise AssertionError(f"two vectors are called {name}")
            made[f"bad/{name}.json"] = raw
            index["bad"][name] = {"kind": kind, "reason": reason, "says": says}
    made["index.json"] = json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n"
    return made


def main() -> None:
    made = files()
    for path in (HERE / "good", HERE / "bad"):
        path.mkdir(exist_ok=True)
        for old in path.iterdir():
            old.unlink()
    for name, raw in made.items():
        (HERE / name).write_bytes(raw)


if __name__ == "__main__":
    main()
