"""Looking through a configuration file without starting anything: all that is wrong with it, and with what it names.

Nothing is made, changed, locked or listened on, so that a running node's own file can be looked at. Who looks may be
another user than the node will run as: what he may not read is said not to have been looked at, and is no error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

from p2pboot.config.line_numbers import line_numbers
from p2pboot.config.load import Overrides, Place, complaints, load, parse_file, read_text
from p2pboot.config.locations import first_free_port
from p2pboot.config.settings import SETTINGS, NodeSettings
from p2pboot.config.trust import TRUST
from p2pboot.config.values import is_passed
from p2pboot.core.amounts import counted
from p2pboot.core.dataclass import dataclass
from p2pboot.core.policy import TrustPolicy
from p2pboot.errors import ConfigError, KeyFileError, MachineError, P2PBootError, StoreError, UsageError

Severity = Literal["error", "warning", "note"]

MAX_FLAWS: Final = 100  # of a file of a megabyte; nobody reads more
_SECRETS: Final = (
    "identity.key_path",
    "identity.signing_key_path",
    "network.swarm_key",
    "provider.freshness_key",
)
_TOLD_LINE: Final = re.compile(r"\(at line (\d{1,9}), column \d{1,9}\)")  # of the TOML parser
_KEYS_OF_A_NODE: Final = ("identity.key_path", "identity.signing_key_path", "provider.freshness_key")
_MADE_AT_START: Final = ("identity.key_path",)


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong, or that the reader should know.

    Args:
        severity: an "error" keeps a node from starting; with a "warning" it does not do what was meant; a "note" says
            what was not looked at, or depends on how the node is started.
        key: dotted, "network.listen", or "trust[2].keys"; empty for the file as a whole.
        line: of the file, from 1; None where it is not known.
        message: one line without the file's name.
        remedy: one line, or None.
    """

    severity: Severity
    key: str
    line: int | None
    message: str
    remedy: str | None = None

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return {name: getattr(self, name) for name in ("severity", "key", "line", "message", "remedy")}


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of looking through one file.

    Args:
        path: of the file.
        flaws: errors first, each kind in the order of the file.
        settings: what it says; None where it can not be loaded.
    """

    path: Path
    flaws: tuple[Flaw, ...]
    settings: NodeSettings | None

    @property
    def ok(self) -> bool:
        """Whether a node starts with it, as far as can be seen here."""
        return not any(flaw.severity == "error" for flaw in self.flaws)

    def ports(self) -> list[tuple[str, int]]:
        """The TCP ports that the file has a node listen on, with the key that says so; not those of any free one."""
        if self.settings is None:
            return []
        from p2pboot.transport.addresses import parse_address

        network, http = self.settings.network, self.settings.gateway.http
        listen = () if network.listen_is_default else network.listen
        found = [("network.listen", parse_address(one).port) for one in listen]
        found.append(("gateway.http", _port_of(http) or 0))
        return [(key, port) for key, port in dict.fromkeys(found) if port]

    def to_json(self) -> dict[str, Any]:
        """As plain values: the path, what is wrong, and what a node would do with it."""
        return {
            "path": str(self.path),
            "ok": self.ok,
            "problems": [flaw.to_json() for flaw in self.flaws],
            "publishes": None if self.settings is None else _text(self.settings.provider.directory),
            "mirrors": [] if self.settings is None else [list(pair) for pair in self.settings.followed()],
            "http": None if self.settings is None else self.settings.gateway.http,
        }


def check_file(path: Path) -> Checked:
    """Look through a configuration file; what is wrong is in the result, nothing is raised for it.

    Args:
        path: of the file; that it is missing, no file or no TOML is what is wrong with it then.
    """
    try:
        text = read_text(path)
        document = parse_file(path, text)
    except P2PBootError as error:
        return Checked(path, (_flaw(path, error, (), {}),), None)
    lines = line_numbers(text)
    flaws = [_flaw(path, error, place, lines) for place, error in complaints(document, path)]
    settings = None
    if not flaws:
        try:
            settings = load(Overrides({}), path).settings
        except UsageError as error:
            flaws.append(_flaw(path, error, (TRUST,) if TRUST in error.message else (), lines))
    flaws += _look_at_names(document, path, lines)
    if settings is not None:
        flaws += _look_at_whole(settings, lines)
    order: tuple[Severity, ...] = ("error", "warning", "note")
    flaws.sort(key=lambda flaw: (order.index(flaw.severity), flaw.line or 0))
    return Checked(path, tuple(flaws[:MAX_FLAWS]), settings)


def _flaw(path: Path, error: P2PBootError, place: Place, lines: Mapping[Place, int]) -> Flaw:
    message = error.message.removeprefix(f"{path}: ").removeprefix(f"{path} ")
    line = _line(place, lines)
    if line is None and (told := _TOLD_LINE.search(message)) is not None:
        line = int(told[1])
    return Flaw("error", _dotted(place), line, message, error.remedy)


def _line(place: Place, lines: Mapping[Place, int]) -> int | None:
    """Where it stands, or else the table that it stands in."""
    return next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), None)


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


# What the file names


def _look_at_names(document: Mapping[str, object], path: Path, lines: Mapping[Place, int]) -> Iterator[Flaw]:
    """Files and directories that the file itself says; those of defaults depend on where a node is started."""
    looks: dict[str, Callable[[str, Path], Iterator[Flaw]]] = {
        **dict.fromkeys(_SECRETS, _look_at_secret),
        "provider.directory": _look_at_directory,
        "snapshots.directory": _look_at_directory,
        "store.state": _look_at_state,
    }
    for dotted, look in looks.items():
        setting = SETTINGS[dotted]
        table = document.get(setting.table)
        for holder, name, place in (
            (table, setting.name, (setting.table, setting.name)),
            (document, setting.top_level, (setting.top_level,)),
        ):
            if not isinstance(holder, Mapping) or not name or name not in holder:
                continue
            with suppress(UsageError, ValueError):  # it was said already
                named = setting.parse(holder[name], path.parent)
                if isinstance(named, Path):
                    for flaw in look(dotted, named):
                        yield Flaw(
                            flaw.severity, _dotted(place), _line(place, lines), flaw.message, flaw.remedy
                        )


def _look_at_secret(dotted: str, path: Path) -> Iterator[Flaw]:
    from p2pboot.store.keyfiles import load_key, load_swarm_key

    warnings: list[str] = []
    read: Callable[..., object] = load_swarm_key if dotted == "network.swarm_key" else load_key
    try:
        if dotted in _MADE_AT_START and _is_missing(path):
            yield _said("note", f"{dotted}: there is no {path} yet: a node makes it at its first start")
            return
        read(path, warn=warnings.append)
    except MachineError as error:
        yield _unseen(dotted, error)
    except KeyFileError as error:
        owner = _other_owner(path)
        if owner is not None and os.geteuid() == 0:
            yield _said("note", f"{dotted}: {path} belongs to {owner}, whom alone it serves")
        else:
            yield _said("error", f"{dotted}: {error.message}", error.remedy)
    for warning in warnings:
        message, _, remedy = warning.partition(": run ")
        yield _said("warning", f"{dotted}: {message}", remedy or None)


def _is_missing(path: Path) -> bool:
    """Whether there surely is nothing of that name."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _look_at_directory(dotted: str, path: Path) -> Iterator[Flaw]:
    try:
        with os.scandir(path) as entries:
            is_empty = next(entries, None) is None
    except PermissionError as error:
        yield _unseen(dotted, error)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        yield _said("error", f"{dotted}: {path}: {reason}", "make it, or name another directory")
    else:
        if is_empty and dotted == "provider.directory":
            remedy = "put a kernel and what belongs to it there: it is published as soon as it is whole"
            yield _said("warning", f"{dotted}: {path} is empty: nothing is published", remedy)


