"""Make the files of this directory, always the same: `python -m tests.vectors.manifest.make`."""

import base64
import hashlib
import json
from pathlib import Path

from tests.vectors.manifest import bad_fields, bad_seals, bad_text, bad_values
from tests.vectors.manifest.form import STRANGER, A, B, Json, b64
from tests.vectors.manifest.good_documents import good, waiting

HERE = Path(__file__).parent
BAD = {
    "malformed": (
        bad_text.syntax,
        bad_text.spelling,
        bad_text.numbers,
        bad_text.strings,
        bad_seals.altered,
        bad_seals.data_faults,
        bad_seals.envelope,
        bad_fields.members,
        bad_fields.artifacts,
        bad_values.urls,
        bad_values.times,
        bad_values.signers,
    ),
    "signature": (bad_seals.signatures,),
}


def files() -> dict[str, bytes]:
    """Every file of this directory that is made: path → content."""
    made: dict[str, bytes] = {}
    index: Json = {"good": {}, "waiting": {}, "bad": {}, "keys": {}}
    for name, key in (("A", A), ("B", B), ("STRANGER", STRANGER)):
        index["keys"][name] = {"seed": key.seed.hex(), "keyid": key.keyid, "peer_id": key.peer_id}
    for good_name, raw, why in good():
        data = base64.b64decode(json.loads(raw)["signed"]["data"])
        made[f"good/{good_name}.json"] = raw
        made[f"good/{good_name}.json.sig"] = b64(A.secret.sign(raw)).encode() + b"\n"
        digest = hashlib.sha256(data).hexdigest()
        index["good"][good_name] = {"why": why, "digest": digest, "size": len(raw)}
    for waiting_name, raw, missing in waiting():
        made[f"waiting/{waiting_name}.json"] = raw
        index["waiting"][waiting_name] = {"missing": missing}
    for reason, family in ((reason, family) for reason, families in BAD.items() for family in families):
        for bad_name, raw, says in family():
            if f"bad/{bad_name}.json" in made:
                raise AssertionError(f"two vectors are called {bad_name}")
            made[f"bad/{bad_name}.json"] = raw
            index["bad"][bad_name] = {"reason": reason, "says": says}
    made["index.json"] = json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n"
    return made


def main() -> None:
    made = files()
    for path in (HERE / "good", HERE / "waiting", HERE / "bad"):
        path.mkdir(exist_ok=True)
        for old in path.iterdir():
            old.unlink()
    for name, content in made.items():
        (HERE / name).write_bytes(content)


if __name__ == "__main__":
    main()
