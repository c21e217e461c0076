"""Merging: the command line wins over the file, the file over the defaults; each value's source is kept."""

from __future__ import annotations

import difflib
import enum
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from p2pboot.config import keys as k
from p2pboot.config import trust as trust_tables
from p2pboot.config.settings import (
    GatewaySettings,
    IdentitySettings,
    NetworkSettings,
    NodeSettings,
    ProviderSettings,
    SnapshotSettings,
    StoreSettings,
)
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.textfiles import SAVE_AS_UTF8, OtherEncoding, decode_text
from p2pboot.errors import ConfigError, UsageError, machine_error

T = TypeVar("T")
MAX_FILE = 1 << 20  # bytes; a larger file is some other file
TRUST = "trust"
_KEY_ID_REMEDY = "`p2pboot key show` on the publisher's machine prints its key id"
_TOML_REMEDY = "correct it; `p2pboot config show` prints an example of the form"
_OPTION_REMEDY = "correct it, or leave it out; `--help` says what it is for"
_FILE_REMEDY = "correct it in the file, or leave it out"


class Source(enum.Enum):
    """Where a value in force came from."""

    DEFAULT = "default"
    FILE = "file"
    COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line said; raw, read by the same parsers as the file.

    Args:
        values: dotted key ("network.listen") to raw value, only of options that were given.
        trust: key ids of `--trust`, all keys of one publisher; they replace the file's `[[trust]]` wholly.
        threshold: of that publisher, None when not given.
    """

    values: Mapping[str, object]
    trust: tuple[str, ...] = ()
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and, by dotted key (and "trust"), the source of each."""

    settings: NodeSettings
    sources: Mapping[str, Source]
    file: Path | None


NO_OVERRIDES = Overrides({})


def load_settings(overrides: Overrides, config_path: Path | None) -> NodeSettings:
    """The settings in force; see `load`. A node calls this again on SIGHUP with the same arguments."""
    return load(overrides, config_path).settings


def load(overrides: Overrides = NO_OVERRIDES, config_path: Path | None = None) -> Loaded:
    """Merge command line, file and defaults.

    Raises:
        ConfigError: the file is missing, no TOML, has an unknown key or a wrong value; or the trust
            contradicts itself. The message names file and key.
        UsageError: a value of the command line is wrong. The message names the option.
        MachineError: the file can not be read.
    """
    document = _read_file(config_path) if config_path is not None else {}
    if config_path is not None:
        _refuse_unknown(document, config_path)
    merged = _Merged(document, config_path, overrides)
    settings = _build(merged)
    return Loaded(settings, merged.sources, config_path)


class _Merged:
    """The raw values of both sources; `get` reads one key and remembers where it came from."""

    def __init__(self, document: Mapping[str, object], path: Path | None, overrides: Overrides) -> None:
        self._document = document
        self._path = path
        self._overrides = overrides
        self.sources: dict[str, Source] = {}

    def get(self, key: k.Key[T]) -> T:
        stated = [] if self._path is None else _stated(key, self._document, self._path)
        if key.dotted in self._overrides.values:
            self.sources[key.dotted] = Source.COMMAND_LINE
            return _from_command_line(key, self._overrides.values[key.dotted])
        if stated:
            self.sources[key.dotted] = Source.FILE
            return stated[0]
        self.sources[key.dotted] = Source.DEFAULT
        return key.default()

    def publishers(self) -> tuple[Publisher, ...]:
        tables = cast("list[Mapping[str, object]]", self._document.get(TRUST, []))
        if self._overrides.trust:
            self.sources[TRUST] = Source.COMMAND_LINE
            return (publisher_of_options(self._overrides.trust, self._overrides.threshold),)
        if self._overrides.threshold is not None:
            raise UsageError(
                "--threshold belongs to --trust, and no --trust was given",
                remedy="add --trust KEYID for each key of the publisher, or set threshold in [[trust]]",
            )
        self.sources[TRUST] = Source.FILE if tables else Source.DEFAULT
        return _publishers_of_file(tables, self._path)


