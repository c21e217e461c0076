"""The program's entry. It imports little, so that even Ctrl-C during the imports ends quietly."""

from __future__ import annotations

import sys

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main() -> None:
    """Run the command line of this process and end the process with its exit status."""
    try:
        from p2pboot.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)
