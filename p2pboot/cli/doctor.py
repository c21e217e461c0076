"""`p2pboot doctor`: why nothing is found, step by step, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from p2pboot.cli.clock import wall_clock
from p2pboot.cli.network import Client, begin, client_key, dht_options, mesh_key
from p2pboot.cli.options import (
    FILE,
    Command,
    Seconds,
    config_option,
    json_option,
    max_lifetime_option,
    trust_options,
    verbosity_options,
)
from p2pboot.cli.output import counted, emit_json, note, say
from p2pboot.cli.progress import PlainProgress
from p2pboot.cli.settings import overrides_of, setting_options, take_pair
from p2pboot.cli.sharing import Sharing
from p2pboot.doctor.limits import LONGEST_S, USUAL_S
from p2pboot.errors import MachineError, UsageError

if TYPE_CHECKING:
    from p2pboot.cli.network import Hints
    from p2pboot.config.settings import NodeSettings
    from p2pboot.doctor.findings import Finding
    from p2pboot.transport.interface import Transport

_TRUSTING: Final = (
    *("root", "trust", "threshold", "freshness", "freshness_required", "max_age"),
    "max_lifetime",
)
_ON_TOP_S: Final = 10.0  # for a node to begin and to answer

Examined = tuple[list["Finding"], dict[str, Any]]


class _Limit(Seconds):
    """Seconds that an examination may take."""

    def __init__(self) -> None:
        super().__init__(open_at_least=True)
        self.max = LONGEST_S


@click.command(cls=Command)
@click.argument("provider_directory", metavar="[DIR]", required=False)
@click.option(
    "--node",
    "by_node",
    is_flag=True,
    help="Have the node that runs with this state directory look itself, with its own settings.",
)
@setting_options("provider.channel", "provider.arch")
@trust_options
@max_lifetime_option
@setting_options("network.bootstrap", "network.mdns", "network.swarm_key", "network.listen", "gateway.http")
@dht_options
@setting_options("store.state", "store.quota")
@click.option(
    "--timeout",
    type=_Limit(),
    default=USUAL_S,
    show_default=True,
    metavar="S",
    help="Seconds for all checks together, at most 120. What is not checked by then is skipped.",
)
@click.option("--key", "client_key_path", type=FILE, metavar="PATH", help="Identity.  [default: a new one]")
@config_option
@json_option
@verbosity_options
def doctor(
    *,
    by_node: bool,
    timeout: float,
    client_key_path: Path | None,
    config_path: Path | None,
    as_json: bool,
    **params: Any,
) -> None:
    """Look step by step why nothing is found, and say what to do.

    Addresses, ports, multicast, bootstrap peers and the address book, who is found in the end, firewall, trust, clock,
    state directory, disk, and inotify for the artifacts directory DIR. Takes options as serve, mirror and fetch have
    them, and changes nothing. Usually it takes ten seconds; it ends within --timeout, or ten seconds later where a
    node that is to look (--node) hangs. The exit status is 0 where nothing failed, else that of the first check that
    did: 4 this machine, 3 nobody or nothing found, 1 refused.
    """
    from p2pboot.doctor.findings import raise_if_unwell

    channel, arch = take_pair(params)
    settings = begin(params, config_path)
    show = _note if as_json else _show
    if by_node:
        _check_alone(params, client_key_path)
        findings, report = _ask_node(settings, channel, arch, timeout)
        for finding in findings:
            show(finding)
    else:
        findings, report = _examine(
            settings, channel, arch, timeout_s=timeout, key_path=client_key_path, show=show
        )
    raise_if_unwell(report, findings)
    if as_json:
        emit_json(report)
    else:
        counts = report["counts"]
        warnings = counted(counts["warning"], "warning")
        say(f"nothing failed: {counts['ok']} ok, {warnings}, {counts['skipped']} skipped")


def _check_alone(params: dict[str, Any], key_path: Path | None) -> None:
    """Refuse what is said to a node that goes by its own settings."""
    given = sorted(overrides_of({**params, "store_state": None}).values)
    trusting = any(params.get(name) for name in _TRUSTING)
    if given or trusting or key_path is not None:
        raise UsageError(
            "with --node the node goes by its own settings"
            + (f", not by {', '.join(given)}" if given else ""),
            remedy="leave out all but --state, --config, --channel, --arch, --timeout and --json",
        )


def _ask_node(settings: NodeSettings, channel: str | None, arch: str | None, timeout_s: float) -> Examined:
    from p2pboot.doctor.findings import findings_of
    from p2pboot.node.control import request

    message = {"op": "doctor", "timeout": timeout_s, "channel": channel, "arch": arch}
    report = request(settings.store.state, message, timeout_s + _ON_TOP_S)["report"]
    try:
        return findings_of(report), report
    except (KeyError, ValueError, TypeError) as error:
        raise MachineError(
            f"the node's report can not be read: {error}", remedy="run p2pboot in the node's version"
        ) from None


def _examine(
    settings: NodeSettings,
    channel: str | None,
    arch: str | None,
    *,
    timeout_s: float,
    key_path: Path | None,
    show: Callable[[Finding], None],
) -> Examined:
    from p2pboot.node.control import running

    network, state = settings.network, settings.store.known
    client = Client(
        client_key(key_path),
        mdns=False,  # what can not work is for the checks to say, each at its turn
        rates=network.rates,
        sharing=Sharing("no"),
        swarm_key=None if network.swarm_key_path is None else mesh_key(network.swarm_key_path),
        dht=network.dht != "off",
        dht_public=network.dht_public,
    )
    pid, wall = None if state is None else running(state), wall_clock()

    async def job(transport: Transport, _hints: Hints, _progress: PlainProgress) -> Examined:
        from p2pboot.doctor.examination import examine
        from p2pboot.doctor.patient import Patient
        from p2pboot.transport.interfaces import Interfaces

        patient = Patient(
            settings=settings,
            transport=transport,
            interfaces=Interfaces(),
            wall=wall,
            channel=channel,
            arch=arch,
            running=pid,
            wider=partial(client.wider, transport, channel, arch),
        )
        return await examine(patient, timeout_s, show)

    done: list[Examined] = []
    client.run(job, PlainProgress("checking", "checked"), done.append)
    return done[0]


def _show(finding: Finding) -> None:
    say(f"{_line(finding)}  [{finding.code}]")
    if finding.remedy is not None and finding.state != "ok":
        say(f"{'':<22} → {finding.remedy}")
    sys.stdout.flush()  # whoever watches sees each check end


def _note(finding: Finding) -> None:
    """With a document at the end, who sits at a terminal is told meanwhile."""
    if sys.stderr.isatty():
        note(_line(finding))


def _line(finding: Finding) -> str:
    about = "" if finding.subject.replace(" ", "-") == finding.check else f"{finding.subject}: "
    return f"{finding.state:<8} {finding.check:<13} {about}{finding.text}"
