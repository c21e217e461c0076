"""What the operator of a new machine answers, and the configuration file that comes of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from p2pboot.config import values
from p2pboot.config.locations import Locations, Role
from p2pboot.config.show import toml
from p2pboot.core.dataclass import dataclass
from p2pboot.core.names import ARCHS, check_name, normalise_arch
from p2pboot.core.trustdocs.chain import DIGEST_PREFIX, Anchor

TREE: Final = "tree"
"""Of a publisher's directory: channels and archs are the names of directories in it."""

OFF: Final = "off"
NONE: Final = "none"
SOCKET_PORT: Final = 80
"""The port of the packaged socket units."""

MAX_RELEASES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What was answered, checked.

    Args:
        role: of the machine.
        directory: that a publisher publishes; None for a mirror.
        trust: key ids that a mirror follows; empty for a publisher, and beside a root.
        root: what `root` of a mirror's `[[trust]]` says: a path or a digest; None beside key ids.
        root_file: the root itself, which is to lie at that path; None for a digest.
        channels, archs: of what is published or followed; empty: what the directories of the publisher are called, or
            all archs of a mirror's channels.
        http: `HOST:PORT` to listen on; None: nothing, or the socket unit.
        socket: whether the socket unit listens for HTTP.
        bootstrap: multiaddrs of nodes.
        name: of the machine in what it publishes.
    """

    role: Role
    directory: Path | None = None
    trust: tuple[str, ...] = ()
    root: str | None = None
    root_file: str | None = None
    channels: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    http: str | None = None
    socket: bool = False
    bootstrap: tuple[str, ...] = ()
    name: str


# Reading answers: ValueError says "must be …"


def role(text: str) -> Role:
    """The one or the other, or the beginning of its name."""
    for known in Locations.ROLES:
        if text and known.startswith(text.strip().lower()):
            return known
    raise ValueError(f"must be {' or '.join(Locations.ROLES)}, not {text[:80]!r}")


def directory(text: str) -> Path:
    """An absolute path of a directory, or of one that can be made."""
    path = values.path(text, Path.cwd())
    if not path.is_absolute():
        path = Path.cwd() / path
    path = Path(os.path.normpath(path))
    if not str(path).isprintable():
        raise ValueError("must be a path of printable characters: it is written into files for people")
    if os.path.lexists(path) and not path.is_dir():
        raise ValueError(f"must be a directory, and {path} is none")
    return path


def key_ids(text: str) -> tuple[str, ...]:
    """Key ids or peer ids, separated by blanks or commas."""
    return values.some_key_ids(_words(text), Path())


def root(text: str) -> Anchor:
    """A root: `sha256:` and the digest of one of its versions, or its file."""
    return values.root_anchor(text, Path.cwd())


def believed(text: str) -> tuple[str, ...] | Anchor:
    """Key ids as `key_ids`, or a root as `root`."""
    is_root = text.startswith(DIGEST_PREFIX) or "/" in text or text.endswith(".json")
    return root(text) if is_root else key_ids(text)


def published(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`CHANNEL/ARCH`, or "tree" for none."""
    if text.strip().lower() == TREE:
        return (), ()
    channels, archs = followed(text)
    if len(channels) != 1 or len(archs) != 1:
        raise ValueError(f"must be one CHANNEL/ARCH like stable/x86_64, or {TREE}, not {text[:80]!r}")
    return channels, archs


