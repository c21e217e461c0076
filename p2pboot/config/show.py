"""The settings in force as text: a TOML file that brings about the same settings, with the source of each."""

from __future__ import annotations

import json
from pathlib import Path

from p2pboot.config.load import Loaded, Provenance
from p2pboot.config.setting import Setting
from p2pboot.config.settings import SETTINGS
from p2pboot.config.trust import PUBLISHER, TRUST, attribute_of
from p2pboot.config.values import UNLIMITED
from p2pboot.core.policy import Publisher


def as_toml(loaded: Loaded) -> str:
    """Every key with its value and, as a comment, where the value came from. Paths are absolute."""
    rows: list[tuple[str, str]] = []  # (line, source)
    table = ""
    for key in SETTINGS.values():
        if key.table != table:
            table = key.table
            rows += [("", ""), (f"[{table}]", "")]
        rows.append((_assignment(key, loaded), _source(loaded, key.dotted)))
    rows += _trust_rows(loaded)
    width = min(max(len(line) for line, source in rows if source), 60)
    lines = (f"{line:<{width}}  # {source}" if source else line for line, source in rows)
    return "\n".join(lines).strip() + "\n"


def as_document(loaded: Loaded) -> dict[str, object]:
    """For `--json`: table → key → {"value", "source"}; trust is one value."""
    document: dict[str, object] = {"config_file": _absolute(loaded.file) if loaded.file else None}
    for key in SETTINGS.values():
        entry = {"value": _plain(key.of(loaded.settings)), "source": loaded.provenance[key.dotted].value}
        table = document.setdefault(key.table, {})
        assert isinstance(table, dict)  # noqa: S101 - made on the line above
        table[key.name] = entry
    publishers = [_publisher(publisher) for publisher in loaded.settings.trust]
    document[TRUST] = {"value": publishers, "source": loaded.provenance[TRUST].value}
    return document


def _assignment(key: Setting, loaded: Loaded) -> str:
    value = _plain(key.of(loaded.settings))
    if value is None and key.default not in (None, UNLIMITED):
        value = UNLIMITED  # against the default
    return f"# {key.name} is not set" if value is None else f"{key.name} = {toml(value)}"


def _source(loaded: Loaded, dotted: str) -> str:
    source = loaded.provenance[dotted]
    return f"file {loaded.file}" if source is Provenance.FILE else source.value


def _trust_rows(loaded: Loaded) -> list[tuple[str, str]]:
    if not loaded.settings.trust:
        return [("", ""), ("# no [[trust]]: nobody is trusted", _source(loaded, TRUST))]
    rows: list[tuple[str, str]] = []
    for publisher in loaded.settings.trust:
        rows += [("", ""), ("[[trust]]", _source(loaded, TRUST))]
        rows += [
            (f"{name} = {toml(value)}", "")
            for name, value in _publisher(publisher).items()
            if value is not None
        ]
    return rows


def _publisher(publisher: Publisher) -> dict[str, object]:
    return {name: _plain(getattr(publisher, attribute_of(name))) for name in PUBLISHER}


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return _absolute(value)
    return list(value) if isinstance(value, tuple) else value


def _absolute(path: Path) -> str:
    try:
        return str(path.absolute())
    except OSError:  # the current directory was removed
        return str(path)


def toml(value: object) -> str:
    """A value as TOML. JSON's strings are TOML's basic strings, except that DEL must be escaped there."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
