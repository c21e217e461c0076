"""`p2pboot completion`: has a shell complete commands, options and files. The scripts are click's."""

from __future__ import annotations

import click

from p2pboot.cli.options import Command
from p2pboot.cli.output import say

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script with which SHELL completes p2pboot's commands and options.

    \b
    eval "$(p2pboot completion bash)"       in ~/.bashrc
    eval "$(p2pboot completion zsh)"        in ~/.zshrc, after compinit
    p2pboot completion fish | source        in ~/.config/fish/config.fish

    The Debian package and the bundle's installer put it where the shells look for it.
    """  # noqa: D301 - click takes the backspace itself for "leave these lines as they are"
    say(script(shell))


def script(shell: str) -> str:
    """The script for one of `SHELLS`. The shell itself need not be on this machine."""
    from click.shell_completion import ShellComplete, get_completion_class

    from p2pboot.cli.app import PROGRAM, root

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all of them
    variable = f"_{PROGRAM.upper()}_COMPLETE"  # in which click is told that a shell asks
    # bash's own `source` runs a bash to see whether it is too old, and this may be made for another machine.
    return ShellComplete.source(kind(root, {}, PROGRAM, variable)).strip("\n")