def followed(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`CHANNEL` or `CHANNEL/ARCH`, several separated by blanks or commas; channels, and archs (none: all)."""
    words = _words(text)
    if not 1 <= len(words) <= MAX_RELEASES:
        raise ValueError(f"must be 1 to {MAX_RELEASES} of CHANNEL/ARCH, like stable/x86_64")
    pairs: set[tuple[str, str]] = set()
    for word in words:
        channel, slash, arch = word.partition("/")
        check_name(channel, "channel")
        pairs.update((channel, one) for one in ([normalise_arch(arch)] if slash else ARCHS))
    channels = tuple(dict.fromkeys(word.partition("/")[0] for word in words))
    archs = tuple(sorted({arch for _, arch in pairs}))
    if len(pairs) != len(channels) * len(archs):
        raise ValueError(
            "must have the same archs for each channel; edit [[trust]] in the file for more than that"
        )
    return channels, () if archs == tuple(sorted(ARCHS)) else archs


def addresses(text: str) -> tuple[str, ...]:
    """Multiaddrs, separated by blanks or commas; none for nothing, or "none"."""
    words = _words(text)
    return () if words == (NONE,) else values.peer_addresses(words, Path())


def http(text: str, *, is_system: bool, first_free_port: int, any_host: str) -> tuple[str | None, bool]:
    """`off`, a port, or `HOST:PORT`: where to listen, and whether that is the socket unit's business.

    Args:
        text: the answer.
        is_system: whether a system's service is set up, which has a socket unit.
        first_free_port: the lowest that needs no privilege.
        any_host: stands for all addresses of this machine: "[::]".
    """
    text = text.strip().lower()
    if text == OFF:
        return None, False
    said = f"{any_host}:{text}" if text.isdecimal() else text
    try:
        address = values.http_address(said, Path())
    except ValueError:
        raise ValueError(
            f"must be {OFF}, a port, or HOST:PORT like 192.0.2.7:8080, not {text[:80]!r}"
        ) from None
    if values.is_passed(address):
        if not is_system:
            raise ValueError("must be a port or HOST:PORT: a user's unit has no socket unit")
        return None, True
    port = int(address.rpartition(":")[2])
    if is_system and text.isdecimal() and port == SOCKET_PORT:
        return None, True
    if 0 < port < first_free_port:
        way = f"; {SOCKET_PORT} alone is listened on by the socket unit" if is_system else ""
        raise ValueError(f"must be a port from {first_free_port}: lower ones need a privilege{way}")
    return address, False


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def own_arch() -> str:
    """What this machine is, if that can be published; else the most common."""
    try:
        return normalise_arch(platform.machine())
    except ValueError:
        return "x86_64"


def release_in(directory: Path) -> str:
    """What a directory probably holds: one release, or the tree of several."""
    try:
        with os.scandir(directory) as entries:
            has_files = any(entry.is_file() for entry in entries)
    except OSError:
        has_files = True
    return f"stable/{own_arch()}" if has_files or not _has_directories(directory) else TREE


def _has_directories(directory: Path) -> bool:
    try:
        with os.scandir(directory) as entries:
            return any(entry.is_dir() for entry in entries)
    except OSError:
        return False


# The file


def as_file(answers: Answers, *, key: Path, state: Path) -> str:
    """The configuration file, with a word on each line.

    Args:
        answers: of the operator.
        key: file of the node's key.
        state: the node's state directory.
    """
    is_publisher = answers.role == "publisher"
    verb = "serve" if is_publisher else "mirror"
    lines = [
        f"# The p2pboot {answers.role} on this machine, written by `p2pboot init`; yours to edit.",
        "# Look through it with `p2pboot config check`; every key there is stands in docs/configuration.md.",
        "# A running node takes changes over with `systemctl reload`, or on SIGHUP.",
        "",
        "[identity]",
        "# Who this machine is. The key never leaves it; `p2pboot key show --key FILE` prints what others trust.",
        f"key_path = {toml(str(key))}",
        "",
        "[provider]",
    ]
    lines += (
        _provider(answers)
        if is_publisher
        else [
            "# What messages and pages call this machine.",
            f"name = {toml(answers.name)}",
        ]
    )
    kept = "remembers" if is_publisher else "keeps; a tenth of the disk stays free"
    lines += [
        "",
        "[network]",
        "# Nodes through which others are found; on the local network they find each other by themselves.",
        f"bootstrap = {toml(list(answers.bootstrap))}",
        '# max_upload = "20MB/s"',
        "",
        "[gateway]",
        *_gateway(answers),
        "",
        "[store]",
        f"# What `p2pboot {verb}` {kept}.",
        f"state = {toml(str(state))}",
        *([] if is_publisher else ['# quota = "50GB"']),
    ]
    if not is_publisher:
        lines += ["", *_trust(answers)]
    return "\n".join(lines) + "\n"


def _provider(answers: Answers) -> Sequence[str]:
    lines = [
        "# What this machine calls itself in the manifests that it signs.",
        f"name = {toml(answers.name)}",
        "# What is published; it is watched for changes.",
        f"directory = {toml(str(answers.directory))}",
    ]
    if answers.channels:
        lines += [
            "# The directory holds the files of this one release. Without these two it holds CHANNEL/ARCH/FILE.",
            f"channel = {toml(answers.channels[0])}",
            f"arch = {toml(answers.archs[0])}",
        ]
    else:
        lines.append("# The directory holds CHANNEL/ARCH/FILE, for example stable/x86_64/vmlinuz.")
    return [
        *lines,
        "# How long a manifest is valid; a running publisher renews it when a third is left.",
        '# expires_in = "30d"',
    ]


def _gateway(answers: Answers) -> Sequence[str]:
    if answers.socket:
        return (
            f"# HTTP for firmware comes by p2pboot-{answers.role}.socket, which listens on port {SOCKET_PORT}.",
            "# For another address, without it:",
            '# http = "[::]:8080"',
        )
    if answers.http is None:
        return ("# No HTTP for firmware. To have it:", '# http = "[::]:8080"')
    return ("# HTTP for firmware: iPXE, UEFI, curl.", f"http = {toml(answers.http)}")


def _trust(answers: Answers) -> Sequence[str]:
    if answers.root is not None:
        lines = [
            "# Whose images are kept: only what those signed whom the newest version of this root names.",
            "[[trust]]",
            f"root = {toml(answers.root)}",
        ]
    else:
        lines = [
            "# Whose images are kept: only what this key signed is ever taken. One such table for each publisher.",
            "[[trust]]",
            f"keys = {toml(list(answers.trust))}",
        ]
    if len(answers.trust) > 1:
        lines += [
            f"# How many of these keys must have signed a manifest, 1 to {len(answers.trust)}.",
            "threshold = 1",
        ]
    lines += ["# What is followed.", f"channels = {toml(list(answers.channels))}"]
    lines.append(f"archs = {toml(list(answers.archs))}" if answers.archs else '# archs = ["x86_64"]')
    return lines
