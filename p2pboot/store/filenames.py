"""What the files of a state directory are called that hold its memory."""

from __future__ import annotations

from typing import Final

DATABASE_NAME: Final = "state.sqlite3"
DATABASE_FILES: Final = tuple(DATABASE_NAME + end for end in ("", "-wal", "-shm", "-journal"))
RECORD_NAME: Final = "record"
MEMORY_FILES: Final = (*DATABASE_FILES, RECORD_NAME)
