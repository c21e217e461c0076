"""Timetoke snapshots: records and their exact bytes, signatures, chunks, and what signers announce.

A *payload* is compact JSON exactly as the source system writes it; its identity, the *root*, is the BLAKE3
digest of those bytes, and an Ed25519 signature is made directly over them. Nothing here serialises again what
was received: readers judge the bytes they have. `docs/snapshots.md` has the formats and the guarantees.

Where to look: :mod:`.records` and :mod:`.snapshot` (values), :mod:`.numbers` (the two number formats that plain
JSON tools get wrong), :mod:`.writer` and :mod:`.reader` (values to bytes and back), :mod:`.signatures` (`.sig`
texts), :mod:`.chunks` (root and chunk table), :mod:`.announcement` and :mod:`.agreement` (who says which snapshot
is the newest).
"""
