"""A status document (docs/status.md) as lines for people: problems first, then releases, then one line for each peer.

Every line begins with a word that says what it is about, so that `grep` finds it. On a terminal lines are broken to its
width, and the words have colours; elsewhere each is one line. Names and reasons come from files and peers: nothing in
them reaches the terminal that it would obey.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TextIO

import click

from p2pboot.cli.output import one_line
from p2pboot.core.amounts import counted, duration_text, rate_text, size_text
from p2pboot.core.dataclass import dataclass
from p2pboot.core.timestamps import parse_time
from p2pboot.node.overview import CLASS_WORDS, PATH_WORDS, Condition, is_offered, overview

_LABEL: Final = 11  # columns of the word that a line begins with, and the space behind it
_NARROW: Final = 60  # columns; below these, what goes on is moved in by two, and columns are not kept
_BAR: Final = 20
_SOURCES: Final = 3  # of one artifact's bytes
_CLIENTS: Final = 8
_PEER: Final = 28  # columns of a peer's name and id, at most
_SHORT_ID: Final = 8  # of a peer id the last characters: the first are the same for all
_KEY_DIGITS: Final = 64  # of a key id, behind its algorithm

_COLOURS: Final = {"error": "red", "warning": "yellow", "info": "cyan", "withheld": "yellow", "ALARM": "red"}
_CONDITIONS: Final = {
    Condition.WORKING: "green",
    Condition.IN_PART: "yellow",
    Condition.NOT_READY: "yellow",
    Condition.NOT_WORKING: "red",
}

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One line.

    Args:
        label: the word that it begins with; "" for the first line of all.
        text: the rest.
        colour: of the label, or of the whole line where there is none; None: as all else.
    """

    label: str
    text: str
    colour: str | None = None


def print_status(document: Document) -> None:
    """Write it to standard output, as fits what that is."""
    columns = terminal_columns(sys.stdout)
    for line in lines_of(rows_of(document), columns, coloured=has_colours(sys.stdout)):
        print(line)


def terminal_columns(stream: TextIO) -> int | None:
    """How wide the terminal is to which a stream leads; None where it leads to none."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def has_colours(stream: TextIO) -> bool:
    """Whether colours are seen and wanted there: see no-color.org."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def lines_of(rows: Iterable[Row], columns: int | None, *, coloured: bool) -> list[str]:
    """The rows as they are written.

    Args:
        rows: what is said.
        columns: of the terminal; None: each row is one line.
        coloured: whether the labels have their colours.
    """
    lines = []
    for row in rows:
        label, text = one_line(row.label), one_line(row.text)
        first, *more = _broken(label, text, columns)
        if coloured and row.colour is not None:
            if label:
                first = click.style(label, fg=row.colour, bold=True) + first.removeprefix(label)
            else:
                first, more = click.style(first, fg=row.colour, bold=True), list(more)
        lines += [first, *more]
    return lines


def _broken(label: str, text: str, columns: int | None) -> list[str]:
    if columns is not None and columns < _NARROW:
        whole = " ".join(f"{label} {text}".split())
        return textwrap.wrap(whole, max(columns, 20), subsequent_indent="  ", break_on_hyphens=False)
    whole = f"{label:<{_LABEL}}{text}" if label else text
    if columns is None or len(whole) <= columns:
        return [whole]
    indent = " " * (_LABEL if label else 2)
    return textwrap.wrap(whole, columns, subsequent_indent=indent, break_on_hyphens=False)


def rows_of(document: Document) -> list[Row]:
    """All that is said of a node, the most important first."""
    summary = overview(document)
    return [
        Row("", summary.text, _CONDITIONS[summary.condition]),
        *_problems(document),
        *_releases(document),
        *_trust(document),
        *_fetching(document),
        *_peers(document),
        *_bytes(document),
        *_clients(document),
        *_store(document),
        *_node(document),
        *_leftovers(document),
    ]


# -- what is wrong


def _problems(document: Document) -> Iterator[Row]:
    now = parse_time(document["now"])
    for problem in document["problems"]:
        severity = problem["severity"]
        yield Row(severity, f"{problem['subject']}: {problem['text']}", _COLOURS.get(severity))
        if problem["remedy"]:
            yield Row("  remedy", problem["remedy"])
        since = duration_text(max(0, now - problem["since"]))
        yield Row("  see", f"{problem['link']} (p2pboot explain {problem['code']}); for {since}")


# -- releases


def _releases(document: Document) -> Iterator[Row]:
    for head in document["heads"]:
        if is_offered(head):  # else it is said below, as withheld
            yield Row(
                "offers",
                f"{_pair(head)} version {head['version']}, manifest version {head['manifest_version']}, signed by"
                f" {_signer(head)}, {duration_text(head['age_s'])} old, expires in"
                f" {duration_text(head['expires_in_s'])}",
            )
    for one in document["withheld"]:
        yield Row("withheld", f"{_pair(one)}: {one['text']}", _COLOURS["withheld"])