def _look_at_state(dotted: str, path: Path) -> Iterator[Flaw]:
    """A state directory is made at the start; what stands in the way of that is seen without making it."""
    place = next((one for one in (path, *path.parents) if os.path.lexists(one)), Path("/"))
    if not place.is_dir():
        yield _said("error", f"{dotted}: {place} is not a directory", "name another one")
    elif place != path and not os.access(place, os.W_OK, effective_ids=True):
        text = f"{dotted}: there is no {path}, and this user may not make it in {place}"
        yield _said("note", text, "systemd makes it for its units; else make it for the node's user")
    elif place == path and not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        yield _said("note", f"{dotted}: {path} belongs to {_other_owner(path) or 'others'}: not looked at")


def _other_owner(path: Path) -> str | None:
    """The name of who owns a file, when that is neither root nor who runs this; or None."""
    from p2pboot.store.ownership import user_name

    try:
        owner = os.stat(path).st_uid
    except OSError:
        return None
    return None if owner in (0, os.geteuid()) else user_name(owner)


def _unseen(dotted: str, error: Exception) -> Flaw:
    message = error.message if isinstance(error, P2PBootError) else f"{error}"
    return _said(
        "note", f"{dotted}: not looked at: {message}", "check it as the user of the node, or as root"
    )


def _said(severity: Severity, message: str, remedy: str | None = None) -> Flaw:
    return Flaw(severity, "", None, message, remedy)


