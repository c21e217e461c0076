"""Merging: the command line wins over the file, the file over the defaults; each value's source is kept."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from p2pboot.config.setting import Setting
from p2pboot.config.settings import SETTINGS, TABLES, NodeSettings, with_values
from p2pboot.config.trust import (
    KEY_ID_REMEDY,
    PUBLISHER,
    TRUST,
    freshness_of_options,
    max_lifetime_of_option,
    publisher,
    publisher_of_options,
    roots_of_options,
)
from p2pboot.core.dataclass import dataclass
from p2pboot.core.policy import Publisher, TrustedRoot, TrustPolicy
from p2pboot.core.textfiles import SAVE_AS_UTF8, OtherEncoding, decode_text
from p2pboot.core.tomlform import parse_toml
from p2pboot.core.trustdocs.chain import begin
from p2pboot.errors import ConfigError, UsageError, machine_error

MAX_FILE = 1 << 20  # bytes; a larger file is some other file
_TOML_REMEDY = "correct it; `p2pboot config show` prints an example of the form"
_OPTION_REMEDY = "correct it, or leave it out; `--help` says what it is for"
_FILE_REMEDY = "correct it in the file, or leave it out"


Trusted = Publisher | TrustedRoot
"""What one `[[trust]]` table stands for."""

Place = tuple[str | int, ...]
"""Where something stands in a file: ("network", "listen"), or ("trust", 2, "keys") in the second `[[trust]]`."""


class Provenance(enum.Enum):
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
        root: files or digests of `--root`; they stand in place of `trust`.
        threshold: of that publisher, None when not given.
        max_lifetime: of every publisher's manifests, as it was given; None when it was not.
        freshness: key ids of who says what is fresh of that publisher's.
        freshness_required: whether nothing is taken without such a statement.
        max_age: how old one may be, as it was given; None when it was not.
    """

    values: Mapping[str, object]
    trust: tuple[str, ...] = ()
    root: tuple[str, ...] = ()
    threshold: int | None = None
    max_lifetime: str | None = None
    freshness: tuple[str, ...] = ()
    freshness_required: bool = False
    max_age: str | None = None

    @property
    def says_freshness(self) -> bool:
        """Whether anything is said of freshness statements."""
        return bool(self.freshness) or self.freshness_required or self.max_age is not None


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and, by dotted key (and "trust"), the source of each."""

    settings: NodeSettings
    provenance: Mapping[str, Provenance]
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
    document = parse_file(config_path, read_text(config_path)) if config_path is not None else {}
    if config_path is not None:
        for _place, error in _unknown_keys(document, config_path):
            raise error
    provenance: dict[str, Provenance] = {}
    given: dict[str, object] = {}
    for dotted, setting in SETTINGS.items():
        stated = _stated(setting, document, config_path) if config_path is not None else []
        provenance[dotted] = Provenance.DEFAULT
        if dotted in overrides.values:
            provenance[dotted] = Provenance.COMMAND_LINE
            given[dotted] = _read(setting, overrides.values[dotted], Path(), setting.option, UsageError)
        elif stated:
            provenance[dotted] = Provenance.FILE
            given[dotted] = stated[0]
    trusted, provenance[TRUST] = _trusted(overrides, document, config_path)
    if overrides.max_lifetime is not None:
        lifetime_s = max_lifetime_of_option(overrides.max_lifetime)
        trusted = tuple(replace(one, max_lifetime_s=lifetime_s) for one in trusted)
    trust = tuple(one for one in trusted if isinstance(one, Publisher))
    roots = tuple(one for one in trusted if isinstance(one, TrustedRoot))
    settings = with_values(NodeSettings(trust=trust, roots=roots), given)
    listen_is_default = provenance["network.listen"] is Provenance.DEFAULT
    network = replace(settings.network, listen_is_default=listen_is_default)
    if network.swarm_key_path is not None and provenance["network.mdns"] is Provenance.DEFAULT:
        network = replace(network, mdns=False)
    return Loaded(replace(settings, network=network), provenance, config_path)


def _trusted(
    overrides: Overrides, document: Mapping[str, object], path: Path | None
) -> tuple[tuple[Trusted, ...], Provenance]:
    """Whom to trust, and who says so."""
    if overrides.root and overrides.trust:
        raise UsageError(
            "--root and --trust both say whom to trust",
            remedy="give --root alone: it names the publishers; several at once belong into the file's [[trust]]",
        )
    if overrides.says_freshness and not overrides.trust:
        raise UsageError(
            "--freshness, --freshness-required and --max-age belong to --trust, and no --trust was given",
            remedy="a root says itself who says what is fresh; in a file set freshness in [[trust]]",
        )
    if overrides.root:
        return _checked(roots_of_options(overrides.root)), Provenance.COMMAND_LINE
    if overrides.trust:
        rule = freshness_of_options(
            overrides.freshness, overrides.max_age, required=overrides.freshness_required
        )
        publisher = publisher_of_options(overrides.trust, overrides.threshold)
        return (replace(publisher, freshness=rule),), Provenance.COMMAND_LINE
    if overrides.threshold is not None:
        raise UsageError(
            "--threshold belongs to --trust, and no --trust was given",
            remedy="add --trust KEYID for each key of the publisher, or set threshold in [[trust]]",
        )
    tables = cast("list[Mapping[str, object]]", document.get(TRUST, []))
    return _trusted_of_file(tables, path), Provenance.FILE if tables else Provenance.DEFAULT


def _trusted_of_file(tables: list[Mapping[str, object]], path: Path | None) -> tuple[Trusted, ...]:
    trusted = tuple(_publisher_of(table, number, path) for number, table in enumerate(tables, start=1))
    try:
        return _checked(trusted)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", remedy=error.remedy) from None


def _checked(trusted: tuple[Trusted, ...]) -> tuple[Trusted, ...]:
    """See that no channel and arch has two publishers, as far as the roots' files say; with those in force."""
    at_hand = [
        replace(one, chain=begin(one.anchor)) if isinstance(one, TrustedRoot) else one for one in trusted
    ]
    TrustPolicy.of(
        (one for one in at_hand if isinstance(one, Publisher)),
        (one for one in at_hand if isinstance(one, TrustedRoot)),
    )
    return tuple(at_hand)