def _trust(document: Document) -> Iterator[Row]:
    """What roots and freshness statements say; a node of before them says nothing."""
    trust = document.get("trust")
    if trust is None:
        return
    for root in trust["roots"]:
        yield Row("root", _root(root))
    for one in trust["pairs"]:
        if one["statement"] is not None:
            yield Row("vouched", f"{_pair(one)} {_vouched(one['statement'])}")
        elif one["max_age_s"] is not None:
            yield Row("vouched", f"{_pair(one)}: nobody has shown a freshness statement")
        if one["yanks"]:
            yield Row(
                "yanked",
                f"{_pair(one)}, {one['yanks']} so far, last {one['yanked_at']}: {one['yank_reason']}",
            )
    for one in trust.get("rollouts", ()):
        if one["ended"] is None:
            yield Row("rollout", _rollout(one))
    if trust["evidence"]:
        text = f"{counted(trust['evidence'], 'pair')} of documents that can not both be honest: p2pboot evidence list"
        yield Row("ALARM", text, _COLOURS["ALARM"])


def _root(root: Document) -> str:
    if root["version"] is None:
        return f"sha256:{root['anchor']}: not known here yet; any node of the fleet has it"
    left_s = root["expires_in_s"]
    if left_s is None:
        ends = "never expires"
    elif left_s <= 0:
        ends = f"expired {duration_text(-left_s)} ago"
    else:
        ends = f"expires in {duration_text(left_s)}"
    if root["on_expiry"] == "refuse":
        ends += ", and nothing is taken then"
    return f"{root['name']}, version {root['version']}, {ends}"


def _rollout(one: Document) -> str:
    text = (
        f"into {one['into']}/{one['arch']} of version {one['version']}: {one['fraction']:.0%} of the machines, of"
        f" {one['percent']} % by {one['end']}"
    )
    return text if one["paused_since"] is None else f"{text}; paused since {one['paused_since']}"


def _vouched(statement: Document) -> str:
    age_s = statement["age_s"]
    when = f"at {statement['created_at']}" if age_s is None else f"{duration_text(age_s)} ago"
    text = f"manifest version {statement['head']} {when}, nothing below {statement['minimum']}"
    paused = statement["paused_since"]
    return text if paused is None else f"{text}; paused since {paused}"


def _pair(one: Document) -> str:
    return f"{one['channel']}/{one['arch']}"


def _signer(head: Document) -> str:
    """What the operator calls it; of a key id the beginning: a line that nobody reads on is no use."""
    publisher = head["publisher"]
    if publisher is None:
        return "nobody who is trusted"
    algorithm, _, key = publisher.partition(":")
    return f"{publisher[: len(algorithm) + 1 + _SHORT_ID]}…" if len(key) == _KEY_DIGITS else str(publisher)


def _fetching(document: Document) -> Iterator[Row]:
    for one in document["fetching"]:
        yield Row(
            "fetching",
            f"{_pair(one)} version {one['version']}, manifest version {one['manifest_version']}, signed by"
            f" {_signer(one)}: {_share(one['bytes_done'], one['bytes_total'])}",
        )
        width = max((len(artifact["name"]) for artifact in one["artifacts"]), default=0)
        for artifact in one["artifacts"]:
            yield Row(f"  {artifact['name']:<{width}}", _progress(artifact))


def _progress(artifact: Document) -> str:
    done, size = artifact["done"], artifact["size"]
    filled = _BAR if done >= size else _BAR * done // size
    parts = [f"[{'#' * filled}{'-' * (_BAR - filled)}] {_share(done, size)}"]
    if done >= size:
        return parts[0]
    if artifact["waiting_s"] is not None:
        parts.append(f"waiting for a peer, {duration_text(artifact['waiting_s'])}")
    elif artifact["rate"]:
        parts.append(rate_text(artifact["rate"]))
        if artifact["left_s"] is not None:
            parts.append(f"{duration_text(artifact['left_s'])} left")
        given = [
            f"{_peer_name(source)} {rate_text(source['rate'])}"
            for source in artifact["from"]
            if source["rate"]
        ]
        if given:
            parts.append(f"from {', '.join(given[:_SOURCES])}{', …' if len(given) > _SOURCES else ''}")
    return ", ".join(parts)


def _share(done: int, size: int) -> str:
    percent = 100 if done >= size else 100 * done // size
    return f"{percent} % of {size_text(size)}"


# -- peers


def _peers(document: Document) -> Iterator[Row]:
    peers: Sequence[Document] = document["peers"]
    named = [(one_line(_peer_name(peer)), peer) for peer in peers]  # so wide they are written
    width = max((len(name) for name, _ in named), default=0)
    for name, peer in named:
        rtt = "-" if peer["rtt_ms"] is None else f"{peer['rtt_ms']:.3g} ms"
        path = PATH_WORDS.get(peer["path"], peer["path"])
        holds = ", ".join(peer["holds"]) or "-"
        if peer["publisher"]:
            holds = f"{holds} (publisher)"
        if peer.get("behind"):
            holds = f"{holds} (behind)"
        yield Row(
            "peer",
            f"{name:<{width}}  {path:<9}  {rtt:>8}  in {rate_text(peer['rate_received']):>10}"
            f"  out {rate_text(peer['rate_sent']):>10}  {holds}",
        )
    more = document["peers_total"] - len(peers)
    if more > 0:
        yield Row("peer", f"… and {more} more")


