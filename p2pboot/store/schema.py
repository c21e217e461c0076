"""The tables of a state directory's database, and the steps that led to them.

Step N turns schema N-1 into schema N; the first makes the tables in an empty file. A step that was released is never
edited: what changes is a further step, and `TABLES`, which makes a new file at once: each fetch into a new directory
needs one, and all the steps take 7 ms. That both come to the same, a test sees. Statements end with a semicolon, and
there is none elsewhere in them. Where SQL does not do, a step is a function of the connection and the state directory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from blake3 import blake3

Step = str | Callable[[sqlite3.Connection, Path], None]

# In the order and the words in which SQLite keeps what the steps did.
TABLES: Final = """
CREATE TABLE manifests(
    digest TEXT PRIMARY KEY, raw BLOB NOT NULL, detached TEXT, signers TEXT NOT NULL, channel TEXT NOT NULL,
    arch TEXT NOT NULL, manifest_version INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT
    NULL, role TEXT NOT NULL CHECK (role IN ('pending', 'current', 'previous'))
, fault TEXT, parked_at INTEGER);
CREATE INDEX manifests_stream ON manifests(channel, arch, signers);
CREATE TABLE equivocations(
    id INTEGER PRIMARY KEY, channel TEXT NOT NULL, arch TEXT NOT NULL, manifest_version INTEGER NOT NULL,
    first_digest TEXT NOT NULL, first_raw BLOB NOT NULL, second_digest TEXT NOT NULL, second_raw BLOB NOT
    NULL, UNIQUE (first_digest, second_digest)
);
CREATE TABLE publications(
    signers TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, counter INTEGER NOT NULL, digest TEXT,
    raw BLOB, PRIMARY KEY (signers, channel, arch)
);
CREATE TABLE accepted_times(
    signers TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, newest_created_at INTEGER NOT NULL,
    PRIMARY KEY (signers, channel, arch)
);
CREATE TABLE publication_dates(
    signers TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, manifest_version INTEGER NOT NULL,
    created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, PRIMARY KEY (signers, channel, arch)
);
CREATE TABLE publications_elsewhere(digest TEXT PRIMARY KEY);
CREATE TABLE announcements(
    signer TEXT NOT NULL, root TEXT NOT NULL, sequence INTEGER NOT NULL, raw BLOB NOT NULL, fault TEXT,
    PRIMARY KEY (signer, root)
);
CREATE TABLE announcement_conflicts(
    id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, first BLOB NOT NULL, second BLOB NOT NULL,
    UNIQUE (first, second)
);
CREATE TABLE accepted_heads(
    signers TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, manifest_version INTEGER NOT NULL,
    digest TEXT NOT NULL, PRIMARY KEY (signers, channel, arch)
);
CREATE TABLE record(only INTEGER PRIMARY KEY CHECK (only = 1), serial INTEGER NOT NULL, state TEXT NOT NULL);
CREATE TABLE announced(signer TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE tables(
    digest TEXT NOT NULL, table_digest TEXT NOT NULL, size INTEGER NOT NULL, piece_length INTEGER NOT NULL,
    digests BLOB NOT NULL, PRIMARY KEY (digest, table_digest)
);
CREATE INDEX tables_cut ON tables(table_digest);
CREATE TABLE manifest_artifacts(
    digest TEXT NOT NULL REFERENCES manifests(digest) ON DELETE CASCADE, sha256 TEXT NOT NULL,
    table_digest TEXT NOT NULL, size INTEGER NOT NULL, piece_length INTEGER NOT NULL,
    PRIMARY KEY (digest, sha256, table_digest)
) WITHOUT ROWID;
CREATE INDEX manifest_artifacts_sha256 ON manifest_artifacts(sha256);
CREATE TABLE hashes(
    identity TEXT NOT NULL, file TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    piece_length INTEGER NOT NULL, digests BLOB NOT NULL, PRIMARY KEY (identity, piece_length)
);
CREATE INDEX hashes_file ON hashes(file);
CREATE INDEX hashes_digest ON hashes(digest);
CREATE TABLE peers(
    mesh TEXT NOT NULL, peer_id TEXT NOT NULL, address TEXT NOT NULL, reached_at INTEGER,
    failures INTEGER NOT NULL, PRIMARY KEY (mesh, peer_id, address)
);
CREATE TABLE roots(
    fleet TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY (fleet, version)
);
CREATE INDEX roots_digest ON roots(digest);
CREATE TABLE root_memory(fleet TEXT PRIMARY KEY, version INTEGER NOT NULL, digest TEXT NOT NULL);
CREATE TABLE statements(
    fleet TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, created_at INTEGER NOT NULL,
    digest TEXT NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (fleet, channel, arch)
);
CREATE TABLE yanks(
    fleet TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, content TEXT NOT NULL,
    created_at INTEGER NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (fleet, channel, arch, content)
);
CREATE TABLE evidence(
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, first_digest TEXT NOT NULL,
    first BLOB NOT NULL, second_digest TEXT NOT NULL, second BLOB NOT NULL, source TEXT NOT NULL,
    found_at INTEGER NOT NULL, UNIQUE (first_digest, second_digest)
);
CREATE TABLE releases(
    signers TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, manifest_version INTEGER NOT NULL,
    digest TEXT NOT NULL, content TEXT NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY (signers, channel, arch, manifest_version)
);
CREATE TABLE held(
    channel TEXT NOT NULL, arch TEXT NOT NULL, instead_of TEXT NOT NULL, raw BLOB,
    PRIMARY KEY (channel, arch)
);
INSERT INTO record VALUES (1, 0, lower(hex(randomblob(8))));
"""

_FIRST_TABLES: Final = """
CREATE TABLE tables(
    sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, piece_length INTEGER NOT NULL, digests BLOB NOT NULL
);
CREATE TABLE manifests(
    digest TEXT PRIMARY KEY, raw BLOB NOT NULL, detached TEXT, signers TEXT NOT NULL, channel TEXT NOT NULL,
    arch TEXT NOT NULL, manifest_version INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT
    NULL, role TEXT NOT NULL CHECK (role IN ('pending', 'current', 'previous'))
);
CREATE INDEX manifests_stream ON manifests(channel, arch, signers);
CREATE TABLE manifest_artifacts(
    digest TEXT NOT NULL REFERENCES manifests(digest) ON DELETE CASCADE, sha256 TEXT NOT NULL,
    PRIMARY KEY (digest, sha256)
) WITHOUT ROWID;
CREATE TABLE accepted_heads(
    channel TEXT NOT NULL, arch TEXT NOT NULL, manifest_version INTEGER NOT NULL, digest TEXT NOT NULL,
    signers TEXT NOT NULL, PRIMARY KEY (channel, arch)
);
CREATE TABLE trusted_time(only INTEGER PRIMARY KEY CHECK (only = 1), newest_created_at INTEGER NOT NULL);
CREATE TABLE equivocations(
    id INTEGER PRIMARY KEY, channel TEXT NOT NULL, arch TEXT NOT NULL, manifest_version INTEGER NOT NULL,
    first_digest TEXT NOT NULL, first_raw BLOB NOT NULL, second_digest TEXT NOT NULL, second_raw BLOB NOT
    NULL, UNIQUE (first_digest, second_digest)
);
CREATE TABLE hashes(
    identity TEXT PRIMARY KEY, file TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    piece_length INTEGER NOT NULL, digests BLOB NOT NULL
);
CREATE INDEX hashes_file ON hashes(file);
CREATE TABLE publications(
    signers TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, counter INTEGER NOT NULL, digest TEXT,
    raw BLOB, PRIMARY KEY (signers, channel, arch)
);
"""

# Once there was one time for all publishers, which a single manifest dated wrongly held forever. Each head brings
# its own manifest's; where that is lost, the former time is the only one known.
_TIME_BY_PAIR: Final = """
CREATE TABLE accepted_times(
    signers TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, newest_created_at INTEGER NOT NULL,
    PRIMARY KEY (signers, channel, arch)
);
INSERT INTO accepted_times
    SELECT head.signers, head.channel, head.arch, coalesce(manifests.created_at, trusted_time.newest_created_at)
    FROM accepted_heads AS head JOIN trusted_time LEFT JOIN manifests ON manifests.digest = head.digest;
DROP TABLE trusted_time;
"""

# What a publisher says of its dates and of another machine that signs with its key outlasts the document that said it.
_PUBLISHED_BEFORE: Final = """
CREATE TABLE publication_dates(
    signers TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, manifest_version INTEGER NOT NULL,
    created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, PRIMARY KEY (signers, channel, arch)
);
CREATE TABLE publications_elsewhere(digest TEXT PRIMARY KEY);
"""

# A snapshot directory has a state of its own, of the same tables; there a digest is a BLAKE3 root.
_SNAPSHOTS: Final = """
ALTER TABLE tables RENAME COLUMN sha256 TO digest;
ALTER TABLE hashes RENAME COLUMN sha256 TO digest;
CREATE TABLE announcements(
    signer TEXT NOT NULL, root TEXT NOT NULL, sequence INTEGER NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY (signer, root)
);
CREATE TABLE announcement_conflicts(
    id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, first BLOB NOT NULL, second BLOB NOT NULL,
    UNIQUE (first, second)
);
"""

# Why a manifest can never be whole, where that is its signer's fault: what was learnt by fetching all of it once.
_FAULTS: Final = """
ALTER TABLE manifests ADD COLUMN fault TEXT;
"""

# The same of an announcement, for snapshots.
_ANNOUNCEMENT_FAULTS: Final = """
ALTER TABLE announcements ADD COLUMN fault TEXT;
"""

# What one publisher signed lowers nothing of another's: one row for each set of signers.
_HEADS_BY_SIGNERS: Final = """
ALTER TABLE accepted_heads RENAME TO heads_by_pair;
CREATE TABLE accepted_heads(
    signers TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, manifest_version INTEGER NOT NULL,
    digest TEXT NOT NULL, PRIMARY KEY (signers, channel, arch)
);
INSERT INTO accepted_heads SELECT signers, channel, arch, manifest_version, digest FROM heads_by_pair;
INSERT INTO accepted_heads SELECT signers, channel, arch, max(manifest_version), digest FROM manifests
    WHERE role <> 'pending' GROUP BY signers, channel, arch
    ON CONFLICT DO UPDATE SET manifest_version = excluded.manifest_version, digest = excluded.digest
    WHERE excluded.manifest_version > accepted_heads.manifest_version;
DROP TABLE heads_by_pair;
"""

# How often the record beside the database was written (`store.record`), and which state both belong to; and sequences
# that outlast the announcements which bore them.
_RECORD: Final = """
CREATE TABLE record(only INTEGER PRIMARY KEY CHECK (only = 1), serial INTEGER NOT NULL, state TEXT NOT NULL);
INSERT INTO record VALUES (1, 0, lower(hex(randomblob(8))));
CREATE TABLE announced(signer TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
INSERT INTO announced SELECT signer, max(sequence) FROM announcements WHERE fault IS NULL GROUP BY signer;
"""

# Content may be cut in several ways: a table by what it is of and by its own digest, a manifest with the cut that it
# names, a file with all that were made of it. Tables were written down when the first piece came, and so some may be
# lies: kept are those of what is whole.
_CUTS: Final = """
ALTER TABLE tables RENAME TO tables_before;
CREATE TABLE tables(
    digest TEXT NOT NULL, table_digest TEXT NOT NULL, size INTEGER NOT NULL, piece_length INTEGER NOT NULL,
    digests BLOB NOT NULL, PRIMARY KEY (digest, table_digest)
);
CREATE INDEX tables_cut ON tables(table_digest);
DROP TABLE manifest_artifacts;
CREATE TABLE manifest_artifacts(
    digest TEXT NOT NULL REFERENCES manifests(digest) ON DELETE CASCADE, sha256 TEXT NOT NULL,
    table_digest TEXT NOT NULL, size INTEGER NOT NULL, piece_length INTEGER NOT NULL,
    PRIMARY KEY (digest, sha256, table_digest)
) WITHOUT ROWID;
CREATE INDEX manifest_artifacts_sha256 ON manifest_artifacts(sha256);
ALTER TABLE hashes RENAME TO hashes_before;
DROP INDEX hashes_file;
CREATE TABLE hashes(
    identity TEXT NOT NULL, file TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    piece_length INTEGER NOT NULL, digests BLOB NOT NULL, PRIMARY KEY (identity, piece_length)
);
CREATE INDEX hashes_file ON hashes(file);
CREATE INDEX hashes_digest ON hashes(digest);
INSERT INTO hashes SELECT identity, file, digest, size, piece_length, digests FROM hashes_before ORDER BY rowid;
DROP TABLE hashes_before;
"""


def _recut(sql: sqlite3.Connection, state: Path) -> None:
    for statement in _CUTS.split(";"):
        sql.execute(statement)
    for digest, size, length, raw in sql.execute("SELECT * FROM tables_before ORDER BY rowid").fetchall():
        if isinstance(raw, bytes) and (state / "blobs" / digest[:2] / digest).is_file():
            cut = (digest, blake3(raw).hexdigest(), size, length, raw)
            sql.execute("INSERT INTO tables VALUES (?, ?, ?, ?, ?)", cut)
    sql.execute("DROP TABLE tables_before")
    for digest, raw in sql.execute("SELECT digest, raw FROM manifests").fetchall():
        sql.executemany(
            "INSERT OR IGNORE INTO manifest_artifacts VALUES (?, ?, ?, ?, ?)",
            [(digest, *cut) for cut in _cuts_named(raw)],
        )


def _cuts_named(raw: Any) -> list[tuple[str, str, int, int]]:
    """What a manifest says of each artifact: SHA-256, table, size and piece length.

    Of what is no manifest, nothing: it is not believed anyway.
    """
    try:
        members = msgspec.json.decode(raw)["artifacts"]
        members = [*members.pop("dtbs", {}).values(), *members.values()]
        return [
            (
                one["hash"].removeprefix("sha256:"),
                one["pieces"]["hash"].removeprefix("blake3:"),
                one["size"],
                one["pieces"]["length"],
            )
            for one in members
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


# Where peers were reached, or say that they are: a node that is started again finds its mesh by itself.
_PEERS: Final = """
CREATE TABLE peers(
    mesh TEXT NOT NULL, peer_id TEXT NOT NULL, address TEXT NOT NULL, reached_at INTEGER,
    failures INTEGER NOT NULL, PRIMARY KEY (mesh, peer_id, address)
);
"""

# Trust documents (`store.trustdocs`); manifests that lost their signers' trust and may be signed anew; what a publisher
# may want back.
_TRUST_DOCUMENTS: Final = """
ALTER TABLE manifests ADD COLUMN parked_at INTEGER;
CREATE TABLE roots(
    fleet TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY (fleet, version)
);
CREATE INDEX roots_digest ON roots(digest);
CREATE TABLE root_memory(fleet TEXT PRIMARY KEY, version INTEGER NOT NULL, digest TEXT NOT NULL);
CREATE TABLE statements(
    fleet TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, created_at INTEGER NOT NULL,
    digest TEXT NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (fleet, channel, arch)
);
CREATE TABLE yanks(
    fleet TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, content TEXT NOT NULL,
    created_at INTEGER NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (fleet, channel, arch, content)
);
CREATE TABLE evidence(
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, first_digest TEXT NOT NULL,
    first BLOB NOT NULL, second_digest TEXT NOT NULL, second BLOB NOT NULL, source TEXT NOT NULL,
    found_at INTEGER NOT NULL, UNIQUE (first_digest, second_digest)
);
CREATE TABLE releases(
    signers TEXT NOT NULL, channel TEXT NOT NULL, arch TEXT NOT NULL, manifest_version INTEGER NOT NULL,
    digest TEXT NOT NULL, content TEXT NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY (signers, channel, arch, manifest_version)
);
CREATE TABLE held(
    channel TEXT NOT NULL, arch TEXT NOT NULL, instead_of TEXT NOT NULL, raw BLOB,
    PRIMARY KEY (channel, arch)
);
"""

STEPS: Final[tuple[Step, ...]] = (
    _FIRST_TABLES,
    _TIME_BY_PAIR,
    _PUBLISHED_BEFORE,
    _SNAPSHOTS,
    _FAULTS,
    _ANNOUNCEMENT_FAULTS,
    _HEADS_BY_SIGNERS,
    _RECORD,
    _recut,
    _PEERS,
    _TRUST_DOCUMENTS,
)
SCHEMA_VERSION: Final = len(STEPS)