def publisher_of_options(key_ids: Iterable[str], threshold: int | None) -> Publisher:
    """The one publisher that `--trust` and `--threshold` describe; UsageError when they do not."""
    try:
        keys = trust_tables.key_ids(tuple(key_ids))
    except ValueError as error:
        raise UsageError(f"--trust: {error}", remedy=_KEY_ID_REMEDY) from None
    try:
        return Publisher(keys, 1 if threshold is None else threshold)
    except ConfigError as error:
        raise UsageError(f"--threshold: {error.message}", remedy=error.remedy) from None


def _publishers_of_file(tables: list[Mapping[str, object]], path: Path | None) -> tuple[Publisher, ...]:
    publishers = []
    for number, table in enumerate(tables, start=1):
        try:
            publishers.append(trust_tables.publisher(table))
        except ValueError as error:
            message = f"{path}: [[trust]] number {number}: {error}"
            raise ConfigError(message, remedy=_KEY_ID_REMEDY) from None
        except ConfigError as error:
            message = f"{path}: [[trust]] number {number}: {error.message}"
            raise ConfigError(message, remedy=error.remedy) from None
    try:
        TrustPolicy(tuple(publishers))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", remedy=error.remedy) from None
    return tuple(publishers)


def option_value(key: k.Key[T], raw: object) -> T | None:
    """The value of an option that a command reads for itself; None when it was not given.

    Raises:
        UsageError: it is wrong; the message names the option.
    """
    return None if raw is None else _from_command_line(key, raw)


def _from_command_line(key: k.Key[T], raw: object) -> T:
    try:
        return key.parse(raw, Path())
    except UsageError as error:
        raise UsageError(f"{key.flag}: {error.message}", remedy=error.remedy) from None
    except ValueError as error:
        raise UsageError(f"{key.flag}: {error}", remedy=_OPTION_REMEDY) from None


def _stated(key: k.Key[T], document: Mapping[str, object], path: Path) -> list[T]:
    """What a file says of a key: nothing, or one value, under whichever of its names."""
    table = cast("Mapping[str, object]", document.get(key.table, {}))
    found = [_from_file(key, key.dotted, table[key.name], path)] if key.name in table else []
    if key.top_level and key.top_level in document:
        found.append(_from_file(key, key.top_level, document[key.top_level], path))
    if any(value != found[0] for value in found):
        raise ConfigError(
            f"{path}: {key.dotted} is {found[0]} and {key.top_level} is {found[1]}, which are names of one setting",
            remedy="leave one of them out",
        )
    return found


def _from_file(key: k.Key[T], name: str, raw: object, path: Path) -> T:
    try:
        return key.parse(raw, path.parent)
    except UsageError as error:
        raise ConfigError(f"{path}: {name}: {error.message}", remedy=error.remedy) from None
    except ValueError as error:
        raise ConfigError(f"{path}: {name}: {error}", remedy=_FILE_REMEDY) from None


def _build(merged: _Merged) -> NodeSettings:
    listen = merged.get(k.LISTEN)
    return NodeSettings(
        identity=IdentitySettings(merged.get(k.KEY_PATH), merged.get(k.SIGNING_KEY_PATH)),
        provider=ProviderSettings(
            name=merged.get(k.NAME),
            channel=merged.get(k.CHANNEL),
            arch=merged.get(k.ARCH),
            version=merged.get(k.VERSION),
            cmdline=merged.get(k.CMDLINE),
            expires_in_s=merged.get(k.EXPIRES_IN),
            directory=merged.get(k.DIRECTORY),
        ),
        network=NetworkSettings(
            listen=listen,
            listen_is_default=merged.sources[k.LISTEN.dotted] is Source.DEFAULT,
            bootstrap=merged.get(k.BOOTSTRAP),
            mdns=merged.get(k.MDNS),
            gossip=merged.get(k.GOSSIP),
            sync=merged.get(k.SYNC),
            max_upload=merged.get(k.MAX_UPLOAD),
            announce_interval_s=merged.get(k.ANNOUNCE_INTERVAL),
            sync_interval_s=merged.get(k.SYNC_INTERVAL),
        ),
        gateway=GatewaySettings(
            merged.get(k.HTTP), merged.get(k.ADVERTISE_HTTP), merged.get(k.TRUSTED_PROXIES)
        ),
        trust=merged.publishers(),
        snapshots=_snapshots(merged),
        store=StoreSettings(merged.get(k.STATE), merged.get(k.QUOTA), merged.get(k.MAX_ARTIFACT)),
    )