def _publisher_of(table: Mapping[str, object], number: int, path: Path | None) -> Trusted:
    where = f"{path}: [[trust]] number {number}"
    try:
        return publisher(table, Path() if path is None else path.parent)
    except ValueError as error:
        remedy = _FILE_REMEDY if "root" in table else KEY_ID_REMEDY
        raise ConfigError(f"{where}: {error}", remedy=remedy) from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", remedy=error.remedy) from None


def _stated(setting: Setting, document: Mapping[str, object], path: Path) -> list[object]:
    """What a file says of a setting: nothing, or its value under each of its names that are there."""
    table = cast("Mapping[str, object]", document.get(setting.table, {}))
    raw = [(setting.dotted, table[setting.name])] if setting.name in table else []
    if setting.top_level in document:
        raw.append((setting.top_level, document[setting.top_level]))
    found = [_read(setting, value, path.parent, f"{path}: {name}", ConfigError) for name, value in raw]
    if any(value != found[0] for value in found):
        raise ConfigError(
            f"{path}: {setting.dotted} is {found[0]} and {setting.top_level} is {found[1]},"
            " which are names of one setting",
            remedy="leave one of them out",
        )
    return found


def _read(setting: Setting, raw: object, base: Path, name: str, wrong: type[UsageError]) -> object:
    """One value; what is wrong with it is said of its name."""
    try:
        return setting.parse(raw, base)
    except UsageError as error:
        raise wrong(f"{name}: {error.message}", remedy=error.remedy) from None
    except ValueError as error:
        raise wrong(
            f"{name}: {error}", remedy=_FILE_REMEDY if wrong is ConfigError else _OPTION_REMEDY
        ) from None


def load_snapshot_paths(path: Path) -> tuple[Path | None, Path | None]:
    """Snapshot directory and key of a configuration file, ours or the source system's, whatever else is in it.

    Raises:
        ConfigError, MachineError: as `load`.
    """
    document = parse_file(path, read_text(path))
    if not isinstance(document.get("snapshots", {}), dict):
        raise ConfigError(f"{path}: snapshots must be a table", remedy=_TOML_REMEDY)
    found = (
        _stated(SETTINGS[dotted], document, path) for dotted in ("snapshots.directory", "snapshots.key_path")
    )
    directory, key_path = (cast("Path | None", next(iter(values), None)) for values in found)
    return directory, key_path


def read_text(path: Path) -> str:
    """The text of a configuration file; ConfigError and MachineError as `load`."""
    from p2pboot.store.inputs import open_named  # most commands need no file

    try:
        with open_named(path) as file:
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
        return decode_text(raw)
    except OtherEncoding as error:
        raise ConfigError(f"{path} {error}, so it is no TOML", remedy=SAVE_AS_UTF8) from None
    except ValueError as error:
        raise ConfigError(f"{path} {error}, so it is no TOML", remedy=_TOML_REMEDY) from None


