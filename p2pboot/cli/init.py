"""`p2pboot init`: five questions, and a machine has its configuration, key and unit."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.asking import Asker, Question
from p2pboot.cli.options import Command, json_option
from p2pboot.cli.output import emit_json, note, say, warn
from p2pboot.config.locations import SERVICE_USER, Locations
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.config.initial import Answers
    from p2pboot.config.installing import Piece, Step
    from p2pboot.core.trustdocs.chain import Anchor

_ANSWERS = {"new": "wrote", "different": "replaced", "kept": "kept"}
_INTENTIONS = {"new": "would write", "different": "would replace", "kept": "would keep"}


@click.command(cls=Command)
@click.option("--role", metavar="ROLE", help="publisher or mirror.")
@click.option("--images", metavar="DIR", help="Publisher: the directory with the images.")
@click.option("--trust", multiple=True, metavar="KEYID", help="Mirror: key id of the publisher; repeatable.")
@click.option(
    "--root",
    metavar="FILE|sha256:HEX",
    help="Mirror: root of the fleet, in place of --trust: its file, of which a copy is kept, or its digest.",
)
@click.option(
    "--release",
    multiple=True,
    metavar="CHANNEL/ARCH",
    help="What is published (or: tree) or followed; for a mirror repeatable.",
)
@click.option("--http", metavar="WHERE", help="HTTP for firmware: off, a port, or HOST:PORT.")
@click.option(
    "--bootstrap", multiple=True, metavar="MULTIADDR", help="Node to begin with, or none; repeatable."
)
@click.option("--name", metavar="N", help="Name of this machine.  [default: this host's]")
@click.option("--user", "for_user", is_flag=True, help="For this user, also when root runs it.")
@click.option("--yes", "-y", "takes_defaults", is_flag=True, help="Ask nothing that has a default.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--force", is_flag=True, help="Replace files that say something else; keys are kept always.")
@json_option
def init(
    *, for_user: bool, takes_defaults: bool, dry_run: bool, force: bool, as_json: bool, **given: Any
) -> None:
    """Set up this machine: ask five questions, write configuration, key and systemd unit.

    As root for the whole machine (/etc/p2pboot), else for this user (~/.config/p2pboot). Questions that are
    answered by options are not asked. Nothing that is there is overwritten.
    """
    from p2pboot.config.installing import carry_out, plan, writable

    locations = Locations.of_user(os.environ) if for_user else Locations.of_this_user()
    asker = Asker(takes_defaults=takes_defaults)
    try:
        answers = _ask(asker, locations, given)
    except click.Abort:
        note("nothing was changed")
        raise
    pieces = _pieces(answers, locations)
    steps = plan(pieces, replace=force)
    writable(steps)
    if not dry_run:
        carry_out(steps)
    if locations.is_system and answers.directory is not None:
        _warn_of_unreadable(answers.directory)
    _tell(answers, locations, steps, dry_run=dry_run, as_json=as_json)


def _ask(asker: Asker, locations: Locations, given: dict[str, Any]) -> Answers:
    """The five questions."""
    from p2pboot.config import initial, values
    from p2pboot.config.provider import host_name

    try:
        name = values.provider_name(host_name() if given["name"] is None else given["name"], Path())
    except ValueError as error:
        raise UsageError(f"--name: {error}", remedy="leave it out for this host's name") from None
    role = asker.answer(
        Question(
            text="Is this machine a publisher or a mirror",
            why="A publisher signs the images of a directory; a mirror keeps and gives on what publishers signed.",
            option="--role",
            parse=initial.role,
            default="publisher",
        ),
        given["role"],
    )
    is_publisher = role == "publisher"
    _refuse_others(role, given)
    directory: Path | None = None
    trust: tuple[str, ...] | Anchor = ()
    if is_publisher:
        directory = asker.answer(
            Question(
                text="Which directory holds the images",
                why="Kernel, initramfs and so on; it is watched, and what changes is published. Made if there is none.",
                option="--images",
                parse=initial.directory,
                default=str(locations.images),
            ),
            given["images"],
        )
    else:
        trust = _whom(asker, given)
    channels, archs = asker.answer(
        Question(
            text="Which release is in it (CHANNEL/ARCH)" if is_publisher else "Which releases are followed",
            why=(
                f"{initial.TREE}: the directory holds several, as CHANNEL/ARCH/FILE."
                if is_publisher
                else "CHANNEL/ARCH, or CHANNEL for all archs; several with a blank between."
            ),
            option="--release",
            parse=initial.published if is_publisher else initial.followed,
            default=initial.release_in(directory)
            if directory is not None
            else f"stable/{initial.own_arch()}",
        ),
        " ".join(given["release"]) or None,
    )
    http, socket = asker.answer(
        Question(
            text="On which port is HTTP offered to firmware",
            why=f"For iPXE and UEFI HTTP boot: {initial.OFF}, a port, or HOST:PORT.",
            option="--http",
            parse=partial(
                initial.http,
                is_system=locations.is_system,
                first_free_port=_first_free_port(),
                any_host=_any_host(),
            ),
            default=str(initial.SOCKET_PORT) if locations.is_system else "8080",
        ),
        given["http"],
    )
    bootstrap = asker.answer(
        Question(
            text="Where are other nodes",
            why="Multiaddrs as nodes print them when they start; none: they find each other on the local network.",
            option="--bootstrap",
            parse=initial.addresses,
            default=initial.NONE,
        ),
        " ".join(given["bootstrap"]) or None,
    )
    return initial.Answers(
        role=role,
        directory=directory,
        **_trusted(trust, locations),
        channels=channels,
        archs=archs,
        http=http,
        socket=socket,
        bootstrap=bootstrap,
        name=name,
    )


def _whom(asker: Asker, given: dict[str, Any]) -> tuple[str, ...] | Anchor:
    """Whom a mirror trusts: keys, or a root."""
    from p2pboot.config import initial

    if given["root"] and given["trust"]:
        raise UsageError(
            "--root and --trust both say whom to trust", remedy="give --root alone: it names the publishers"
        )
    if given["root"]:
        asked = Question(
            text="Which root is trusted",
            why="Its file, or sha256: and the digest of one of its versions.",
            option="--root",
            parse=initial.root,
        )
        return asker.answer(asked, given["root"])
    return asker.answer(
        Question(
            text="Which publisher's key is trusted",
            why="Only what it signed is taken. On the publisher's machine `p2pboot key show` prints its key id."
            " Of a fleet with a root: its file, or sha256:… of it.",
            option="--trust",
            parse=initial.key_ids if given["trust"] else initial.believed,
        ),
        " ".join(given["trust"]) or None,
    )


def _trusted(trust: tuple[str, ...] | Anchor, locations: Locations) -> dict[str, Any]:
    """The same, as `Answers` has it. A file is copied: the service may not read it where it is, nor need it stay."""
    if isinstance(trust, tuple):
        return {"trust": trust}
    if trust.root is None:
        return {"root": trust.shown}
    return {
        "root": str(locations.config_directory / "root.json"),
        "root_file": trust.root.raw.decode(),
    }


def _refuse_others(role: str, given: dict[str, Any]) -> None:
    """An answer to a question of the other role is a misunderstanding."""
    for option, of_role in (("images", "publisher"), ("trust", "mirror"), ("root", "mirror")):
        if given[option] and role != of_role:
            raise UsageError(f"--{option} is for a {of_role}, and this is a {role}", remedy="leave it out")


def _first_free_port() -> int:
    from p2pboot.config.locations import first_free_port

    return first_free_port()


def _any_host() -> str:
    from p2pboot.transport.addresses import can_listen

    return "[::]" if can_listen("ip6") else "0.0.0.0"  # noqa: S104 - firmware is on the network


# What is to be there


def _pieces(answers: Answers, locations: Locations) -> list[Piece]:
    """Everything that belongs to the installation, in the order in which it is written: the configuration last."""
    from p2pboot.config.initial import as_file
    from p2pboot.config.installing import Piece

    key = locations.config_directory / "keys" / f"{answers.role}.toml"
    text = as_file(answers, key=key, state=locations.state_directory / answers.role)
    pieces = [Piece(kind="directory", path=locations.config_directory, mode=0o755)]
    if answers.directory is not None:
        pieces.append(Piece(kind="directory", path=answers.directory, mode=0o755))
    if answers.root_file is not None:
        root = locations.config_directory / "root.json"
        pieces.append(Piece(kind="root", path=root, text=answers.root_file))
    return [
        *pieces,
        Piece(kind="key", path=key, mode=0o600),
        *_unit_pieces(answers, locations),
        Piece(kind="configuration", path=locations.config(answers.role), text=text),
    ]


def _unit_pieces(answers: Answers, locations: Locations) -> list[Piece]:
    from p2pboot.config import units
    from p2pboot.config.installing import Piece

    role, program = answers.role, _program()
    if not locations.is_system:
        command = "serve" if role == "publisher" else "mirror"
        text = units.user_unit(role, program, locations.config(role), command)
        return [Piece(kind="unit", path=locations.unit_directory / units.service_name(role), text=text)]
    names = [units.service_name(role), *([units.socket_name(role)] if answers.socket else [])]
    pieces = [
        Piece(kind="unit", path=locations.unit_directory / name, text=units.system_unit(name, program))
        for name in names
        if units.installed(name, locations.root) is None
    ]
    if _service_uid() is None:
        text = units.packaged("p2pboot.sysusers")
        pieces.append(Piece(kind="unit", path=locations.root / "etc/sysusers.d/p2pboot.conf", text=text))
    sandbox = units.sandbox_of(answers.directory) if answers.directory is not None else None
    if sandbox is not None:
        drop_in = locations.unit_directory / f"{units.service_name(role)}.d" / "init.conf"
        pieces.append(Piece(kind="unit", path=drop_in, text=sandbox))
    return pieces


def _program() -> Sequence[str]:
    """The words that start this program again, wherever it is installed."""
    own = Path(sys.argv[0])
    if own.name == "p2pboot" and own.is_absolute() and os.access(own, os.X_OK):
        return [str(own)]
    beside = Path(sys.executable).with_name("p2pboot")
    if beside.exists():
        return [str(beside)]
    found = shutil.which("p2pboot")
    return [found] if found else [sys.executable, "-m", "p2pboot"]


def _service_uid() -> int | None:
    """The uid of the units' user; None while there is no such user."""
    import pwd

    try:
        return pwd.getpwnam(SERVICE_USER).pw_uid
    except KeyError:
        return None


