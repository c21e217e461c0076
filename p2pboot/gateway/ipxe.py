"""A manifest as an iPXE script: what to boot, and the command line, of one and the same signed manifest.

Syntax: https://ipxe.org/scripting. iPXE splits a line at white space, takes `#`, `||` and `&&` for its own where they
stand alone, and replaces `${…}`; none of that can be quoted.
"""

from __future__ import annotations

from p2pboot.core.manifest import Manifest
from p2pboot.core.names import UKI
from p2pboot.errors import ManifestError

_OPERATORS = frozenset({"#", "||", "&&"})


def boot_script(manifest: Manifest, base: str) -> str:
    """Write the script.

    The files are named by content, so that a kernel and an initramfs of two versions never meet during an update.
    `initrd=initrd` names the initramfs to kernels that are started by UEFI; others ignore it. A unified kernel image
    has its initramfs in itself, and is the only file. It has no name in iPXE, as iPXE puts the name before the command
    line, and systemd's stub takes whatever it is given, be it one word, in place of the image's own command line.

    Args:
        manifest: what to boot.
        base: where the client reached the gateway, `http://host:port`; validated.

    Raises:
        ManifestError: the command line can not be said in a script.
    """
    cmdline = manifest.cmdline or ""
    _check(cmdline)
    uki = manifest.artifacts.get(UKI)
    if uki is not None:
        files = [f"kernel --name= {base}/blobs/{uki.sha256} {cmdline}".rstrip()]
    else:
        kernel, initramfs = (manifest.artifacts[key].sha256 for key in ("kernel", "initramfs"))
        files = [
            f"kernel --name kernel {base}/blobs/{kernel} initrd=initrd {cmdline}".rstrip(),
            f"initrd --name initrd {base}/blobs/{initramfs}",
        ]
    about = f"echo {manifest.channel}/{manifest.arch}, manifest version {manifest.manifest_version}"
    return "\n".join(["#!ipxe", about, *files, "boot", ""])


def _check(cmdline: str) -> None:
    if "${" in cmdline or not _OPERATORS.isdisjoint(cmdline.split()):
        raise ManifestError("the signed command line has ${, #, || or && in it, which iPXE takes for its own")
    if '"' in cmdline and " ".join(cmdline.split()) != cmdline.strip():
        raise ManifestError(
            "the signed command line has quotes and several spaces in a row, which iPXE makes one"
        )
