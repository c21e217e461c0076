"""`python -m p2pboot` is the command `p2pboot`."""

from __future__ import annotations


def _main() -> None:
    from p2pboot.cli.main import main

    main()


if __name__ == "__main__":
    _main()