def parse_file(path: Path, text: str) -> Mapping[str, object]:
    """What a configuration file says, whatever that is; ConfigError when it is no TOML."""
    try:
        return parse_toml(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", remedy=_TOML_REMEDY) from None


def complaints(document: Mapping[str, object], path: Path) -> Iterator[tuple[Place, ConfigError]]:
    """Everything in a file that `load` would refuse as soon as it came to it, with where it stands.

    Args:
        document: what the file says.
        path: of the file.

    Yields:
        A place and the error, whose message begins with the path. What several values together are wrong in is not
        among them: `load` says that once each is right.
    """
    yield from _unknown_keys(document, path)
    tables = {name: content for name, content in document.items() if isinstance(content, dict)}
    for setting in SETTINGS.values():
        named = {setting.top_level: document[setting.top_level]} if setting.top_level in document else {}
        if setting.name in tables.get(setting.table, {}):
            named[setting.table] = tables[setting.table]
        try:
            _stated(setting, named, path)
        except ConfigError as error:
            yield _place_of(setting, document), error
    trust = document.get(TRUST)
    if isinstance(trust, list):
        for number, table in enumerate(trust, start=1):
            if isinstance(table, dict):
                yield from _complaints_of_publisher(table, number, path)


def _complaints_of_publisher(
    table: Mapping[str, object], number: int, path: Path
) -> Iterator[tuple[Place, ConfigError]]:
    wrong = False
    for name in (name for name in PUBLISHER if name in table):
        try:
            PUBLISHER[name].parse(table[name], path.parent)
        except ValueError as error:
            wrong = True
            where = f"{path}: [[trust]] number {number}"
            remedy = KEY_ID_REMEDY if name == "keys" else _FILE_REMEDY
            yield (TRUST, number, name), ConfigError(f"{where}: {name}: {error}", remedy=remedy)
    if not wrong:
        try:
            _publisher_of(table, number, path)
        except ConfigError as error:
            yield (TRUST, number), error


def _place_of(setting: Setting, document: Mapping[str, object]) -> Place:
    table = document.get(setting.table)
    is_in_table = isinstance(table, dict) and setting.name in table
    return (setting.table, setting.name) if is_in_table else (setting.top_level,)


def _unknown_keys(document: Mapping[str, object], path: Path) -> Iterator[tuple[Place, ConfigError]]:
    """A misspelt key that is silently ignored would leave a limit or a trust rule out of force."""
    known = {table: [one.name for one in SETTINGS.values() if one.table == table] for table in TABLES}
    top_level = [one.top_level for one in SETTINGS.values() if one.top_level]
    for name, content in document.items():
        if name in top_level:
            continue  # its parser knows what it must be
        if name == TRUST:
            yield from _unknown_trust(content, path)
        elif name not in known:
            yield (name,), _unknown(path, name, name, [*known, TRUST, *top_level, *SETTINGS])
        elif not isinstance(content, dict):
            remedy = f"write [{name}], and its keys below"
            yield (name,), ConfigError(f"{path}: {name} must be a table", remedy=remedy)
        else:
            for member in content:
                if member not in known[name]:
                    yield (name, member), _unknown(path, f"{name}.{member}", member, known[name])


def _unknown_trust(content: object, path: Path) -> Iterator[tuple[Place, ConfigError]]:
    if not isinstance(content, list) or not all(isinstance(table, dict) for table in content):
        remedy = "write [[trust]] before each publisher"
        yield (TRUST,), ConfigError(f"{path}: trust must be an array of tables", remedy=remedy)
        return
    for number, table in enumerate(content, start=1):
        for member in table:
            if member not in PUBLISHER:
                yield (TRUST, number, member), _unknown(path, f"trust.{member}", member, PUBLISHER)


def _unknown(path: Path, shown: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for an unknown key, with the nearest one of its table or its namesake elsewhere."""
    known = list(known)
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    elsewhere = [dotted for dotted, one in SETTINGS.items() if one.name == name]
    suggestion = near[0] if near else (elsewhere[0] if elsewhere else None)
    remedy = f"did you mean {suggestion}?" if suggestion else f"known here: {', '.join(known)}"
    return ConfigError(f"{path}: unknown key {shown}", remedy=remedy)