def _peer_name(peer: Document) -> str:
    """What it calls itself, and the end of its id: names are chosen by their bearers."""
    short = f"…{peer['peer_id'][-_SHORT_ID:]}"
    return short if peer["name"] is None else f"{peer['name'][: _PEER - len(short) - 1]} {short}"


# -- bytes, clients, store


def _bytes(document: Document) -> Iterator[Row]:
    flows = document["flows"]
    if not flows["samples"]:
        return
    parts = [
        f"{way} {_shares({name: sum(flows[way][name]) for name in CLASS_WORDS})}"
        for way in ("received", "sent")
    ]
    yield Row("bytes", f"last {duration_text(flows['samples'] * flows['interval_s'])}: {'; '.join(parts)}")


def _shares(sizes: Mapping[str, int]) -> str:
    total = sum(sizes.values())
    if not total:
        return "nothing"
    shares = sorted(((size, name) for name, size in sizes.items() if size), reverse=True)
    return f"{size_text(total)} ({', '.join(f'{CLASS_WORDS[name]} {_percent(size, total)}' for size, name in shares)})"


def _percent(size: int, total: int) -> str:
    percent = round(100 * size / total)
    return f"{percent} %" if percent else "< 1 %"


def _clients(document: Document) -> Iterator[Row]:
    now, clients = parse_time(document["now"]), document["clients"]
    for client in clients[:_CLIENTS]:
        ago = duration_text(max(0, now - parse_time(client["last_at"])))
        took = f"{size_text(client['bytes'])}{', all it boots from' if client['done'] else ''}"
        yield Row(
            "client",
            f"{client['address']} ({client['via']}) {_pair(client)} version {client['version']}: {took}, {ago} ago",
        )
    if len(clients) > _CLIENTS:
        yield Row("client", f"… and {len(clients) - _CLIENTS} more")


def _store(document: Document) -> Iterator[Row]:
    store = document["store"]
    most = "no limit" if store["limit"] is None else f"at most {size_text(store['limit'])}"
    if store["quota"] == "auto":
        most += ", which leaves a tenth of the disk free"
    yield Row("store", f"{size_text(store['used'])} of fetched artifacts; {most}")
    scrub = document["scrub"]
    if scrub is not None:
        yield Row("scrub", _scrub(scrub, document["now"]))
    snapshots = document["snapshots"]
    if snapshots is not None:
        yield Row("snapshots", f"{snapshots['held']}, {size_text(snapshots['bytes'])}")


def _scrub(scrub: Document, now: str) -> str:
    """What reading everything over and over came to."""
    if scrub["running"]:
        said = f"reading what is held: {_share(scrub['read_bytes'], scrub['total_bytes'])}"
    elif scrub["last_finished_at"] is None:
        said = "nothing was read over yet"
    else:
        ago = duration_text(max(0, parse_time(now) - parse_time(scrub["last_finished_at"])))
        said = f"all that is held was read over, {ago} ago"
    if scrub["damaged"]:
        said += f"; {scrub['damaged']} damaged, {scrub['mended']} mended since the start"
    return said


# -- the node itself


def _node(document: Document) -> Iterator[Row]:
    up = duration_text(document["uptime_s"])
    yield Row("node", f"{document['name']}, {document['role']}, p2pboot {document['version']}, up {up}")
    yield Row("peer id", document["peer_id"])
    if document["admin"] is not None:
        yield Row("page", document["admin"])
    for url in document["http"]:
        yield Row("http", url)
    for address in document["addresses"]:
        yield Row("address", address)
    if document["mesh"]["private"]:
        fingerprint = document["mesh"]["swarm_key_fingerprint"]
        yield Row("mesh", f"private; its swarm key has the fingerprint {fingerprint}")
    dht = document["dht"]
    if dht is not None:
        refused = sum(dht["refused"].values())
        yield Row(
            "hash table",
            f"{dht['peers']} peers known; {dht['values']} values and {dht['providers']} provider records kept;"
            f" {sum(dht['requests'].values())} requests answered"
            + (f", {refused} refused" if refused else ""),
        )


def _leftovers(document: Document) -> Iterator[Row]:
    for one in document["ignored"]:
        yield Row("ignored", f"{_pair(one)}: {one['path']}: {one['why']}")
    for peer_id, why in document["dropped_peers"].items():
        yield Row("dropped", f"{peer_id}: {why}")
    if document["equivocations"]:
        text = f"{document['equivocations']} pairs of contradicting manifests from a trusted key are kept"
        yield Row("ALARM", text, _COLOURS["ALARM"])
