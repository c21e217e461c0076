"""What is installed beside the program: manual pages, completion, units, documents. And reproducible archives."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from p2pboot.cli.completion import SHELLS, script
from p2pboot.core.dataclass import dataclass
from scripts.packages.man import write_pages
from scripts.packages.wheels import ROOT

_EXAMPLE = "p2pboot.example.toml"


@dataclass(frozen=True, slots=True)
class File:
    """A file to be packed.

    Args:
        data: its content.
        executable: it is for running.
    """

    data: bytes
    executable: bool = False


def shared_files(*, completion: Mapping[str, str]) -> dict[str, File]:
    """Manual pages, completion and documents by their path below `share`.

    Args:
        completion: for each of the shells, the path of its script below `share`.
    """
    files = {completion[shell]: File(f"{script(shell)}\n".encode()) for shell in SHELLS}
    with tempfile.TemporaryDirectory() as directory:
        for page in write_pages(Path(directory)):
            files[f"man/man1/{page.name}"] = File(page.read_bytes())
    return files | documents()


def documents() -> dict[str, File]:
    """What is to be read, by its path below `share`: docs/ as it is, the changelog, the licence, an example."""
    docs = ROOT / "docs"
    named = {
        path.relative_to(docs).as_posix(): path
        for path in docs.rglob("*")
        if path.is_file() and path.name != _EXAMPLE
    }
    named |= {"CHANGELOG.md": ROOT / "CHANGELOG.md", "LICENSE": ROOT / "LICENSE"}
    named[f"examples/{_EXAMPLE}"] = docs / _EXAMPLE
    # Rules and dashboards are for Prometheus and Grafana, which run elsewhere.
    for monitoring in (ROOT / "packaging" / "prometheus", ROOT / "packaging" / "grafana"):
        named |= {
            f"examples/{path.relative_to(monitoring.parent).as_posix()}": path
            for path in monitoring.rglob("*")
            if path.is_file()
        }
    return {f"doc/p2pboot/{name}": File(path.read_bytes()) for name, path in named.items()}


def systemd_files() -> dict[str, File]:
    """Units, and what sysusers and tmpfiles read, by name."""
    directory = ROOT / "packaging" / "systemd"
    return {path.name: File(path.read_bytes()) for path in directory.iterdir() if path.is_file()}


def archive(files: Mapping[str, File], directory: str, date: int) -> bytes:
    """A .tar.gz that depends on nothing but its content: no owner, one date, sorted.

    Args:
        files: by their path below `directory`.
        directory: the one that holds all of it.
        date: of everything, unix seconds.
    """
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=6, mtime=date) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(f"{directory}/{name}")
            entry.size, entry.mtime = len(files[name].data), date
            entry.mode = 0o755 if files[name].executable else 0o644
            entry.uname = entry.gname = "root"
            tar.addfile(entry, io.BytesIO(files[name].data))
    return packed.getvalue()
