"""`p2pboot manifest sign`: add one signature to a manifest that waits for it."""

from __future__ import annotations

from pathlib import Path

import click

from p2pboot.cli.files import STANDARD_INPUT, detached_path, naming_manifest, read_start, write_output
from p2pboot.cli.options import FILE, Command
from p2pboot.cli.output import note, warn
from p2pboot.errors import UsageError


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--key", "key_path", type=FILE, required=True, metavar="PATH", help="Key file to sign with.")
@click.option(
    "--detached", is_flag=True, help="When this completes the manifest, also write FILE.sig over its bytes."
)
def sign(file: Path, key_path: Path, detached: bool) -> None:
    """Add the key's signature to the manifest FILE, in place ("-": standard input to standard output).

    The manifest names its signers; it is valid when all of them have signed, in any order, on any machine.
    """
    from p2pboot.core.manifest import MAX_MANIFEST, add_signature, missing_signers, sign_detached
    from p2pboot.store.keyfiles import load_key

    if detached and file == STANDARD_INPUT:
        raise UsageError(
            "--detached writes FILE.sig, and there is no FILE", remedy="give the manifest as a file"
        )
    raw = read_start(file, MAX_MANIFEST + 1, what="manifest")
    key = load_key(key_path, warn=warn)
    with naming_manifest(file):
        signed = add_signature(raw, key)
        missing = missing_signers(signed)
    if file == STANDARD_INPUT or signed != raw:
        write_output(file, signed)
    if detached and not missing:
        write_output(detached_path(file), sign_detached(signed, key).encode() + b"\n")
    note(f"signed by {key.public.keyid}")
    note(
        f"still to sign: {', '.join(missing)}"
        if missing
        else "every signer has signed: the manifest is complete"
    )