def _warn_of_unreadable(directory: Path) -> None:
    """The service's user is neither root nor whose the images are."""
    for path in (*reversed(directory.parents), directory):
        wanted = 0o005 if path == directory else 0o001
        try:
            status = path.stat()
        except OSError:
            return
        if status.st_mode & wanted != wanted and status.st_uid != _service_uid():
            warn(
                f"the user {SERVICE_USER} may not read {path} (mode {status.st_mode & 0o7777:04o}):"
                f" let him, by chmod o+{'rx' if path == directory else 'x'} {path} or an ACL"
            )
            return


# What was done, and what comes next


def _tell(
    answers: Answers, locations: Locations, steps: Sequence[Step], *, dry_run: bool, as_json: bool
) -> None:
    key = next(step for step in steps if step.piece.kind == "key")
    keyid = None
    if key.state == "kept" or not dry_run:
        from p2pboot.store.keyfiles import load_key

        keyid = load_key(key.piece.path).public.keyid
    commands = _next(answers, locations, steps)
    if as_json:
        emit_json(
            {
                "ok": True,
                "dry_run": dry_run,
                "role": answers.role,
                "keyid": keyid,
                "files": [
                    {
                        "path": str(step.piece.path),
                        "kind": step.piece.kind,
                        "state": step.state,
                        **({"content": step.piece.text} if dry_run else {}),
                    }
                    for step in steps
                ],
                "next": commands,
            }
        )
        return
    words = _INTENTIONS if dry_run else _ANSWERS
    width = max(len(step.piece.kind) for step in steps)
    for step in steps:
        say(f"{words[step.state]}  {step.piece.kind:<{width}}  {step.piece.path}")
        if dry_run and step.state != "kept" and step.piece.text is not None:
            say("\n".join(f"    {line}".rstrip() for line in step.piece.text.splitlines()))
    if keyid is not None and answers.role == "publisher":
        say(f"key id  {keyid}  (what mirrors and clients trust)")
    say("next:" if not dry_run else "next would be:")
    for command in commands:
        say(f"  {command}")


def _next(answers: Answers, locations: Locations, steps: Sequence[Step]) -> list[str]:
    """What a person runs now."""
    from p2pboot.config import units

    role, config = answers.role, locations.config(answers.role)
    check = f"p2pboot config check {config}"
    if not (locations.root / "run/systemd/system").exists():
        command = "serve" if role == "publisher" else "mirror"
        http = " --http '[::]:80'" if answers.socket else ""
        return [check, f"p2pboot {command} --config {config}{http}"]
    written = {step.piece.path.name for step in steps if step.piece.kind == "unit" and step.state != "kept"}
    names = [units.service_name(role), *([units.socket_name(role)] if answers.socket else [])]
    if not locations.is_system:
        return [
            check,
            "systemctl --user daemon-reload",
            f"systemctl --user enable --now {names[0]}",
            "loginctl enable-linger  # to run while nobody is logged in",
        ]
    return [
        check,
        *(["systemd-sysusers"] if "p2pboot.conf" in written else []),
        *(["systemctl daemon-reload"] if written else []),
        f"systemctl enable --now {' '.join(reversed(names))}",
    ]
