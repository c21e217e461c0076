"""The program without waiting for the disk, to be compared with what never does.

    python -m benchmarks.unsynced fetch …

SQLite's few syncs stay.
"""

from __future__ import annotations

import os


def main() -> None:
    os.fsync = os.fdatasync = lambda _file: None
    from p2pboot.cli.main import main as program

    program()


if __name__ == "__main__":
    main()