# What it comes to as a whole


def _look_at_whole(settings: NodeSettings, lines: Mapping[Place, int]) -> Iterator[Flaw]:
    if settings.provider.directory is None and settings.snapshots.directory is None:
        yield from _look_at_mirror(settings, lines)
    yield from _look_at_keys(settings)
    if is_passed(settings.gateway.http or ""):
        return
    http = settings.gateway.http
    port = _port_of(http)
    if port is not None and 0 < port < first_free_port() and os.geteuid() != 0:
        place: Place = ("gateway", "http")
        text = (
            f"gateway.http: {http}: a port so low is for root, or for a socket unit that listens for the node"
        )
        remedy = (
            "leave it out and enable p2pboot-publisher.socket or p2pboot-mirror.socket, or take port 8080"
        )
        yield Flaw("note", _dotted(place), _line(place, lines), text, remedy)


def _look_at_keys(settings: NodeSettings) -> Iterator[Flaw]:
    """The roots that the file or the state of a node that ran already has: nobody is in two, and no root key is here.

    A key that can not be read is told of above.
    """
    from p2pboot.core.policy import check_apart
    from p2pboot.store.keyfiles import load_key

    keys = {}
    for dotted in _KEYS_OF_A_NODE:
        path = SETTINGS[dotted].of(settings)
        with suppress(P2PBootError):
            if isinstance(path, Path):
                keys[dotted] = load_key(path).public.keyid
    try:
        check_apart(_with_roots_of_state(settings), keys)
    except P2PBootError as error:
        yield _said("error", error.message, error.remedy)


def _with_roots_of_state(settings: NodeSettings) -> TrustPolicy:
    """Whom to believe by the newest roots that the state remembers, where there is one and this user may look.

    Raises:
        ConfigError: a root names a publisher of what another one publishes already; a node would not start.
    """
    if not settings.roots or settings.store.chosen is None:  # else it depends on who starts it
        return settings.policy
    from p2pboot.store.errors import NoState
    from p2pboot.store.store import Store
    from p2pboot.store.trustdocs import resolved

    try:
        with Store.read(settings.store.state) as store:
            return resolved(settings.policy, store.documents)
    except (StoreError, MachineError, NoState):  # there is none yet, or what is wrong with it others say
        return settings.policy


def _look_at_mirror(settings: NodeSettings, lines: Mapping[Place, int]) -> Iterator[Flaw]:
    if settings.trusts_nobody:
        text = "it names no directory to publish and nobody to trust: neither serve nor mirror starts with it alone"
        yield Flaw("warning", "", None, text, "set directory in [provider], or add a [[trust]] with keys")
    elif not settings.wanted() and all(root.chain is not None for root in settings.roots):
        text = "no channel is named: `p2pboot mirror` would not know what to follow"
        remedy = "set channels in [[trust]], or channel in [provider]"
        yield Flaw("warning", TRUST, _line((TRUST, 1), lines), text, remedy)


def _port_of(http: str | None) -> int | None:
    """The port of `HOST:PORT`; None where there is none, or the service manager opens it."""
    if http is None or is_passed(http):
        return None
    return int(http.rpartition(":")[2])


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def refuse(checked: list[Checked]) -> None:
    """Raise ConfigError when a file has errors: one line for people, everything in its details."""
    wrong = [one for one in checked if not one.ok]
    if not wrong:
        return
    errors = [flaw for one in wrong for flaw in one.flaws if flaw.severity == "error"]
    where = ", ".join(str(one.path) for one in wrong)
    raise ConfigError(
        f"{where}: {counted(len(errors), 'error')}",
        remedy="a node does not start with it; what is wrong is said above",
        details={"files": [one.to_json() for one in checked]},
    )
