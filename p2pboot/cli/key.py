"""`p2pboot key`: make, look at, take over and hand out keys, of private meshes too. No command ever shows a secret."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pboot.cli.files import STANDARD_INPUT, read_input, write_output
from p2pboot.cli.options import FILE, Group, json_option
from p2pboot.cli.output import emit_json, say, warn
from p2pboot.config.provider import IdentitySettings

if TYPE_CHECKING:
    from p2pboot.core.identity import PublicKey

_MAX_PASSWORD_FILE = 4096  # bytes

_key_option = click.option(
    "--key",
    "key_path",
    type=FILE,
    default=IdentitySettings().key_path,
    show_default=True,
    metavar="PATH",
    help="Key file.",
)


@click.group(cls=Group)
def key() -> None:
    """Identity keys: generate, show, import, export; keys of private meshes: swarm."""


@key.command()
@_key_option
@json_option
def generate(key_path: Path, as_json: bool) -> None:
    """Make a new key; an existing file is never overwritten."""
    from p2pboot.store.keyfiles import generate_key

    _describe(generate_key(key_path).public, key_path, as_json=as_json)


@key.command()
@_key_option
@json_option
def show(key_path: Path, as_json: bool) -> None:
    """Print peer id, key id and path, never the secret."""
    from p2pboot.store.keyfiles import load_key

    _describe(load_key(key_path, warn=warn).public, key_path, as_json=as_json)


@key.command(name="import")
@click.argument("file", type=FILE)
@_key_option
@click.option(
    "--password-file", type=FILE, metavar="FILE", help="Holds the password of an encrypted key file."
)
@json_option
def import_(file: Path, key_path: Path, password_file: Path | None, as_json: bool) -> None:
    """Take over the key in FILE ("-": standard input).

    FILE holds 32 raw bytes (Phase's identity.key), PKCS#8 PEM, an OpenSSH ed25519 key, or libp2p's protobuf
    form.
    """
    from p2pboot.core.keyformats import MAX_KEY_FILE, import_secret, import_version
    from p2pboot.store.keyfiles import write_key

    password = None
    if password_file is not None:
        saved = read_input(password_file, _MAX_PASSWORD_FILE, what="password file")
        password = saved.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
    source = "standard input" if file == STANDARD_INPUT else str(file)
    data = read_input(file, MAX_KEY_FILE, what="key file")
    secret = import_secret(data, source=source, password=password)
    write_key(key_path, secret, import_version(data, source=source))
    _describe(secret.public, key_path, as_json=as_json)


@key.command()
@_key_option
@click.option(
    "--public", is_flag=True, help="The public key: the only half that is ever exported, so the default."
)
@click.option("--raw", "form", flag_value="raw", help="32 raw bytes.")
@click.option("--hex", "form", flag_value="hex", default="hex", help="64 lowercase hex digits (the default).")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write to FILE instead of standard output.")
def export(key_path: Path, public: bool, form: str, output: Path | None) -> None:
    """Print the public key, in the form that Phase's tools take."""
    from p2pboot.store.keyfiles import load_key

    public_key = load_key(key_path, warn=warn).public
    data = public_key.raw if form == "raw" else f"{public_key.hex}\n".encode()
    write_output(output, data)


@key.command()
@click.argument("file", type=FILE)
@click.option("--show", is_flag=True, help="Make none: print the fingerprint of the one in FILE.")
@json_option
def swarm(file: Path, show: bool, as_json: bool) -> None:
    """Make the key of a private mesh in FILE, for --swarm-key; an existing file is never overwritten.

    All nodes and clients of the mesh get a copy of the file. The fingerprint, which is not secret, is the same
    where the key is.
    """
    from p2pboot.store.keyfiles import generate_swarm_key, load_swarm_key

    made = load_swarm_key(file, warn=warn) if show else generate_swarm_key(file)
    if as_json:
        emit_json({"fingerprint": made.fingerprint, "path": str(file)})
        return
    say(f"fingerprint  {made.fingerprint}")
    say(f"path         {file}")


def _describe(public: PublicKey, path: Path, *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {"peer_id": public.peer_id, "keyid": public.keyid, "public_key": public.hex, "path": str(path)}
        )
        return
    say(f"peer id  {public.peer_id}")
    say(f"key id   {public.keyid}")
    say(f"path     {path}")