def _snapshots(merged: _Merged) -> SnapshotSettings:
    trust, threshold = merged.get(k.SNAPSHOT_TRUST), merged.get(k.SNAPSHOT_THRESHOLD)
    if trust and not 1 <= threshold <= len(trust):
        raise ConfigError(
            f"snapshots: {threshold} signatures can not come from {len(trust)} keys",
            remedy=f"set its threshold from 1 to {len(trust)}, or name more keys",
        )
    return SnapshotSettings(
        merged.get(k.SNAPSHOT_DIRECTORY),
        trust,
        threshold,
        merged.get(k.REQUIRE_SIGNATURES),
        merged.get(k.SNAPSHOT_KEY_PATH),
    )


def load_snapshot_paths(path: Path) -> tuple[Path | None, Path | None]:
    """Snapshot directory and key of a configuration file, ours or the source system's, whatever else is in it.

    Raises:
        ConfigError, MachineError: as `load`.
    """
    document = _read_file(path)
    if not isinstance(document.get(k.SNAPSHOT_KEY_PATH.table, {}), dict):
        raise ConfigError(f"{path}: {k.SNAPSHOT_KEY_PATH.table} must be a table", remedy=_TOML_REMEDY)
    directory, key_path = (
        _stated(k.SNAPSHOT_DIRECTORY, document, path),
        _stated(k.SNAPSHOT_KEY_PATH, document, path),
    )
    return next(iter(directory), None), next(iter(key_path), None)


def _read_file(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file {path}", remedy="check the path after --config"
        ) from None
    except IsADirectoryError:
        raise ConfigError(
            f"{path} is a directory, not a configuration file", remedy="check the path after --config"
        ) from None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    if len(raw) > MAX_FILE:
        raise ConfigError(
            f"{path} is larger than 1 MiB: it is no configuration file",
            remedy="check the path after --config",
        )
    try:
        return tomllib.loads(decode_text(raw))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", remedy=_TOML_REMEDY) from None
    except OtherEncoding as error:
        raise ConfigError(f"{path} {error}, so it is no TOML", remedy=SAVE_AS_UTF8) from None
    except ValueError as error:
        raise ConfigError(f"{path} {error}, so it is no TOML", remedy=_TOML_REMEDY) from None
    except RecursionError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", remedy=_TOML_REMEDY) from None


def _refuse_unknown(document: Mapping[str, object], path: Path) -> None:
    """A misspelt key that is silently ignored would leave a limit or a trust rule out of force."""
    known: dict[str, tuple[str, ...]] = {}
    for key in k.KEYS:
        known[key.table] = (*known.get(key.table, ()), key.name)
    top_level = {key.top_level for key in k.KEYS if key.top_level}
    for name, content in document.items():
        if name in top_level:
            continue  # its parser knows what it must be
        if name == TRUST:
            _refuse_unknown_trust(content, path)
        elif name not in known:
            raise _unknown(path, name, name, [*known, TRUST, *top_level, *(key.dotted for key in k.KEYS)])
        elif not isinstance(content, dict):
            raise ConfigError(f"{path}: {name} must be a table", remedy=f"write [{name}], and its keys below")
        else:
            for member in content:
                if member not in known[name]:
                    raise _unknown(path, f"{name}.{member}", member, known[name])


def _refuse_unknown_trust(content: object, path: Path) -> None:
    if not isinstance(content, list) or not all(isinstance(table, dict) for table in content):
        raise ConfigError(
            f"{path}: trust must be an array of tables", remedy="write [[trust]] before each publisher"
        )
    for table in content:
        for member in table:
            if member not in k.TRUST_KEYS:
                raise _unknown(path, f"trust.{member}", member, k.TRUST_KEYS)


def _unknown(path: Path, shown: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for an unknown key, with the nearest one of its table or its namesake elsewhere."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    elsewhere = [key.dotted for key in k.KEYS if key.name == name]
    suggestion = near[0] if near else (elsewhere[0] if elsewhere else None)
    remedy = f"did you mean {suggestion}?" if suggestion else f"known here: {', '.join(known)}"
    return ConfigError(f"{path}: unknown key {shown}", remedy=remedy)
