"""`p2pboot serve` and `p2pboot mirror`: run a node until a signal ends it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli import logs, output
from p2pboot.cli.clock import wall_clock
from p2pboot.cli.main import collect_garbage
from p2pboot.cli.options import Command, config_option, max_lifetime_option, trust_options, verbosity_options
from p2pboot.cli.progress import bars_on_terminal
from p2pboot.cli.settings import node_options, overrides_of, setting_options
from p2pboot.config.values import OFF
from p2pboot.core.events import Event
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.config.settings import NodeSettings
    from p2pboot.gateway.service import GatewayService
    from p2pboot.node.run import Service

log = logging.getLogger(__name__)


@click.command(cls=Command)
@node_options
def serve(config_path: Path | None, **params: Any) -> None:
    """Publish the artifacts directory DIR: sign, announce and serve it, and watch it for changes.

    DIR holds <channel>/<arch>/<file>, or, with --channel and --arch, the files themselves. The first line on
    standard output is the address under which other nodes reach this one; another line follows when that
    changes. With --trust it also mirrors that
    publisher. With --snapshots it serves a snapshot store beside the artifacts, or alone when there is no DIR.
    """
    overrides = overrides_of(params)

    def load() -> NodeSettings:
        from p2pboot.config.load import load_settings

        settings = load_settings(overrides, config_path)
        if settings.provider.directory is None and settings.snapshots.directory is None:
            raise UsageError(
                "no artifacts directory was given",
                remedy="use `p2pboot serve DIR`, or directory in [provider]",
            )
        return settings

    _run(load, form=params["log_format"])


@click.command(cls=Command)
@setting_options(
    "provider.channel", "provider.arch", "identity.key_path", "network", "gateway", "store", "log"
)
@trust_options
@max_lifetime_option
@config_option
@verbosity_options
def mirror(config_path: Path | None, **params: Any) -> None:
    """Follow a trusted publisher, keep what it publishes and serve it on.

    Without --channel and --arch it follows all that the configuration file's [[trust]] tables name.
    """
    overrides = overrides_of(params)

    def load() -> NodeSettings:
        from p2pboot.config.load import load_settings
        from p2pboot.config.settings import for_mirror

        return for_mirror(
            load_settings(overrides, config_path),
            channel=params["provider_channel"],
            arch=params["provider_arch"],
        )

    _run(load, form=params["log_format"])


def _run(load: Callable[[], NodeSettings], *, form: str | None) -> None:
    """Check the settings before the slow imports, then run the node with them.

    Args:
        load: reads the settings; called again on SIGHUP.
        form: of the log, as the command line has it: the settings may be what is wrong.
    """
    meta = click.get_current_context().meta
    configure = partial(
        logs.configure, verbose=logs.VERBOSE in meta, quiet=output.QUIET in meta, usual=logging.INFO
    )
    configure(form="json" if form == "json" else "auto")  # what there is to say of the settings themselves
    from p2pboot.node.supervisor import Supervisor
    from p2pboot.transport.passed import HTTP, PassedSockets

    passed = PassedSockets.from_environment(os.environ, os.getpid())
    supervisor = Supervisor.from_environment(os.environ, os.getpid())
    with supervisor.told_of_failure(), ExitStack() as stack:
        settings = load()
        configure(form=settings.log.format)
        settings.store.state  # noqa: B018 - known or not, before a key is made or a port is taken
        # Listening already here: a port in use is known before anything is started or printed.
        services: list[Service] = []
        gateway: GatewayService | None = None
        # Whoever enables the socket unit wants HTTP; a second time it need not be said.
        http = settings.gateway.http or (f"systemd:{HTTP}" if HTTP in passed.names else None)
        if http is not None:
            from p2pboot.gateway.service import GatewayService  # 0.2 s that only who wants HTTP pays

            gateway = stack.enter_context(closing(GatewayService(settings, where=http, passed=passed)))
            services.append(gateway)
        if settings.gateway.admin != OFF:
            from p2pboot.gateway.admin.service import AdminService

            counted = None if gateway is None else gateway.counted
            services.append(stack.enter_context(closing(AdminService(settings, counted, passed=passed))))
        for name in passed.close():
            log.warning(
                "the service manager passed a socket named %s, and no setting names it",
                name,
                extra=Event.SOCKET_UNUSED(name=name),
            )
        from p2pboot.node.run import run_node

        collect_garbage()
        run_node(
            settings,
            reload=load,
            announce_line=_Announcer(),
            wall=wall_clock(),
            services=services,
            supervisor=supervisor,
            watch=None if settings.log.format not in ("auto", "text") else bars_on_terminal(),
        )


class _Announcer:
    """Prints where the node can be reached. Standard output may be a pipe to a script that waits for the line."""

    def __init__(self) -> None:
        self._is_first = True

    def __call__(self, address: str) -> None:
        try:
            print(address, flush=True)
        except OSError:
            if self._is_first:
                raise
            output.discard_stdout()  # whoever wanted the first line is gone; the node goes on
        self._is_first = False
