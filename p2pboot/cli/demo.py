"""`p2pboot demo`: the main job, shown with real processes on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from p2pboot.cli.options import FILE, Command
from p2pboot.errors import UsageError


@click.command(cls=Command)
@click.option(
    "--directory",
    type=FILE,
    metavar="DIR",
    help="Where the files go; new or empty.  [default: a new temporary one]",
)
def demo(directory: Path | None) -> None:
    """Publish, mirror and fetch on this machine, in separate processes, and watch it happen.

    Takes less than two minutes and ends by itself. A real kernel is used if Debian's packages can be had,
    generated files otherwise.
    """
    import tempfile

    from platformdirs import user_cache_path

    from p2pboot.demo.run import run_demo
    from p2pboot.demo.story import Story
    from p2pboot.store.durable import make_directory

    if directory is None:
        directory = Path(tempfile.mkdtemp(prefix="p2pboot-demo-"))
    elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(
            f"{directory} is not an empty directory", remedy="name a new one, or leave --directory out"
        )
    make_directory(directory, 0o755)
    directory = directory.absolute()
    try:
        cache = user_cache_path("p2pboot", appauthor=False) / "demo"
    except RuntimeError:  # no home: what is downloaded serves this run only
        cache = directory / "cache"
    run_demo(directory, cache=cache, story=Story.on_stdout())
