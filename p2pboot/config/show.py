"""The settings in force as text: a TOML file that brings about the same settings, with the source of each."""

from __future__ import annotations

import json
from pathlib import Path

from p2pboot.config.load import Loaded, Provenance
from p2pboot.config.setting import Setting
from p2pboot.config.settings import SETTINGS
from p2pboot.config.trust import OF_ROOT, PUBLISHER, TRUST, attribute_of
from p2pboot.config.values import UNLIMITED
from p2pboot.core.policy import Publisher, TrustedRoot


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
    publishers = [_table(one) for one in _trusted(loaded)]
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
    if loaded.settings.trusts_nobody:
        return [("", ""), ("# no [[trust]]: nobody is trusted", _source(loaded, TRUST))]
    rows: list[tuple[str, str]] = []
    for trusted in _trusted(loaded):
        rows += [("", ""), ("[[trust]]", _source(loaded, TRUST))]
        rows += [
            (f"{name} = {toml(value)}", "") for name, value in _table(trusted).items() if value is not None
        ]
    return rows


def _trusted(loaded: Loaded) -> list[Publisher | TrustedRoot]:
    return [*loaded.settings.trust, *loaded.settings.roots]


def _table(trusted: Publisher | TrustedRoot) -> dict[str, object]:
    """What a `[[trust]]` table would say of it."""
    table = {name: _plain(getattr(trusted, attribute_of(name), None)) for name in PUBLISHER}
    if isinstance(trusted, TrustedRoot):
        path = trusted.anchor.path
        return {
            **dict.fromkeys(PUBLISHER),
            **{name: table[name] for name in OF_ROOT},
            "root": trusted.anchor.shown if path is None else _absolute(Path(path)),
        }
    rule = trusted.freshness
    said = (None, None, None) if rule is None else (list(rule.keys), rule.required, f"{rule.max_age_s}s")
    return {**table, **dict(zip(("freshness", "freshness_required", "max_age"), said, strict=True))}


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
